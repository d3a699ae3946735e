"""Keys to look at again: each at most once in the queue and in one pair of hands, with delays and back-off."""

import asyncio
import contextlib
import heapq
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

BASE_S = 0.5
CAP_S = 120.0


class WorkQueue(Generic[Key]):
    """A key that is added while it is worked on comes again afterwards; added twice, it comes once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ahead: OrderedDict[Key, float] = OrderedDict()
        self._ready: OrderedDict[Key, float] = OrderedDict()
        """Keys in the order of their turns, and since when they wait."""
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._later: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._number = 0
        self._changed = asyncio.Event()

    def add(self, key: Key, *, ahead: bool = False) -> None:
        """To be looked at as soon as may be; `ahead` of those that were added without it."""
        if key in self._working:
            self._again.add(key)
        elif ahead:
            self._ahead.setdefault(key, self._ready.pop(key, self._clock()))
            self._changed.set()
        elif key not in self._ahead:
            self._ready.setdefault(key, self._clock())
            self._changed.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """To be looked at after so long, unless it is sooner; an earlier wish for a later look is kept."""
        due = self._clock() + max(0.0, seconds)
        known = self._due.get(key)
        if known is not None and known <= due:
            return
        self._due[key] = due
        self._number += 1
        heapq.heappush(self._later, (due, self._number, key))
        self._changed.set()

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    @property
    def depth(self) -> int:
        return len(self._ahead) + len(self._ready)

    @property
    def age(self) -> float:
        """Seconds that the oldest key has been waiting."""
        oldest = [next(iter(lane.values())) for lane in (self._ahead, self._ready) if lane]
        return self._clock() - min(oldest) if oldest else 0.0

    async def work(self, handle: Callable[[Key], Awaitable[None]], failed: Callable[[Key, Exception], None]) -> None:
        """One worker: handles keys for ever. A key whose handling raises comes again, later each time."""
        while True:
            key = await self._next()
            try:
                await handle(key)
            except Exception as error:
                n = self._failures[key] = self._failures.get(key, 0) + 1
                self.add_after(key, min(CAP_S, BASE_S * 2 ** min(n - 1, 20)))
                failed(key, error)
            else:
                self._failures.pop(key, None)
            finally:
                self._working.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    async def _next(self) -> Key:
        while True:
            now = self._clock()
            while self._later and self._later[0][0] <= now:
                due, _, key = heapq.heappop(self._later)
                if self._due.get(key) == due:
                    del self._due[key]
                    self.add(key)
            if lane := self._ahead or self._ready:
                key, _ = lane.popitem(last=False)
                self._working.add(key)
                if self.depth:
                    self._changed.set()
                return key
            self._changed.clear()
            timeout = self._later[0][0] - now if self._later else None
            # Not `wait_for`, which in Python 3.11 loses a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
