"""A child of the pool: `python -m kubedistill_runtime.verify.worker math|code ...`. Reads requests, writes replies.

One thread, so that it may fork safely. It dies with its parent: at the end of its input, or by the kernel's own signal.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from kubedistill_runtime.verify.channel import encode, read_message

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_MIB = 1 << 20

MATH_MEMORY_MIB = 2048
"""Address space of a math worker. sympy takes about 300 MiB of it."""

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class Expired(BaseException):
    """The CPU time of one comparison is spent. No Exception: math-verify and sympy swallow those."""


def math_handler(seconds: float) -> tuple[Handler, dict[str, Any]]:
    """Compares golds with answers, each within so many CPU seconds."""
    from kubedistill_runtime.verify.math import compare
    from kubedistill_runtime.verify.symbolic import compare_symbolic

    resource.setrlimit(resource.RLIMIT_AS, (MATH_MEMORY_MIB * _MIB, MATH_MEMORY_MIB * _MIB))
    compare(r"\frac{\sqrt{3}}{2}", r"\sin(\frac{\pi}{3})", compare_symbolic)  # the parser's tables take a while

    def expire(_: int, __: FrameType | None) -> None:
        raise Expired

    signal.signal(signal.SIGPROF, expire)

    def handle(request: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        return {**decide(request), "seconds": time.perf_counter() - started}

    def decide(request: dict[str, Any]) -> dict[str, Any]:
        try:
            signal.setitimer(signal.ITIMER_PROF, seconds, 0.1)  # again and again, should a finally block eat the first
            try:
                outcome = compare(request["gold"], request["answer"], compare_symbolic)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        except Expired:
            return {"equal": False, "method": "math-verify", "error": f"timed out after {seconds:g} s of CPU time"}
        except (RecursionError, MemoryError) as error:
            return {"equal": None, "method": "math-verify", "error": f"comparing failed: {type(error).__name__}"}
        assert outcome is not None
        return {"equal": outcome.equal, "method": outcome.method, "error": outcome.error}

    return handle, {}


def code_handler(folder: Path) -> tuple[Handler, dict[str, Any]]:
    """Runs code tests under the strictest isolation there is here, in a folder of its own."""
    from kubedistill_runtime.verify.isolation import detect
    from kubedistill_runtime.verify.jail import Limits
    from kubedistill_runtime.verify.sandbox import Sandbox
    from kubedistill_runtime.verify.tests import CodeTask, run_tests

    jail, isolation = detect(folder)
    sandbox = Sandbox(jail, folder)

    def handle(request: dict[str, Any]) -> dict[str, Any]:
        task = CodeTask(**{**request, "limits": Limits(**request["limits"])})
        try:
            result = run_tests(sandbox, task)
        except (
            OSError,
            subprocess.SubprocessError,
        ) as error:  # the jail was not entered: this says nothing of the code
            return {"failed": f"sandbox: {error}"}
        return {"correct": result.correct, "seconds": result.seconds, "error": result.error}

    return handle, isolation.as_dict()


def serve(start: Callable[[], tuple[Handler, dict[str, Any]]], requests: BinaryIO, replies: BinaryIO) -> None:
    """Say that we are ready, or why not; then answer requests to the end of the input."""

    def reply(message: dict[str, Any]) -> None:
        replies.write(encode(message))
        replies.flush()

    try:
        handle, about = start()
    except (ImportError, RuntimeError, OSError) as error:
        reply({"fatal": str(error)})
        return
    reply({"ready": about})
    while (request := read_message(requests)) is not None:
        reply(handle(request))


def main() -> None:
    """Be a worker: kind, the parent's process id, and CPU seconds per comparison (math) or a folder (code)."""
    kind, parent, argument = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    libc = ctypes.CDLL(None)
    # A code worker has a program to kill first; a math worker may be deaf to anything milder.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM if kind == "code" else signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # expected outputs are in this memory
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):  # nobody but us speaks on the channel
        os.dup2(null, descriptor)
    if kind == "math":
        serve(lambda: math_handler(float(argument)), requests, replies)
    else:
        serve(lambda: code_handler(Path(argument)), requests, replies)


if __name__ == "__main__":
    main()
