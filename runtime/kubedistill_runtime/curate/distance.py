"""Levenshtein distances between the traces of one question, worked out only as far as they are needed.

Traces of 10,000 tokens cost milliseconds a pair. Three things make a selection cheaper than all its pairs in full:

- Tokens are renamed by frequency (`encode`). Rapidfuzz finds the bit vectors of symbols below 256 in a table and those
  of others in hash maps, and compact names keep these free of collisions: about twice as fast, the distances unchanged.
- Cutting two traces into the same number of pieces and adding up the pieces' distances bounds the distance from above:
  it is the cost of one possible alignment. K pieces cost about 1/K, and where the cuts lie at text that both traces
  have, the bound of 16 is 1 or 2 % too high, that of 4 hardly at all. Most pairs are ruled out by these.
- A bound known beforehand narrows the band that the full distance is searched in.
"""

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

PIECES = (16, 4, 1)
"""Pieces per trace for each successive bound; the last is the distance itself."""
SHORT = 2048
"""Pairs of traces below so many units are measured in full at once: bounds would cost more than they save."""
MAX_ID = 2**24
"""Ids from here on are taken for an error: no vocabulary is as large, and counting would take memory in proportion."""

PATIENCE = 4
"""Cuts without a common run after which two traces are taken to have none."""

_FIRST_SURROGATE, _SURROGATES = 0xD800, 0x800


def encode(sequences: Sequence[Sequence[int] | str]) -> list[str]:
    """Sequences of token ids (or characters) as strings of code points with equal ids for equal ids.

    Ids become 0, 1, 2, ... from the most to the least frequent over all sequences, with the surrogates left out.
    Raises ValueError on a negative id, and on one of 2^24 or more.
    """
    arrays = [_as_ids(sequence) for sequence in sequences]
    ids = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64)
    if ids.size == 0:
        return [""] * len(arrays)
    if ids.min() < 0 or ids.max() >= MAX_ID:
        raise ValueError(f"token ids must lie between 0 and {MAX_ID - 1}, got {ids.min()} to {ids.max()}")
    counts = np.bincount(ids)
    used = np.flatnonzero(counts)
    rank = np.arange(used.size, dtype=np.uint32)
    names = np.zeros(counts.size, dtype="<u4")
    names[used[np.argsort(-counts[used], kind="stable")]] = np.where(rank < _FIRST_SURROGATE, rank, rank + _SURROGATES)
    return [names[array].tobytes().decode("utf-32-le") for array in arrays]


def _as_ids(sequence: Sequence[int] | str) -> NDArray[np.int64]:
    if isinstance(sequence, str):
        return np.frombuffer(sequence.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)
    return np.asarray(sequence, dtype=np.int64)


class PairTable:
    """Upper bounds on the distances of all pairs (i, j), i < j, of n sequences; `tighten` makes them distances.

    Pairs are numbered in the order of `itertools.combinations(range(n), 2)`.
    """

    def __init__(self, sequences: Sequence[str], *, normalised: bool, gram: int):
        """sequences: as `encode` gives them. normalised: divide by the length of the longer one (0 for two empty).
        gram: see `cuts`."""
        self._sequences = sequences
        self._gram = gram
        self._pairs = list(combinations(range(len(sequences)), 2))
        longest = [max(len(sequences[i]), len(sequences[j])) for i, j in self._pairs]
        self._raw = longest.copy()
        self._scale = [float(max(units, 1)) for units in longest] if normalised else [1.0] * len(longest)
        self._next = [0 if units >= SHORT else len(PIECES) - 1 for units in longest]
        self.upper: NDArray[np.float64] = np.zeros(len(self._pairs))
        """Per pair, in units or normalised: never below the distance, and equal to it where `is_exact` says so.
        Equal distances are equal floats: a quotient of integers this small has one nearest float."""
        self.measured = 0
        """Pairs worked out in full."""
        for pair in range(len(self._pairs)):
            self.tighten(pair)

    def is_exact(self, pair: int) -> bool:
        return self._next[pair] == len(PIECES)

    def tighten(self, pair: int) -> None:
        """Lower the bound of a pair by the next coarser cut; no effect on an exact one."""
        if self.is_exact(pair):
            return
        a, b = (self._sequences[index] for index in self._pairs[pair])
        pieces = PIECES[self._next[pair]]
        self._next[pair] += 1
        if pieces == 1:
            self._raw[pair] = Levenshtein.distance(a, b, score_cutoff=self._raw[pair])
            self.measured += 1
        else:
            steps = pairwise(cuts(a, b, pieces, self._gram))
            bound = sum(Levenshtein.distance(a[i0:i1], b[j0:j1]) for (i0, j0), (i1, j1) in steps)
            self._raw[pair] = min(self._raw[pair], bound)
        self.upper[pair] = self._raw[pair] / self._scale[pair]


def cuts(a: str, b: str, pieces: int, gram: int) -> list[tuple[int, int]]:
    """Where to cut two sequences, as pieces + 1 ascending positions (in a, in b), both ends included.

    The best alignment drifts from the diagonal where siblings tell the same thing at different length, and a cut off
    the alignment costs as much as it is off. So each cut is moved to a run of `gram` units that both have, near the
    place where the cut into equal shares would be.
    """
    result = [(0, 0)]
    reach = min(len(a), len(b)) // (2 * pieces)
    patience = PATIENCE
    for k in range(1, pieces):
        cut = (len(a) * k // pieces, len(b) * k // pieces)
        if patience:
            anchor = _anchor(a, b, cut, reach, gram)
            cut, patience = (anchor, patience) if anchor else (cut, patience - 1)
        result.append((max(cut[0], result[-1][0]), max(cut[1], result[-1][1])))
    return [*result, (len(a), len(b))]


def _anchor(a: str, b: str, cut: tuple[int, int], reach: int, gram: int) -> tuple[int, int] | None:
    """The first run of `gram` units at or after the cut in `a` that `b` has near its cut, or None.

    Of several places in `b`, the one that is the least off the diagonal.
    """
    low = max(0, cut[1] - reach)
    window = b[low : cut[1] + reach]
    for offset in range(0, reach, gram):
        run = a[cut[0] + offset : cut[0] + offset + gram]
        diagonal = cut[1] + offset - low
        after, before = window.find(run, diagonal), window.rfind(run, 0, diagonal + gram)
        if after >= 0 and (before < 0 or after - diagonal <= diagonal - before):
            return cut[0] + offset, low + after
        if before >= 0:
            return cut[0] + offset, low + before
    return None
