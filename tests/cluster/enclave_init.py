"""Process 1 of an enclave: prepares its mounts, writes its process id, and reaps orphans until it is ended.

Run as a file, `python -I enclave_init.py FOLDER`, in new mount, process and network namespaces.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet sets in the kernel where it finds something else. In here it finds these, so the machine's stay."""

WRITTEN = ("/var/lib", "/var/log")
"""Folders in which kubelet, containerd and CNI write at fixed places."""


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def prepare(folder: Path) -> None:
    """What is mounted from here on is seen in this enclave only, and ends with it."""
    mount("--make-rshared", "/")
    mount("-t", "proc", "proc", "/proc")
    mount("-t", "tmpfs", "tmpfs", "/run")
    layers = folder / "layers"
    layers.mkdir()
    mount("-t", "tmpfs", "tmpfs", layers)
    for lower in WRITTEN:
        upper, work = (layers / f"{Path(lower).name}.{part}" for part in ("upper", "work"))
        upper.mkdir()
        work.mkdir()
        mount("-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", lower)
    sysctls = folder / "sysctls"
    sysctls.mkdir()
    for name, value in SYSCTLS.items():
        file = sysctls / name.replace("/", ".")
        file.write_text(f"{value}\n")
        if Path("/proc/sys", name).exists():
            mount("--bind", file, Path("/proc/sys", name))


def main() -> None:
    folder = Path(sys.argv[1])
    # The /proc that is still mounted is the outer one, which knows this process by the id that the owner needs.
    outer_pid = str(Path("/proc/self").readlink())
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    prepare(folder)
    scratch = folder / "enclave.pid.new"
    scratch.write_text(outer_pid)
    scratch.rename(folder / "enclave.pid")
    while True:
        signal.sigwait([signal.SIGCHLD])
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


if __name__ == "__main__":
    main()
