"""Seeds of repeated trainings, and draws of traces for them: what a probe and a study have in common."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from kubedistill_api.base import Rule

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
LEAST_DRAWS = 3
"""Draws with `redraw`: the interval of two neither keeps its promise nor tells anything (docs/statistics.md)."""

_DIFFER, _SEVERAL = "seeds must differ", f"redraw needs {LEAST_DRAWS} seeds or more"

SEED_RULES = (
    Rule("self.seeds.all(seed, self.seeds.exists_one(other, other == seed))", _DIFFER),
    Rule(f"!self.redraw || self.seeds.size() >= {LEAST_DRAWS}", _SEVERAL),
)


def check_seeds(seeds: Sequence[int], *, redraw: bool) -> None:
    """The same as the rules. Raises ValueError."""
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise ValueError(f"{_DIFFER} (twice: {', '.join(map(str, twice))})")
    if redraw and len(seeds) < LEAST_DRAWS:
        raise ValueError(f"{_SEVERAL} (got {len(seeds)}): it draws anew for each of them")
