"""Signs of life of the watches, each by itself: one that is silent among many that talk is found out."""

import time
from collections.abc import Callable, Mapping

CYCLE_S = 300
"""A watch ends and begins again so often, also where nothing happens."""


class Signs:
    """When each watch last began, and when any of them last told something."""

    def __init__(self, expected: Mapping[str, int], clock: Callable[[], float] = time.monotonic) -> None:
        """`expected`: how many watches each kind has, one for each namespace where only some are served."""
        self._clock = clock
        self._expected = expected
        self._started = self._newest = clock()
        self._began: dict[str, dict[str, float]] = {kind: {} for kind in expected}

    def heard(self) -> None:
        """A watch told of an object."""
        self._newest = self._clock()

    def began(self, kind: str, watch: str) -> None:
        """A watch began anew. `watch`: its name, the same each time."""
        self._newest = self._began[kind][watch] = self._clock()

    def newest(self) -> float:
        """Seconds since any of them gave a sign."""
        return self._clock() - self._newest

    def silent(self, seconds: float) -> dict[str, float]:
        """Watches that have not begun anew for longer, with how long. Of those that never began the kind is named."""
        last = {name: moment for watches in self._began.values() for name, moment in watches.items()}
        last |= {kind: self._started for kind, count in self._expected.items() if len(self._began[kind]) < count}
        now = self._clock()
        return {name: now - moment for name, moment in last.items() if now - moment > seconds}
