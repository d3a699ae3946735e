"""SIGTERM: the stage keeps what it has, ends its children and exits with 143."""

import os
import signal
import sys
import threading
from types import FrameType

STOP_S = 12.0
"""Cleaning up may take so long. A pod has 30 seconds, of which its first process waits 20 for the stage."""
EXIT_STOPPED = 128 + signal.SIGTERM


def exit_on_sigterm() -> None:
    """From now on SIGTERM unwinds the main thread with SystemExit(143), which closes what is open."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, _already)
    # What hangs, or catches everything, must not keep the pod.
    deadline = threading.Timer(STOP_S, os._exit, (EXIT_STOPPED,))
    deadline.daemon = True
    deadline.start()
    print("stopped by SIGTERM; what is saved is gone on with at the next start", file=sys.stderr, flush=True)
    raise SystemExit(EXIT_STOPPED)


def _already(_number: int, _frame: FrameType | None) -> None:
    """Told twice: a default action would cut the cleaning up short."""
