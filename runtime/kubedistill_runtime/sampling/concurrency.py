"""How many requests one engine gets at a time. Pure: observations in, a cap out.

Too few leave the GPU idle. Too many fill the KV cache, and the engine then preempts: it throws away the cache of a
request and computes it anew. The policy follows prime-rl's orchestrator (`orchestrator/concurrency.py`), without its
cancelling of requests: here a response that is half drawn is worth its cost, so an overfull engine is left to drain.
"""

from dataclasses import dataclass

GROW_BELOW = 0.6
"""Share of the KV cache below which the cap may grow; above it growth could overshoot before requests end."""
GROWTH = 1.25
"""Factor of one growth. A turnover lies between two, so five of them triple the cap."""
BINDING = 0.9
"""The cap only grows while it is what holds requests back: at least this share of it is in use."""
TRIM_ABOVE = 0.8
"""Share of the KV cache above which the cap falls to what would use `TARGET`; running requests finish."""
TARGET = 0.7
"""Share of the KV cache that a trim aims at: room for the requests at hand to become longer."""
PREEMPTED = 0.8
"""Factor after a preemption: the cache overflowed, whatever its use was said to be."""
QUEUED = 0.9
"""Factor when the engine keeps requests waiting although the cap allows them."""
OVERLOADED = 0.5
"""Factor when the cache is still above `TRIM_ABOVE` after a cooldown: responses grow faster than others end."""
COOLDOWN = 6
"""Observations after a change without another: what a change does shows late."""
QUEUE_SLACK = 0.25
"""Requests beyond the engine's batch, as a share of it, so that a place is taken in the step after it is left."""


@dataclass(frozen=True)
class Load:
    """What one observation of an engine says."""

    kv_usage: float
    """Share of the KV cache in use, 0 to 1."""
    running: int
    """Requests in the batch."""
    waiting: int
    """Requests that the engine holds back."""
    preemptions: int
    """Preemptions since the last observation."""
    finished: int
    """Requests that ended since the last observation."""


class Concurrency:
    """The cap on one engine's requests.

    `batch` is the engine's own limit (max_num_seqs), `kv_tokens` the size of its cache in tokens and `longest` the
    longest request in tokens: as many of those as fit are safe to begin with.
    """

    def __init__(self, batch: int, kv_tokens: int, longest: int) -> None:
        self.limit = batch + max(1, int(batch * QUEUE_SLACK))
        self._batch = batch
        self._cap = float(min(self.limit, max(1, kv_tokens // max(1, longest))))
        self._turnover = 0
        self._cooldown = 0
        self._drained_in_vain = False

    @property
    def cap(self) -> int:
        """Requests that may be under way."""
        return max(1, int(self._cap))

    def observe(self, load: Load) -> int:
        """Takes in an observation; returns the cap."""
        self._turnover += load.finished
        if self._cooldown:
            self._cooldown -= 1
            if load.preemptions and self._cooldown < COOLDOWN // 2:
                self._change(PREEMPTED)
            return self.cap
        held = load.running + load.waiting
        # A queue within the slack is wanted; the batch being full is no sign of trouble either.
        queued = load.waiting > max(1, self._batch * QUEUE_SLACK) and load.running < self._batch
        if load.preemptions:
            self._change(PREEMPTED)
        elif load.kv_usage > TRIM_ABOVE:
            self._trim(load)
        elif queued:
            self._change(QUEUED)
        elif load.kv_usage < GROW_BELOW and held >= BINDING * self.cap and self._turnover >= self.cap:
            self._change(GROWTH, cooldown=0)
        if load.kv_usage <= TRIM_ABOVE:
            self._drained_in_vain = False
        return self.cap

    def _trim(self, load: Load) -> None:
        if self._drained_in_vain:
            self._change(OVERLOADED)
        elif load.running:
            self._cap = min(self._cap, max(1.0, load.running * TARGET / load.kv_usage))
            self._change(1.0)
        self._drained_in_vain = True

    def _change(self, factor: float, cooldown: int = COOLDOWN) -> None:
        self._cap = min(float(self.limit), max(1.0, self._cap * factor))
        self._turnover = 0
        self._cooldown = cooldown
