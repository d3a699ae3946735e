"""The cluster's programs as child processes that never outlive their owner."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cluster.errors import ClusterError

PATIENCE_S = 300.0
"""Within which what must happen does, on a machine that does much else: nothing is gained by giving up early."""

# The kernel ends a child when the *thread* that started it ends. This one lives as long as the process.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cluster-starter")

_SETPRIV = shutil.which("setpriv")
"""Sets the signal that a child gets when its owner dies. Linux only; elsewhere a killed owner leaves its children."""


def without_proxies() -> dict[str, str]:
    """This process's environment for a program that talks to this machine's own cluster only."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


class Server:
    """One program that runs until it is stopped, with its output in a file."""

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self.environment = dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Id of the running process. Raises `ClusterError` when it does not run."""
        if not self.alive:
            raise ClusterError(f"{self.name} does not run")
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it. Nothing happens when it runs already."""
        if not self.alive:
            self.process = _starter.submit(self._spawn).result()

    def _spawn(self) -> subprocess.Popen[bytes]:
        bound = [_SETPRIV, "--pdeathsig", "KILL", "--"] if _SETPRIV else []
        with self.log.open("ab") as log:
            # A session of its own: control-C is for the owner, who then stops its servers in order.
            return subprocess.Popen(
                [*bound, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=without_proxies() | self.environment,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, where it runs."""
        with contextlib.suppress(ClusterError, ProcessLookupError):
            os.kill(self.pid, number)

    def stop(self, grace: float = 10.0) -> None:
        """End it: SIGTERM, and after `grace` seconds SIGKILL. Returns when it is gone."""
        if self.process is None:
            return
        # A stopped (SIGSTOP) process does not see SIGTERM.
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL). Returns when it is gone."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Wait for `is_ready`. Raises `ClusterError` with the end of the log when it ends first, or takes too long."""
        wait_until(is_ready, f"{self.name} to be ready", also=self._check_alive, detail=self.tail)

    def _check_alive(self) -> None:
        if not self.alive:
            raise ClusterError(f"{self.name} ended while starting:\n{self.tail()}")

    def tail(self, lines: int = 25) -> str:
        """The end of the log."""
        if not self.log.is_file():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def wait_until(
    is_so: Callable[[], bool],
    what: str,
    seconds: float = PATIENCE_S,
    *,
    also: Callable[[], None] = lambda: None,
    detail: Callable[[], str] = lambda: "",
) -> None:
    """Ask `is_so` until it says yes; `also` may raise in between.

    Raises `ClusterError` after `seconds`, with `detail`.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        also()
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {seconds:g} s for {what}\n{detail()}".rstrip())
        time.sleep(0.1)
