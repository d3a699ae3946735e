"""The supervisor as a process. What it does when it is told to stop is tested with the runs that it stops."""

import os
import signal
import subprocess
import sys
import time

from kubedistill_runtime.stages import supervise


def test_being_stopped_and_continued_is_no_request_to_end() -> None:
    """As when a container is paused and goes on."""
    command = [sys.executable, "-c", "import sys; print('begun', flush=True); sys.stdin.read(); sys.exit(7)"]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", supervise.__file__, str(os.getpid()), "1", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdin
    assert process.stdout.readline() == b"begun\n"
    for _ in range(3):
        process.send_signal(signal.SIGSTOP)
        time.sleep(2 * supervise.TICK_S)
        process.send_signal(signal.SIGCONT)
        time.sleep(2 * supervise.TICK_S)
    process.stdin.close()
    assert process.wait() == 7
