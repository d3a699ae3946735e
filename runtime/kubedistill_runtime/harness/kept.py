"""What the engines answered to the harness, kept until it has judged: it does so only when all answers are there."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

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


def kept_in(folder: Path) -> TraceStore:
    """Completions by what was asked."""
    return TraceStore(folder, ANSWERS, ("request",))


def find(kept: TraceStore, requests: Sequence[Request]) -> dict[str, Completion]:
    """Those of the requests that are answered, by their ids."""
    found = {}
    for request in requests:
        if (record := kept.get((_name(request),))) is not None:
            del record["request"]
            record |= {name: tuple(record[name]) for name in ("token_ids", "logprobs")}
            found[request.id] = Completion(request.id, **record)
    return found


def keep(kept: TraceStore, request: Request, completion: Completion) -> None:
    """Durable soon; a failure is not kept. Raises TryAgain where the disk is full."""
    name = _name(request)
    if completion.error is None and (name,) not in kept:
        kept.add({"request": name, **{field: getattr(completion, field) for field in ANSWERS.names[1:]}})


def _name(request: Request) -> str:
    """The same for requests that ask the same."""
    asked = [request.prompt_token_ids, asdict(request.draw), request.score_from]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()
