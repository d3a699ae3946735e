"""How far the stage is, over HTTP: `/progress`, `/metrics` and `/healthz`."""

import sys
import threading
from collections.abc import Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import ValidationError

from kubedistill_api.stage import PROGRESS_FILE
from kubedistill_api.status import Progress
from kubedistill_runtime.stages.context import StageContext

PREFIX = "kubedistill_stage"
CLIENT_S = 10.0
"""A client that says nothing for so long is hung up on."""
HELP = {
    "done": "Units finished.",
    "total": "Units in all.",
    "rate": "Units per second of late.",
}


class StageCollector(Collector):
    """The stage's progress and figures as they are when they are asked for."""

    def __init__(self, context: StageContext) -> None:
        self._context = context

    def collect(self) -> Iterable[Metric]:
        spec = self._context.spec
        labels = {
            "stage": spec.stage,
            "kind": spec.params.kind,
            "resource": spec.resource,
            "attempt": str(spec.attempt),
        }
        info = GaugeMetricFamily(f"{PREFIX}_info", "Which stage this is.", labels=list(labels))
        info.add_metric(list(labels.values()), 1)
        yield info
        if text := read_progress(self._context):
            progress = Progress.model_validate_json(text)
            for name, about in HELP.items():
                if (value := getattr(progress, name)) is not None:
                    yield GaugeMetricFamily(f"{PREFIX}_progress_{name}", f"{about} Unit: {progress.unit}.", value)
        for name, value in sorted(dict(self._context.figures).items()):
            yield GaugeMetricFamily(f"{PREFIX}_{name}", "Figure of the stage, as of late.", value)


def read_progress(context: StageContext) -> bytes | None:
    """progress.json as it is; None before there is any."""
    try:
        text = (context.folder / PROGRESS_FILE).read_bytes()
        Progress.model_validate_json(text)
    except (OSError, ValidationError):
        return None
    return text


def serve_progress(context: StageContext, port: str, host: str = "") -> ThreadingHTTPServer | None:
    """Serves from threads that end with the process. What fails is told and costs the stage nothing: None then."""
    registry = CollectorRegistry()
    registry.register(StageCollector(context))

    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_S

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/progress":
                    self._answer("application/json", read_progress(context))
                case "/metrics":
                    self._answer(CONTENT_TYPE_LATEST, generate_latest(registry))
                case "/healthz":
                    self._answer("text/plain", b"ok\n")
                case _:
                    self.send_error(HTTPStatus.NOT_FOUND)

        def _answer(self, kind: str, content: bytes | None) -> None:
            self.send_response(HTTPStatus.OK if content else HTTPStatus.NO_CONTENT)
            if content:
                self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """A poll every few seconds is no news."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Who asked may have lost patience; that is not worth a traceback in the stage's log."""
            if not isinstance(sys.exc_info()[1], OSError):
                super().handle_error(request, client_address)

    try:
        server = Server((host, int(port)), Handler)
    except (OSError, ValueError, OverflowError) as error:
        print(f"progress is not served: KUBEDISTILL_PORT {port}: {error}", file=sys.stderr, flush=True)
        return None
    threading.Thread(target=server.serve_forever, name="progress", daemon=True).start()
    return server
