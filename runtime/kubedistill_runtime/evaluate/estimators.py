"""What several samples of one question say about the model: avg@k, pass@k and majority@k.

Arrays of answers are questions x samples.
"""

from collections import Counter
from collections.abc import Sequence
from math import comb

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Votes = NDArray[np.str_]
"""What each sample answers, equal answers as equal text; empty where it answers nothing."""


def average(correct: Bools) -> Floats:
    """Share of right samples of each question; its mean over questions is avg@k for k samples."""
    return correct.mean(axis=1, dtype=np.float64)


def pass_at(k: int, correct: Bools) -> Floats:
    """Unbiased estimate, for each question, of the chance that one of `k` samples is right.

    1 - C(n-c, k) / C(n, k) for c right samples of n (Chen et al. 2021, arXiv 2107.03374), as a product that does not
    overflow. Raises ValueError when k is not within 1..n: it cannot be estimated from fewer samples.
    """
    samples = correct.shape[1]
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples per question (got {samples})")
    right = correct.sum(axis=1)
    # C(n-c, k) / C(n, k) = prod over i in n-c+1..n of (1 - k/i); each factor is in [0, 1] once clipped.
    factors = np.clip(1 - k / np.arange(1, samples + 1, dtype=np.float64), 0, None)
    none_right = np.concatenate([[1.0], np.cumprod(factors[::-1])])
    return 1 - none_right[right]


def majority_at(k: int, votes: Votes, correct: Bools) -> Floats:
    """Unbiased estimate, for each question, of the chance that the most frequent answer of `k` samples is right.

    The exact mean over all subsets of k samples (for k = all samples: the one vote that was held). Samples without an
    answer abstain; answers that tie for the most votes win with equal chances, so the result does not depend on the
    order of the samples, and no one answered means wrong. An answer that was called right only in some of its samples
    (a judge may waver) counts as their share. Self-consistency: Wang et al. 2022, arXiv 2203.11171.

    Raises ValueError when k is not within 1..n.
    """
    samples = correct.shape[1]
    if not 1 <= k <= samples:
        raise ValueError(f"majority@{k} needs at least {k} samples per question (got {samples})")
    return np.array([_majority(k, *rows) for rows in zip(votes, correct, strict=True)], dtype=np.float64)


def _majority(k: int, votes: Votes, correct: Bools) -> float:
    counts = Counter(vote for vote in votes.tolist() if vote)
    right = Counter(vote for vote, is_right in zip(votes.tolist(), correct.tolist(), strict=True) if vote and is_right)
    return sum(
        right[vote] / counts[vote] * _wins(k, count, [c for v, c in counts.items() if v != vote], len(votes))
        for vote, count in counts.items()
        if right[vote]
    )


def _wins(k: int, own: int, others: Sequence[int], samples: int) -> float:
    """Chance that an answer with `own` of all samples wins among `k` of them, against answers with `others`.

    Counts subsets by the votes v that the winner has in them. Answers with fewer than v samples cannot reach v and
    are drawn freely, with those who abstain; for each other one a polynomial counts the ways to draw fewer than v of
    it, or v, which is a tie. All terms are positive and at most C(1024, 512) < 1e308, so floats lose nothing.
    """
    total = 0.0
    for v in range(1, min(own, k) + 1):
        rest = k - v
        strong = [count for count in others if count >= v]
        ways: list[Floats] = [_binomials(samples - own - sum(strong), rest)]
        """By the number of ties: subsets by size, 0..rest."""
        for count in strong:
            fewer = _binomials(count, min(v - 1, rest))
            tied = [np.zeros(rest + 1), *(_shifted(w, v) * float(comb(count, v)) for w in ways)]
            untied = [np.convolve(w, fewer)[: rest + 1] for w in ways] + [np.zeros(rest + 1)]
            ways = [one + other for one, other in zip(untied, tied, strict=True)]
        total += comb(own, v) * sum(float(w[rest]) / (ties + 1) for ties, w in enumerate(ways)) / comb(samples, k)
    return total


def _binomials(n: int, top: int) -> Floats:
    """C(n, 0), ..., C(n, top)."""
    return np.array([float(comb(n, i)) for i in range(top + 1)])


def _shifted(coefficients: Floats, by: int) -> Floats:
    """Times x to the power of `by`, cut to the same length."""
    out = np.zeros_like(coefficients)
    out[by:] = coefficients[: max(0, len(coefficients) - by)]
    return out
