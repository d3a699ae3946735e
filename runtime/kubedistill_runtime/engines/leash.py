"""Ends what a driver started when the driver is killed. Run as a script, with a pipe from the driver as its input.

`python leash.py FOLDER`: waits for the other end of its standard input. A byte before the end means that all is well.
Without one the driver was killed, or Ray did not start: then every other process that has a file below FOLDER open is
killed too. (Ray's processes
all keep their logs there. By themselves its agents would live on for a minute, and they wipe their own environment,
so that cannot tell them.) FOLDER is removed in either case.
"""

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path


def users_of(folder: Path) -> list[int]:
    """Processes that have a file below `folder` open, but for this one and its driver."""
    spared = (os.getpid(), os.getppid())
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile, or is somebody else's
            links = [str(descriptor.readlink()) for descriptor in (process / "fd").iterdir()]
            if any(link.startswith(f"{folder}/") for link in links) and int(process.name) not in spared:
                found.append(int(process.name))
    return found


def main(folder: Path) -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    if not sys.stdin.buffer.read():
        for pid in users_of(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
