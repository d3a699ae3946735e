"""Judges the rows of a JSONL file: one verdict per row, in the rows' order, whatever the rows hold."""

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO, get_args

from pydantic import ValidationError

from kubedistill_api.verification import CodeTests, VerificationSpec
from kubedistill_runtime.verify.pool import VerifierPool
from kubedistill_runtime.verify.types import Domain, Item, Verdict, VerifierUnavailable

MAX_ROW = 64 << 20
"""Bytes of one row. A longer one is skipped unread and gets an error."""

_AHEAD = 512
"""Rows read before the first of them has its verdict: what bounds the memory."""


@dataclass
class Summary:
    """What became of the rows so far. errors: rows that could not be judged, or whose program failed."""

    rows: int = 0
    correct: int = 0
    errors: int = 0
    seconds: float = 0.0


def verify_rows(
    input: Path,  # noqa: A002 - the name of the command's option
    output: Path,
    spec: VerificationSpec,
    workers: int | None = None,
    progress: Callable[[Summary], None] | None = None,
) -> Summary:
    """Judge rows `{id, domain, response, gold | tests}` and write `{id, correct, method, seconds, error}`.

    The output appears when all is done, in one rename. progress is called after each verdict. Raises OSError for the
    files, BadInput and TryAgain for a judge model that does not judge.
    """
    return asyncio.run(_verify_rows(input, output, spec, workers, progress))


def parse_row(line: bytes) -> tuple[str | int | None, Item | str]:
    """A row's id, and its item or what is wrong with it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {error}"
    if not isinstance(row, dict):
        return None, f"a row is an object, not a {type(row).__name__}"
    key = row.get("id")
    if key is None:
        return None, "id is missing: a string or an integer"
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        return None, f"id is a {type(key).__name__}: give a string or an integer"
    try:
        return key, _item(key, row)
    except ValidationError as error:
        first = error.errors()[0]
        return key, f"tests.{'.'.join(map(str, first['loc']))}: {first['msg']}".replace("tests.:", "tests:")
    except (ValueError, RecursionError) as error:
        return key, str(error)


def _item(key: str | int, row: dict[str, Any]) -> Item:
    domain: Any = row.get("domain")
    response, gold, tests = (row.get(name) for name in ("response", "gold", "tests"))
    if domain not in get_args(Domain):
        raise ValueError(f"domain is {domain!r}: give {', '.join(get_args(Domain))}")
    if not isinstance(response, str):
        raise ValueError(f"response is a {type(response).__name__}: give the text of the response")
    if domain != "code" and not isinstance(gold, str):
        raise ValueError(f"gold is a {type(gold).__name__}: give the expected answer as a string")
    if domain == "code" and not isinstance(tests, dict):
        raise ValueError(f"tests is a {type(tests).__name__}: give an object with inputs and outputs")
    if domain != "code":
        return Item(str(key), domain, response, gold=gold)
    return Item(str(key), "code", response, tests=CodeTests.model_validate(tests))


async def _verify_rows(
    source: Path,
    output: Path,
    spec: VerificationSpec,
    workers: int | None,
    progress: Callable[[Summary], None] | None,
) -> Summary:
    summary, started = Summary(), time.monotonic()
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        with source.open("rb") as rows, _writing(temporary) as verdicts:
            async with VerifierPool(spec, workers) as pool:
                async for verdict in _judged(pool, rows):
                    verdicts.write(json.dumps(verdict, ensure_ascii=False) + "\n")
                    summary.rows += 1
                    summary.correct += verdict["correct"]
                    summary.errors += verdict["error"] is not None
                    summary.seconds = time.monotonic() - started
                    if progress:
                        progress(summary)
            verdicts.flush()
            os.fsync(verdicts.fileno())
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
    return summary


async def _judged(pool: VerifierPool, rows: BinaryIO) -> AsyncIterator[dict[str, Any]]:
    ahead: deque[asyncio.Task[dict[str, Any]]] = deque()
    lines = _lines(rows)
    try:
        while True:
            while len(ahead) < _AHEAD and (line := next(lines, None)) is not None:
                ahead.append(asyncio.create_task(_verdict(pool, *line)))
            if not ahead:
                return
            yield await ahead.popleft()
    finally:  # a judge that fails fails for all of them
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


async def _verdict(pool: VerifierPool, number: int, line: bytes | None) -> dict[str, Any]:
    key, item = (None, f"longer than {MAX_ROW} bytes") if line is None else parse_row(line)
    if isinstance(item, str):
        verdict = Verdict(False, "none", 0.0, item if key is not None else f"line {number}: {item}")
    else:
        try:
            verdict = await pool.verify(item)
        except VerifierUnavailable as error:  # of this row's kind; those of the other kind can be judged
            verdict = Verdict(False, "none", 0.0, str(error))
    return {
        "id": key,
        "correct": verdict.correct,
        "method": verdict.method,
        "seconds": round(verdict.seconds, 6),
        "error": verdict.error,
    }


def _writing(path: Path) -> TextIO:
    """Half a surrogate pair, which JSON can hold and UTF-8 cannot, stays the escape that it was."""
    return path.open("w", encoding="utf-8", errors="backslashreplace")


def _lines(rows: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Line numbers from 1 and lines that are not blank; None for one that is too long."""
    number = 0
    while line := rows.readline(MAX_ROW):
        number += 1
        if not line.endswith(b"\n") and len(line) == MAX_ROW:
            while line and not line.endswith(b"\n"):
                line = rows.readline(MAX_ROW)
            yield number, None
        elif line.strip():
            yield number, line
