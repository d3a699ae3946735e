"""What is judged, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # children read this module too and have no need of pydantic
    from kubedistill_api.verification import CodeTests

Domain = Literal["math", "choice", "code"]


@dataclass(frozen=True)
class Item:
    """One response to judge: against a gold answer (math), a letter (choice) or tests (code)."""

    key: str
    domain: Domain
    response: str
    gold: str | None = None
    tests: CodeTests | None = None


@dataclass(frozen=True)
class Verdict:
    """The judgement of one item.

    method names the rung that decided: `string`, `choice`, `rational`, `structure`, `math-verify`, `tests`, `judge`,
    `off`, or `none` where nothing could be compared. An answer found outside of `\\boxed{}` adds how it was found, as
    in `rational:phrase`. seconds is the time that judging took: CPU time of the tests for code, elapsed time
    otherwise. Waiting for a worker, for a judge's slot or for another item's verdict is no part of it, so a verdict
    that was found made has next to none. error says why an item could not be judged, or what its program did wrong; a
    plain wrong answer has none.
    """

    correct: bool
    method: str
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What the rules say of one pair of math answers. equal is None where they cannot decide; error then says why.

    seconds: at work in a worker or at a judge; 0 for what was decided in the caller's process.
    """

    equal: bool | None
    method: str
    error: str | None = None
    seconds: float = field(default=0.0, compare=False)


class VerifierUnavailable(RuntimeError):
    """Nothing can be judged here, whatever the item: no isolation, a missing package, workers that do not start."""
