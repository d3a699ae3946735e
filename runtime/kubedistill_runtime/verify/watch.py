"""Watches one run to its end: reads what it prints, looks at its files, threads and CPU time, kills it at a limit."""

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kubedistill_runtime.verify.folder import used_bytes
from kubedistill_runtime.verify.jail import Limits

TICK = 0.05
"""Seconds between two looks at a run."""

_CHUNK = 1 << 16
_STDERR_KEPT = 2_000
_MIB = 1 << 20
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """How a run ended. exit: its status, negative for a signal. cpu: seconds used. breach: the limit it broke."""

    stdout: bytes
    result: bytes
    stderr: str
    exit: int
    cpu: float
    breach: str | None

    @property
    def failure(self) -> str | None:
        """Why the run did not end well; None where it did."""
        if self.breach:
            return self.breach
        if self.exit < 0:
            return f"killed by {signal.Signals(-self.exit).name}"
        if self.exit:
            last = self.stderr.strip().splitlines()[-1:]
            return ": ".join([f"exit status {self.exit}", *(line[:300] for line in last)])
        return None


def watch(process: "subprocess.Popen[bytes]", limits: Limits, folder: Path, result: int) -> Run:
    """Watch a process that leads its own group, with pipes for output and `result`; on return the group is gone."""
    assert process.stdout is not None
    assert process.stderr is not None
    stdout, stderr = process.stdout.fileno(), process.stderr.fileno()
    with process.stdout, process.stderr, _Pipes(stdout, stderr, result, limits.output_mib * _MIB) as pipes:
        try:
            breach = _await_end(process.pid, pipes, limits, folder)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        pipes.read(0)
    cpu = usage.ru_utime + usage.ru_stime
    if process.returncode == -signal.SIGXCPU or cpu > limits.cpu_seconds:
        breach = f"CPU time: more than {limits.cpu_seconds:g} s"
    elif breach is None and pipes.over:
        breach = f"output: more than {limits.output_mib} MiB"
    kept = pipes.kept
    errors = kept[stderr].decode(errors="replace")
    return Run(bytes(kept[stdout]), bytes(kept[result]), errors, process.returncode, cpu, breach)


def _await_end(pid: int, pipes: "_Pipes", limits: Limits, folder: Path) -> str | None:
    """Wait until the process has ended or broken a limit, and say which."""
    now = time.monotonic()
    deadline, look, pause = now + limits.wall_seconds, now + TICK, 0.001
    while not _ended(pid):
        now = time.monotonic()
        if now >= deadline:
            return f"wall clock: more than {limits.wall_seconds:g} s"
        if now >= look:
            if used_bytes(folder, limits.file_mib * _MIB) >= limits.file_mib * _MIB:
                return f"files: more than {limits.file_mib} MiB"
            cpu, threads = _usage(pid)
            if threads > limits.processes:
                return f"threads: more than {limits.processes}"
            if cpu > limits.cpu_seconds:
                return f"CPU time: more than {limits.cpu_seconds:g} s"
            look = now + TICK
        if pipes.open:
            pipes.read(min(look, deadline) - now)
        else:  # closed its output: about to end, or hiding
            time.sleep(pause)
            pause = min(2 * pause, TICK)
        if pipes.over:
            return None
    return None


def _ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _usage(pid: int) -> tuple[float, int]:
    """CPU seconds so far, and threads: proc_pid_stat(5)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0  # ended meanwhile, or hidden from us: the limits of the kernel remain
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND, int(fields[17])


class _Pipes:
    """What a run wrote so far: output and result up to a cap, the tail of its errors."""

    def __init__(self, stdout: int, stderr: int, result: int, cap: int) -> None:
        self.kept = {stdout: bytearray(), stderr: bytearray(), result: bytearray()}
        self.over = False
        self._stderr = stderr
        self._seen = dict.fromkeys(self.kept, 0)
        self._cap = cap
        self._selector = selectors.DefaultSelector()
        for descriptor in self.kept:
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ)

    def __enter__(self) -> "_Pipes":
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    @property
    def open(self) -> bool:
        """Whether the run may still write."""
        return bool(self._selector.get_map())

    def read(self, timeout: float) -> None:
        """Read what is there, waiting for something at most `timeout` seconds."""
        while not self.over and (ready := self._selector.select(max(0.0, timeout))):
            for key, _ in ready:
                self._read_one(key.fd)
            timeout = 0

    def _read_one(self, descriptor: int) -> None:
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            self._selector.unregister(descriptor)
            return
        self._seen[descriptor] += len(chunk)
        self.over = self.over or self._seen[descriptor] > self._cap
        self.kept[descriptor] += chunk
        if descriptor == self._stderr:
            del self.kept[descriptor][:-_STDERR_KEPT]
