"""Log lines as JSON, with the object's name where there is one."""

import json
import logging
import sys
from datetime import UTC, datetime

from kubedistill_operator.settings import Settings


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, object, error, and the fields of a stage's attempt."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if name := getattr(record, "object", None):
            line["object"] = name
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up(settings: Settings) -> None:
    """Logs go to stderr. kopf's own are cut to what goes wrong: it tells of every event that it passes on."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else text)
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
