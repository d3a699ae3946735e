"""Which traces of a question to keep."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kubedistill_api.curation import DiversitySpec
from kubedistill_runtime.curate.difficulty import seeded_rank
from kubedistill_runtime.curate.distance import PairTable, encode
from kubedistill_runtime.curate.types import Selection

EXACT_LIMIT = 40_000
"""Subsets up to which the best one is found for certain; beyond, the choice is greedy. 4 of 32 are 35,960."""

GRAM_TOKENS, GRAM_CHARS = 5, 20
"""Run that two traces are taken to have in common for a reason; matters for speed only."""

Units = Sequence[int] | str
"""A trace as token ids or as text, by the spec's unit."""

Index = TypeVar("Index", int, NDArray[np.intp])


def select(question_id: str, traces: Mapping[int, Units], spec: DiversitySpec, seed: int) -> Selection:
    """Choose `spec.trajectories` of a question's traces, or all where there are no more.

    traces: by sample index. The choice depends on the content, the indices and the seed, not on the order of the
    mapping. Ties go to the lower sample indices.
    """
    indices = sorted(traces)
    if len(indices) <= spec.trajectories:
        return Selection(tuple(indices))
    if spec.select == "farthest":
        return farthest({i: traces[i] for i in indices}, spec.trajectories, normalised=spec.normalised)
    if spec.select == "random":
        ordered = sorted(indices, key=lambda i: seeded_rank(seed, question_id, i))
    else:
        sign = 1 if spec.select == "shortest" else -1
        ordered = sorted(indices, key=lambda i: (sign * len(traces[i]), i))
    return Selection(tuple(sorted(ordered[: spec.trajectories])))


def farthest(traces: Mapping[int, Units], count: int, *, normalised: bool, limit: int = EXACT_LIMIT) -> Selection:
    """The `count` traces whose smallest pairwise distance is largest; among equals, the largest mean distance.

    Exact up to `limit` subsets. Beyond, greedy: the farthest pair, then one by one the trace that is farthest from
    its nearest chosen one (Gonzalez 1985: at least half the best smallest distance where the triangle inequality
    holds, that is, for raw distances).
    """
    indices = sorted(traces)
    if not 1 <= count <= len(indices):
        raise ValueError(f"cannot choose {count} of {len(indices)} traces")
    if count == 1:
        return Selection((indices[0],))
    sequences = [traces[i] for i in indices]
    gram = GRAM_CHARS if isinstance(sequences[0], str) else GRAM_TOKENS
    table = PairTable(encode(sequences), normalised=normalised, gram=gram)
    exact = math.comb(len(indices), count) <= limit
    members = _best_subset(table, len(indices), count) if exact else _greedy(table, len(indices), count)
    distances = sorted(table.upper[_pair_number(len(indices), i, j)] for i, j in combinations(members, 2))
    return Selection(
        chosen=tuple(indices[member] for member in members),
        exact=exact,
        min_distance=float(distances[0]),
        mean_distance=math.fsum(distances) / len(distances),
        measured=table.measured,
    )


def _best_subset(table: PairTable, n: int, count: int) -> tuple[int, ...]:
    subsets, pair_sets = _subsets(n, count)
    return tuple(subsets[_settle(table, pair_sets)].tolist())


def _greedy(table: PairTable, n: int, count: int) -> tuple[int, ...]:
    subsets, pair_sets = _subsets(n, 2)
    chosen: list[int] = subsets[_settle(table, pair_sets)].tolist()
    while len(chosen) < count:
        rest = [i for i in range(n) if i not in chosen]
        to_chosen = np.array([[_pair_number(n, min(i, c), max(i, c)) for c in chosen] for i in rest])
        chosen.append(rest[_settle(table, to_chosen)])
    return tuple(sorted(chosen))


def _settle(table: PairTable, pair_sets: NDArray[np.intp]) -> int:
    """Row of pair_sets [S, Q] whose pairs have the largest (minimum, sum) of distances; the first of equals.

    The row that is best by the upper bounds is tightened, at the pair most likely to rule it out, until the best row
    has no bound left that is not exact. No other row can then beat it, since its own bounds do not.
    """
    while True:
        row = _argmax(table.upper[pair_sets])
        loose = [pair for pair in pair_sets[row].tolist() if not table.is_exact(pair)]
        if not loose:
            return row
        table.tighten(min(loose, key=lambda pair: (table.upper[pair], pair)))


def _argmax(values: NDArray[np.float64]) -> int:
    """The first row of [S, Q] with the largest (minimum, sum)."""
    low = values.min(axis=1)
    rows = np.flatnonzero(low == low.max())
    if rows.size > 1:
        # Adding in ascending order, column by column, makes the rounded sum a monotone function of the row's values
        # that is independent of their order; the proof above needs the one, reproducible ties the other.
        ascending = np.sort(values[rows], axis=1)
        total = ascending[:, 0].copy()
        for column in range(1, ascending.shape[1]):
            total += ascending[:, column]
        rows = rows[total == total.max()]
    return int(rows[0])


@lru_cache(maxsize=16)
def _subsets(n: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All subsets [S, count] of range(n) in lexicographic order, and the numbers of their pairs [S, Q]."""
    subsets = np.array(list(combinations(range(n), count)), dtype=np.intp)
    columns = [_pair_number(n, subsets[:, a], subsets[:, b]) for a, b in combinations(range(count), 2)]
    return subsets, np.stack(columns, axis=1)


def _pair_number(n: int, i: Index, j: Index) -> Index:
    """Number of the pair i < j among `combinations(range(n), 2)`."""
    return i * (2 * n - i - 1) // 2 + j - i - 1
