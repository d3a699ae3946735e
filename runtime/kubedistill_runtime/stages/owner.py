"""Who writes to a stage's folder, where no lock can tell: pods on several nodes share it.

Whoever begins last owns the folder; an earlier one that still lives, on a node that the cluster gave up, finds out
within seconds and stops. It may write until then, so this is a fence against pods that nobody can end, and no lock.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

from kubedistill_runtime.data.storage import write_atomically
from kubedistill_runtime.errors import TryAgain

OWNER_FILE = ".owner"
LOOK_S = 5.0


def stop_by_signal() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def owned(folder: Path, *, look_s: float = LOOK_S, stop: Callable[[], None] = stop_by_signal) -> Iterator[None]:
    """Owns the folder from now on; calls `stop`, by default SIGTERM to this process, when another one does.

    Raises TryAgain in place of the SystemExit that SIGTERM brings about then.
    """
    name = f"{os.environ.get('HOSTNAME', '')} {uuid4().hex}"
    path, over, taken_over = folder / OWNER_FILE, Event(), Event()
    write_atomically(path, name.encode())

    def watch() -> None:
        while not over.wait(look_s):
            with contextlib.suppress(OSError):  # storage that is away for a while has no other owner either
                if (owner := path.read_text()) != name:
                    print(f"{owner.split(' ')[0]} does this work now; this one stops", file=sys.stderr, flush=True)
                    taken_over.set()
                    stop()
                    return

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except SystemExit as told:
        if taken_over.is_set():
            raise TryAgain(f"another pod does this work now: {path.read_text().split(' ')[0]}") from told
        raise
    finally:
        over.set()
        watcher.join()
