"""The pool's side of a worker: start it, ask it, end it."""

import asyncio
import os
import signal
import sys
import sysconfig
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

from kubedistill_runtime.verify.channel import HEADER, decode, encode
from kubedistill_runtime.verify.types import VerifierUnavailable

Kind = Literal["math", "code"]

START_SECONDS = 120.0
"""Wall clock for a worker to get ready. Importing sympy takes 1 to 7 s, more where a model is being loaded."""

_STOP_SECONDS = 2.0
_KEPT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONPATH")


class WorkerCrashed(RuntimeError):
    """The worker ended, or could not do its work, while it was asked something."""


class Child:
    """One worker process, the leader of its own session."""

    def __init__(self, kind: Kind, process: Process) -> None:
        self.kind: Kind = kind
        self.served = 0
        self.about: dict[str, Any] = {}
        self._process = process

    @classmethod
    async def start(cls, kind: Kind, argument: str) -> Self:
        """A worker that was just started; it may be asked once it is ready."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "kubedistill_runtime.verify.worker", kind, str(os.getpid()), argument),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
        return cls(kind, process)

    async def ready(self) -> None:
        """Wait until it is ready. Raises VerifierUnavailable where it cannot work, WorkerCrashed if it was killed."""
        try:
            message = await asyncio.wait_for(self._read(), START_SECONDS)
        except TimeoutError:
            raise VerifierUnavailable(f"a {self.kind} worker was not ready after {START_SECONDS:g} s") from None
        except WorkerCrashed as error:
            if (self._process.returncode or 0) < 0:
                raise
            raise VerifierUnavailable(f"a {self.kind} worker did not start: {error}") from None
        if "fatal" in message:
            raise VerifierUnavailable(message["fatal"])
        self.about = message["ready"]

    @property
    def pid(self) -> int:
        """The worker's process id, which is its group's as well."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not been seen to end."""
        return self._process.returncode is None

    async def ask(self, request: dict[str, Any], wall_seconds: float) -> dict[str, Any]:
        """The reply to a request. Raises WorkerCrashed, or TimeoutError; the worker is of no use after either."""
        assert self._process.stdin is not None
        self.served += 1
        async with asyncio.timeout(wall_seconds):
            with suppress(ConnectionError):  # reading says why
                self._process.stdin.write(encode(request))
                await self._process.stdin.drain()
            reply = await self._read()
        if "failed" in reply:
            raise WorkerCrashed(reply["failed"])
        return reply

    async def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            (length,) = HEADER.unpack(await self._process.stdout.readexactly(HEADER.size))
            return decode(await self._process.stdout.readexactly(length))
        except asyncio.IncompleteReadError:
            status = await self._process.wait()
            ended = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
            raise WorkerCrashed(f"the {self.kind} worker {ended}") from None

    async def stop(self) -> None:
        """End the worker and wait for it; a code worker first ends its run and cleans its folder.

        Where it does not in time, the run in its sandbox dies by the kernel's signal for orphans.
        """
        if self.kind == "code":
            with suppress(ProcessLookupError):
                self._process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()


def _environment() -> dict[str, str]:
    """What a worker needs to import us, and none of the secrets around."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    root = str(Path(__file__).parents[2])
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (root, kept.get("PYTHONPATH"))))
    return {**kept, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
