"""A stage that has no memory left says so, whoever of its processes met it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kubedistill_api.stage import ExitCode
from kubedistill_runtime.errors import memory_error
from kubedistill_runtime.stages import run, supervise


class OutOfMemoryError(RuntimeError):
    """As torch and Ray call theirs."""


class ActorDiedError(RuntimeError):
    """As Ray calls it."""


def caused_by(cause: Exception) -> Exception:
    error = RuntimeError("the engine failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kernel_killed", "is_one"),
    [
        (MemoryError(), False, True),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False, True),
        (caused_by(OutOfMemoryError("tried to allocate")), False, True),
        (RuntimeError("the trainer ended with exit code 1:\nTraceback\ntorch.OutOfMemoryError: no\n"), False, True),
        (ActorDiedError("the actor is dead"), True, True),
        (ActorDiedError("the actor is dead"), False, False),
        (ValueError("bad"), True, False),
    ],
)
def test_an_error_is_one_of_memory_by_its_words_or_by_the_kernels_count(error, kernel_killed, is_one) -> None:
    assert (memory_error(error, kernel_killed=kernel_killed) is not None) is is_one


def test_of_a_long_text_the_line_about_memory_is_told() -> None:
    error = RuntimeError("the trainer ended with exit code 1:\nTraceback\ntorch.OutOfMemoryError: no room\nbye")
    assert str(memory_error(error, kernel_killed=False)) == "torch.OutOfMemoryError: no room"


def test_the_stage_ends_with_the_exit_code_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(path: Path) -> None:
        raise MemoryError("no room")

    left: list[str] = []
    monkeypatch.setattr(run, "read_spec", starved)
    monkeypatch.setattr(run, "exit_on_sigterm", lambda: None)
    monkeypatch.setattr(run, "_leave", left.append)
    assert run.main([str(tmp_path)]) == ExitCode.OUT_OF_MEMORY
    assert left == ["MemoryError: no room"]


DIES = """
import os, sys
from pathlib import Path
from kubedistill_runtime.stages import supervise
count = Path(sys.argv[1])
supervise._memory_events = lambda: [count]
kill = "import os, sys; from pathlib import Path; {}os.kill(os.getpid(), 9)"
counted = f"Path({str(count)!r}).write_text('oom_kill 2'); "
sys.exit(supervise.supervise([sys.executable, "-c", kill.format(counted if sys.argv[2] == "oom" else "")],
                             os.getppid(), 1.0) % 256)
"""


@pytest.mark.parametrize(("how", "code"), [("oom", ExitCode.OUT_OF_MEMORY), ("other", 256 - signal.SIGKILL)])
def test_the_supervisor_tells_a_kill_for_memory_from_another(tmp_path: Path, how: str, code: int) -> None:
    count = tmp_path / "memory.events"
    count.write_text("oom_kill 1")
    assert subprocess.run([sys.executable, "-c", DIES, str(count), how]).returncode == code


def test_the_contracts_exit_code_is_the_supervisors() -> None:
    assert supervise.OUT_OF_MEMORY_EXIT == ExitCode.OUT_OF_MEMORY
