"""Signs of life of the watches, each by itself: one that is silent among many that talk is found out."""

import time
from collections.abc import Callable, Iterable

CYCLE_S = 300
"""A watch ends and begins again so often, also where nothing happens: at least so often it gives a sign."""


class Signs:
    """When each watched kind last gave a sign: an object that changed, or a watch that began anew."""

    def __init__(self, kinds: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard = dict.fromkeys(kinds, clock())

    def heard(self, kind: str) -> None:
        self._heard[kind] = self._clock()

    def newest(self) -> float:
        """Seconds since any of them gave a sign."""
        return self._clock() - max(self._heard.values())

    def silent(self, seconds: float) -> dict[str, float]:
        """Kinds that have been silent for longer, with how long."""
        now = self._clock()
        return {kind: now - heard for kind, heard in self._heard.items() if now - heard > seconds}
