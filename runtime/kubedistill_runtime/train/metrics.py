"""`metrics.jsonl`: one JSON row per optimiser step, each step exactly once, also after a resume."""

import json
import os
from pathlib import Path
from typing import Any


class MetricsFile:
    """Appends rows. A row survives the death of the process at once, and that of the machine after `sync`.

    `sync` before a checkpoint counts is enough: rows after the last checkpoint are cut off and made again.
    """

    def __init__(self, path: Path, resumed_step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_metrics(path) if row["step"] <= resumed_step]
        temporary = path.with_name(path.name + ".tmp")
        with temporary.open("w") as out:
            out.writelines(json.dumps(row) + "\n" for row in kept)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
        self.rows = kept
        self._out = path.open("a")

    def add(self, row: dict[str, Any]) -> None:
        """Appends one row."""
        self._out.write(json.dumps(row) + "\n")
        self._out.flush()

    def sync(self) -> None:
        """Puts all rows on the disk."""
        os.fsync(self._out.fileno())

    def close(self) -> None:
        """Syncs and closes."""
        self.sync()
        self._out.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file, which may be absent or end in a half-written row."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
