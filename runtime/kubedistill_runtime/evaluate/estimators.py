"""What several samples of one question say about the model: avg@k and pass@k.

Arrays of answers are questions x samples.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


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
