"""How a figure is spread over the tokens of a corpus, without keeping the tokens. Pure."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

WIDTH = 0.002
"""Of a fine bin, in nats; a quantile is off by no more."""
BINS = 16_000
"""Fine bins, up to 32 nats; the last holds what lies beyond."""
COARSE = 50
"""Fine bins in one of the histogram that is kept: 0.1 nats."""
QUANTILES = (10, 25, 50, 75, 90)
"""In per cent."""


@dataclass
class Distribution:
    """Figures of at least 0: their moments, and a fine histogram. Parts of a corpus add up."""

    sums: np.ndarray = field(default_factory=lambda: np.zeros(3 + BINS))
    """Number, sum, sum of squares, and the counts of the fine bins. Whole numbers are exact in it."""

    def add(self, values: np.ndarray) -> None:
        """Takes in some figures. One that is no number spoils the moments, as it should."""
        wide = values.astype(np.float64)
        self.sums[:3] += len(wide), wide.sum(), np.square(wide).sum()
        bins = np.clip(np.nan_to_num(wide, posinf=WIDTH * BINS) / WIDTH, 0, BINS - 1).astype(np.int64)
        self.sums[3:] += np.bincount(bins, minlength=BINS)

    @property
    def number(self) -> int:
        """How many figures."""
        return int(self.sums[0])

    @property
    def mean(self) -> float:
        """Not a number where there is nothing, or where a figure was none."""
        return float(self.sums[1] / self.sums[0]) if self.number else float("nan")

    @property
    def deviation(self) -> float:
        """Standard deviation over the tokens at hand."""
        return float(np.sqrt(max(0.0, self.sums[2] / self.sums[0] - self.mean**2)))

    def quantile(self, share: float) -> float:
        """As if the figures of a fine bin lay evenly in it."""
        reached = np.cumsum(self.sums[3:])
        wanted = share * reached[-1]
        at = min(int(np.searchsorted(reached, wanted)), BINS - 1)
        before = reached[at - 1] if at else 0.0
        inside = self.sums[3 + at]
        return float(WIDTH * (at + ((wanted - before) / inside if inside else 0.0)))

    def to_json(self) -> dict[str, Any]:
        """Mean, standard deviation, quantiles by per cent, and the counts of bins of 0.1 nats up to the last one that
        is not empty."""
        coarse = self.sums[3:].reshape(-1, COARSE).sum(1).astype(np.int64)
        used = int(np.flatnonzero(coarse)[-1]) + 1
        return {
            "mean": self.mean,
            "std": self.deviation,
            "quantiles": {str(percent): self.quantile(percent / 100) for percent in QUANTILES},
            "histogram": {"width": WIDTH * COARSE, "counts": coarse[:used].tolist()},
        }
