"""The workers of a pool: started when first needed, kept warm, replaced when they hang, crash or have served enough."""

import asyncio
import logging
import tempfile
from pathlib import Path
from typing import Any

from kubedistill_runtime.verify.child import Child, Kind, WorkerCrashed
from kubedistill_runtime.verify.folder import remove_tree

logger = logging.getLogger(__name__)

MAX_SERVED = 2_000
"""Requests per worker. sympy's caches only grow; a fresh process is the one way to bound them."""


class Crew:
    """At most `size` workers at work at a time, of either kind."""

    def __init__(self, size: int, math_seconds: float) -> None:
        self.size = size
        self.about: dict[Kind, dict[str, Any]] = {}
        """What the latest worker of each kind said of itself when it started."""
        self._math_seconds = math_seconds
        self._slots = asyncio.Semaphore(size)
        self._idle: dict[Kind, list[Child]] = {"math": [], "code": []}
        self._all: set[Child] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._folder: Path | None = None
        self._started = 0
        self._closed = False

    async def ask(self, kind: Kind, request: dict[str, Any], wall_seconds: float) -> dict[str, Any]:
        """The reply of a worker. A request that crashes its worker is tried once more on another.

        Raises TimeoutError after wall_seconds of work, WorkerCrashed after the second crash, VerifierUnavailable.
        """
        async with self._slots:
            try:
                return await self._ask(kind, request, wall_seconds)
            except WorkerCrashed:
                return await self._ask(kind, request, wall_seconds)

    async def _ask(self, kind: Kind, request: dict[str, Any], wall_seconds: float) -> dict[str, Any]:
        child = await self._take(kind)
        try:
            reply = await child.ask(request, wall_seconds)
        except BaseException:  # a cancelled request leaves a reply in the pipe: that worker is lost as well
            self._end(child)
            raise
        if child.served >= MAX_SERVED:
            self._end(child)
        else:
            self._idle[kind].append(child)
        return reply

    async def _take(self, kind: Kind) -> Child:
        if self._closed:
            raise RuntimeError("the pool is closed")
        while self._idle[kind]:
            child = self._idle[kind].pop()
            if child.alive:
                return child
            self._all.discard(child)
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="kubedistill-verify-"))
            self._folder.chmod(0o711)
        self._started += 1
        argument = str(self._math_seconds) if kind == "math" else str(self._folder / str(self._started))
        child = await Child.start(kind, argument)
        self._all.add(child)
        try:
            if self._closed:
                raise RuntimeError("the pool is closed")
            await child.ready()
        except BaseException:
            self._end(child)
            raise
        if kind == "code" and kind not in self.about:
            log = logger.info if child.about["files"] else logger.warning
            log("model-written code is confined by %s", child.about)
        self.about[kind] = child.about
        return child

    def _end(self, child: Child) -> None:
        task = asyncio.get_running_loop().create_task(self._stop(child))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _stop(self, child: Child) -> None:
        await child.stop()
        self._all.discard(child)

    async def close(self) -> None:
        """End every worker, wait for them, and remove what they left on disk."""
        self._closed = True
        await asyncio.gather(*(self._stop(child) for child in list(self._all)))
        for _ in range(self.size):  # whoever was being served, or waited for a worker to start, has left
            await self._slots.acquire()
        for _ in range(self.size):
            self._slots.release()
        await asyncio.gather(*self._ending)
        self._idle = {"math": [], "code": []}
        if self._folder is not None:
            try:
                await asyncio.to_thread(remove_tree, self._folder)
            except OSError:  # a run that was just killed wrote its last file
                await asyncio.sleep(0.2)
                await asyncio.to_thread(remove_tree, self._folder)
