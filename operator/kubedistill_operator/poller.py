"""Asks running stages how far they are, within a budget."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from pydantic import ValidationError

from kubedistill_api.status import Progress
from kubedistill_operator.store import Key

log = logging.getLogger(__name__)

EVERY_S = 10.0
PER_SECOND = 20
"""Stages asked per second at most: with more of them running, each is asked less often."""
TIMEOUT_S = 3.0
LARGEST_ANSWER = 64 * 1024


@dataclass(frozen=True)
class Target:
    """Where a stage tells its progress, and whose it is."""

    url: str
    key: Key


class Poller:
    """Progress by the name of the child."""

    def __init__(self, changed: Callable[[Key], None], every_s: float = EVERY_S) -> None:
        self._changed = changed
        self._every_s = every_s
        self._targets: dict[str, Target] = {}
        self._progress: dict[str, Progress] = {}

    def follow(self, name: str, target: Target) -> None:
        self._targets[name] = target

    def leave(self, name: str) -> None:
        self._targets.pop(name, None)
        self._progress.pop(name, None)

    def leave_all(self, key: Key) -> None:
        """Of a resource that is gone: its pods' addresses may soon be those of others."""
        for name in [name for name, target in self._targets.items() if target.key == key]:
            self.leave(name)

    def progress(self, name: str) -> Progress | None:
        return self._progress.get(name)

    async def run(self) -> None:
        """Polls for ever."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                targets = dict(self._targets)
                pause = max(self._every_s, len(targets) / PER_SECOND)
                for name, target in targets.items():
                    if self._targets.get(name) is target:  # a round takes a while, and some leave meanwhile
                        asyncio.create_task(self._ask(session, name, target))  # noqa: RUF006
                    await asyncio.sleep(pause / len(targets))
                if not targets:
                    await asyncio.sleep(pause)

    async def _ask(self, session: aiohttp.ClientSession, name: str, target: Target) -> None:
        try:
            # What answers is a tenant's pod: it sends nobody elsewhere, and says little.
            async with session.get(target.url, allow_redirects=False) as response:
                if response.status != 200:
                    return
                progress = Progress.model_validate_json(await _short(response.content))
        except (aiohttp.ClientError, TimeoutError, ValidationError) as error:
            log.debug("%s does not tell its progress: %s", name, error)
            return
        if name in self._targets and self._progress.get(name) != progress:
            self._progress[name] = progress
            self._changed(target.key)


async def _short(body: aiohttp.StreamReader) -> bytes:
    """The body, or nothing where it is too long to be an answer."""
    try:
        await body.readexactly(LARGEST_ANSWER)
    except asyncio.IncompleteReadError as whole:
        return whole.partial
    return b""
