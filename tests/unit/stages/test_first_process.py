"""The command as the first process of a container, which the kernel treats unlike any other."""

import signal
import subprocess
import sys

import pytest

UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc"]
TOLD_BEFORE_IT_CAN_LISTEN = """
import os, runpy, signal, sys
exec_ = os.execv
def told_and_exec(*arguments):
    os.kill(1, signal.SIGTERM)
    exec_(*arguments)
os.execv = told_and_exec
sys.argv = ["stages", "/there/is/no/spec.json"]
runpy.run_module("kubedistill_runtime.stages", run_name="__main__")
"""


def test_a_signal_that_comes_while_it_starts_is_not_lost() -> None:
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a process namespace needs root")
    command = [*UNSHARE, sys.executable, "-c", TOLD_BEFORE_IT_CAN_LISTEN]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
