"""Sources made on the spot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[..., str]


@pytest.fixture
def jsonl(tmp_path: Path) -> Write:
    """Writes rows as JSONL; returns the path as a URI."""

    def write(rows: list[dict[str, Any]], name: str = "q.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write
