"""What the engines answered to the harness, kept until it has judged: it does so only when all answers are there."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from kubedistill_runtime.data.traces import TraceStore
from kubedistill_runtime.engines.base import Completion, Request

ANSWERS = pa.schema(
    [
        ("request", pa.string()),
        ("finish_reason", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("completion_tokens", pa.int32()),
        ("logprobs", pa.list_(pa.float64())),
        ("likeliest", pa.bool_()),
    ]
)


class Kept:
    """Completions by what was asked, in a folder; use it as a context manager. Failures are not kept."""

    def __init__(self, folder: Path) -> None:
        self._store = TraceStore(folder, ANSWERS, ("request",))

    def __enter__(self) -> Self:
        self._store.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.__exit__(kind, error, trace)

    def find(self, requests: Sequence[Request]) -> dict[str, Completion]:
        """Those of the requests that are answered, by their ids."""
        found = {}
        for request in requests:
            if (record := self._store.get((_name(request),))) is not None:
                del record["request"]
                record |= {name: tuple(record[name]) for name in ("token_ids", "logprobs")}
                found[request.id] = Completion(request.id, **record)
        return found

    def add(self, request: Request, completion: Completion) -> None:
        """Durable soon. Raises TryAgain where the disk is full."""
        name = _name(request)
        if completion.error is None and (name,) not in self._store:
            self._store.add({"request": name, **{field: getattr(completion, field) for field in ANSWERS.names[1:]}})

    def discard(self) -> None:
        """Removes the folder."""
        self._store.flush()
        self._store.discard()


def _name(request: Request) -> str:
    """The same for requests that ask the same."""
    asked = [request.prompt_token_ids, asdict(request.draw), request.score_from]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()
