"""One attempt of one stage as a supervised process group."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from kubedistill_api.graph import Node
from kubedistill_api.observed import Cause, Child, ChildState
from kubedistill_api.stage import PROGRESS_FILE, SPEC_FILE, ExitCode, StageSpec
from kubedistill_runtime.data.storage import write_atomically
from kubedistill_runtime.local.locks import FileLock
from kubedistill_runtime.local.workspace import Workspace
from kubedistill_runtime.stages import supervise

LOCK_FILE = ".lock"
FOLDER_MARK = "KUBEDISTILL_STAGE_FOLDER"
"""Environment variable that every process of a stage has, so that orphans can be told."""
TAIL_BYTES = 16384
CAUSES = {
    ExitCode.BAD_INPUT: Cause.BAD_INPUT,
    ExitCode.TRY_AGAIN: Cause.TRY_AGAIN,
    ExitCode.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
}
ERROR = re.compile(r"(error: |[A-Za-z_][\w.]*(Error|Exception)\b)")
KILLED = 128 + signal.SIGKILL


@dataclass
class StageProcess:
    """Waits for the stage's folder, then runs the stage in it."""

    workspace: Workspace
    node: Node
    spec: StageSpec
    command: Sequence[str]
    grace_s: float
    stopping: bool = False
    started: datetime | None = None
    _lock: FileLock = field(init=False)
    _process: subprocess.Popen[bytes] | None = None
    _log_start: int = 0
    _kills_before: int | None = None
    _end: Child | None = None

    def __post_init__(self) -> None:
        self._lock = FileLock(self.workspace.stage(self.node) / LOCK_FILE)

    @property
    def log(self) -> Path:
        return self.workspace.log(self.node, self.spec.attempt)

    def begin(self) -> bool:
        """Starts the stage once its folder is free. False when there is nothing to do: the result is there."""
        if self._process or self.stopping:
            return True
        if not self._lock.acquire():
            return True
        with self._lock:
            if self.workspace.result(self.node):
                return False
            folder = self.workspace.stage(self.node)
            kill_leftovers(folder)
            (folder / PROGRESS_FILE).unlink(missing_ok=True)
            spec = folder / SPEC_FILE
            write_atomically(spec, self.spec.model_dump_json(by_alias=True, indent=1).encode())
            self._start(folder, [*self.command, str(spec)])
        return True

    def _start(self, folder: Path, command: list[str]) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._kills_before = supervise.memory_kills()
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            # The supervisor inherits the lock, and holds it until the last process of the stage has ended. It has a
            # session of its own: Ctrl-C in the terminal is for `kubedistill run` alone.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", supervise.__file__, str(os.getpid()), str(self.grace_s), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, FOLDER_MARK: str(folder), "PYTHONUNBUFFERED": "1"},
                pass_fds=[self._lock.fileno()],
                start_new_session=True,
            )
        self.started = datetime.now(UTC)

    def stop(self, *, kill: bool = False) -> None:
        """Asks the stage to end, or makes it."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1 if kill else signal.SIGTERM)
        self.stopping = True

    def observe(self) -> Child | None:
        """The attempt as reconcile sees it; None when it has been stopped and is gone."""
        child = Child(self.node.name, self.spec.attempt, self.node.digest, "pending", started=self.started)
        if self._process is None:
            if self.stopping:
                return None
            message = f"the same work is being done by another run (process {self._lock.holder() or 'unknown'})"
            return replace(child, reason="WaitingForOtherRun", message=message)
        code = self._process.poll()
        if code is None:
            state: ChildState = "stopping" if self.stopping else "running"
            progress = self.workspace.progress(self.node)
            return replace(child, state=state, pod=str(self._process.pid), progress=progress)
        if self.stopping and code != 0:
            return None
        if self._end is None:
            self._end = replace(child, state="succeeded", exit_code=0)
            if code != 0:
                cause, message = self._explain(code)
                self._end = replace(self._end, state="failed", exit_code=code, cause=cause, message=message)
        return self._end

    def _explain(self, code: int) -> tuple[Cause, str]:
        last = last_words(last_lines(self.log, self._log_start))
        if code in CAUSES:
            cause = CAUSES[ExitCode(code)]
            said = "the kernel killed it: no memory left" if cause is Cause.OUT_OF_MEMORY else "no message"
            named = last if cause is not Cause.OUT_OF_MEMORY or "memory" in last.lower() else ""
            return cause, named or said
        if _is_killed(code):
            # The supervisor itself was killed.
            if supervise.kills_rose(self._kills_before):
                return Cause.OUT_OF_MEMORY, "the kernel killed it: no memory left"
            return Cause.APPLICATION, f"killed by SIGKILL: {last}" if last else "killed by SIGKILL"
        what = f"signal {signal.Signals(code - 128).name}" if 128 < code < 160 else f"exit code {code}"
        return Cause.APPLICATION, f"{what}: {last}" if last else what


def last_lines(log: Path, start: int = 0) -> list[str]:
    """The last lines of a log from `start` bytes on; none where it is not there."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def last_words(lines: Sequence[str]) -> str:
    """The line of a log that says best why it ends: the last error, else the last line."""
    lines = [line.strip() for line in lines if line.strip()]
    errors = [line for line in lines if ERROR.match(line)]
    return (errors or lines or [""])[-1].removeprefix("error: ")


def _is_killed(code: int) -> bool:
    return code in (KILLED, -signal.SIGKILL)


def kill_leftovers(folder: Path) -> None:
    """Kills processes of the folder's earlier attempts. Only a supervisor that was killed itself leaves any; called
    with the folder's lock held, so none of them is anybody's."""
    mark = f"{FOLDER_MARK}={folder}".encode()
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue  # it ended, or is another user's
