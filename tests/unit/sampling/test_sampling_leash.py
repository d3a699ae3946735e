"""What a killed driver leaves behind is ended."""

import subprocess
import sys
import time
from pathlib import Path

from kubedistill_runtime.engines import leash

CHILD = (
    "import sys, time; open(sys.argv[1], 'w'); file = open(sys.argv[1]); print('ready', flush=True); time.sleep(600)"
)


def _leash(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-I", leash.__file__, str(folder)], stdin=subprocess.PIPE)


def _child(file: Path) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(file)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


def test_without_a_word_it_kills_who_uses_the_folder_and_removes_it(tmp_path: Path) -> None:
    folder, beside = tmp_path / "session", tmp_path / "session-of-another"
    folder.mkdir()
    beside.mkdir()
    watch, inside, outside = _leash(folder), _child(folder / "log"), _child(beside / "log")
    try:
        assert watch.stdin is not None
        watch.stdin.close()
        assert watch.wait(timeout=60) == 0
        assert inside.wait(timeout=60) == -9
        assert outside.poll() is None
        assert not folder.exists()
    finally:
        outside.kill()
        outside.wait()


def test_with_a_word_it_kills_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    folder.mkdir()
    watch, inside = _leash(folder), _child(folder / "log")
    try:
        watch.communicate(b"done", timeout=60)
        time.sleep(0.1)
        assert inside.poll() is None
        assert not folder.exists()
    finally:
        inside.kill()
        inside.wait()
