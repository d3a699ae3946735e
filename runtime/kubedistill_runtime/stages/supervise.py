"""Runs one command so that nothing it started outlives it, or the one who asked for it.

    python -I -S supervise.py PARENT_PID GRACE_SECONDS COMMAND...

Stops the command on SIGTERM, and when PARENT_PID dies however suddenly: SIGTERM to its process group, SIGKILL to all
that is left after the grace, or at once on SIGUSR1. Orphans of the command come to this process, also those that left
the group, so it ends only after the last of them. Exits as the command does; 128 + N when signal N ended it. A command
that took a SIGKILL to stop counts as ended by SIGTERM; one that the kernel killed for memory as exit code 71.

Standard library only: it starts in a few hundredths of a second and holds no memory to speak of. Linux.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LEFTOVER_GRACE_S = 3.0
"""For daemons of a command that has ended, which usually notice by themselves."""
OUT_OF_MEMORY_EXIT = 71
"""The stage contract's ExitCode.OUT_OF_MEMORY, which cannot be imported here."""
TICK_S = 0.2
CLEAR_TICK_S = 0.05
TO_STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
SIGNALS = TO_STOP | {signal.SIGUSR1, signal.SIGCHLD, signal.SIGALRM}

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(number: int) -> None:
    """The kernel sends this process signal `number` when its parent dies."""
    _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def adopt_orphans() -> None:
    """Descendants whose parents die come to this process."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Living processes below `root`, parents before children."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name may hold blanks and parentheses; state and parent follow its end.
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    level = [root]
    while level:
        level = [pid for parent in level for pid in children.get(parent, [])]
        found += level
    return found


def kill(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def reap() -> dict[int, int]:
    """Exit codes of the children that have ended; negative for signals."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


def memory_kills() -> int | None:
    """Processes of this control group that the kernel has killed for memory; None where that cannot be told."""
    for path in _memory_events():
        try:
            for line in path.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        except (OSError, ValueError):
            continue
    return None


def kills_rose(before: int | None) -> bool:
    """Whether the kernel has killed for memory in this control group since it had killed `before` processes."""
    now = memory_kills()
    return before is not None and now is not None and now > before


def _memory_events() -> list[Path]:
    """Files that count kills, the nearest group first; version 2, then version 1."""
    mount = Path("/sys/fs/cgroup")
    found: list[Path] = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        number, controllers, group = line.split(":", 2)
        if number == "0":
            found += [mount / group.lstrip("/") / "memory.events", mount / "memory.events"]
        elif "memory" in controllers.split(","):
            v1 = mount / "memory"
            found += [v1 / group.lstrip("/") / "memory.oom_control", v1 / "memory.oom_control"]
    return found


def supervise(command: list[str], parent: int, grace_s: float) -> int:
    """Exit code of the command; negative for signals."""
    adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        return -signal.SIGTERM  # it died before the line above

    def prepare() -> None:
        die_with_parent(signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    kills = memory_kills()
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=prepare)
    code: int | None = None
    told = False
    kill_at: float | None = None
    # Not sigtimedwait: in a process that was stopped for longer than the timeout (a paused container, a debugger),
    # CPython's returns a struct that nobody has filled in.
    signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    while code is None:
        received = signal.sigwait(SIGNALS)
        if received == signal.SIGUSR1:
            kill_at = time.monotonic()
        elif received in TO_STOP and kill_at is None:
            kill_at, told = time.monotonic() + grace_s, True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
        if kill_at is not None and time.monotonic() >= kill_at:
            kill(descendants(os.getpid()), signal.SIGKILL)
        code = reap().get(child.pid)
    clear()
    if code != -signal.SIGKILL:
        return code
    return -signal.SIGTERM if told else OUT_OF_MEMORY_EXIT if kills_rose(kills) else code


def clear() -> None:
    """Ends every process below this one: what the command left behind."""
    number, kill_at = signal.SIGTERM, time.monotonic() + LEFTOVER_GRACE_S
    told: set[int] = set()
    while left := descendants(os.getpid()):
        if time.monotonic() >= kill_at:
            number, told = signal.SIGKILL, set()
        kill([pid for pid in left if pid not in told], number)
        told.update(left)
        time.sleep(CLEAR_TICK_S)
        reap()
    reap()


def main() -> int:
    parent, grace, *command = sys.argv[1:]
    code = supervise(command, int(parent), float(grace))
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
