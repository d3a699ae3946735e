"""The jail one program runs in: limits, identity, files, system calls. Entered between fork and exec.

Covered
- network: every socket call is refused (seccomp); without seccomp nothing runs at all
- other processes: no fork, no signals, no ptrace, no priorities or limits of others; threads are counted
- CPU time, address space, file sizes, open files, core dumps (rlimits); the wall clock is the caller's
- files, with Landlock: reads the interpreter and system libraries, writes its own folder; no secrets, no /proc
- identity, as root with a readable interpreter: a user id of its own; otherwise every capability is given up
- the environment is made anew; no descriptor but the three standard ones and the result's is inherited

Not covered
- without Landlock (gVisor, kernels before 5.13) files are guarded by user ids alone. A process that is not root shares
  its user id with the program, which then reads what the process may read, its neighbours' /proc/PID/environ included:
  keep secrets out of the pod there
- errors of the kernel, and what leaks through its caches: seccomp and Landlock share the host's kernel
- disk: a run fills its folder for up to one tick of the watch before it is killed; its folder is not a quota
- the C++ compiler runs under the same files and limits, but may fork
- denial by load: a run takes its CPU time and memory; verdicts count CPU time, so neighbours do not change them
"""

import ctypes
import errno
import math
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kubedistill_runtime.verify.landlock import landlock_version, open_ruleset, restrict
from kubedistill_runtime.verify.seccomp import install_filter

Identity = Literal["own-user", "no-capabilities", "same-user"]

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_MIB = 1 << 20
_STACK = 64 * _MIB
_OPEN_FILES = 64
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime")
_DEVICES = ("/dev/zero", "/dev/random", "/dev/urandom")


@dataclass(frozen=True)
class Limits:
    """What one run may use: the fields of the API's CodeLimits, for processes that do without pydantic."""

    cpu_seconds: float
    memory_mib: int
    file_mib: int
    processes: int
    output_mib: int
    wall_seconds: float


@dataclass(frozen=True)
class Jail:
    """How this machine confines a program.

    identity: whom it runs as. landlock: the interface's version, 0 for none. uid: the user id of a run, one per worker
    so that two workers' programs cannot meet; None: unchanged.
    """

    identity: Identity
    landlock: int
    uid: int | None = None


def open_libc() -> ctypes.CDLL:
    """The C library, with errno kept."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong)
    libc.syscall.restype = ctypes.c_long
    return libc


LIBC = open_libc()


def candidates() -> list[Jail]:
    """The jails to try here, the strictest first."""
    version = landlock_version(LIBC)
    if os.geteuid() != 0:
        return [Jail("same-user", version)]
    jails = [Jail("own-user", version, _own_uid())]
    if version:  # without Landlock, root stays root's files' owner even when it has no capability left
        jails.append(Jail("no-capabilities", version))
    return jails


def readable() -> list[Path]:
    """What a run may read and execute: this interpreter, its packages, the system's programs and libraries."""
    prefixes = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}
    return [*(prefix for prefix in prefixes if prefix != Path("/")), *map(Path, (*_SYSTEM, *_DEVICES))]


def rules(jail: Jail, *, read: list[Path], write: list[Path]) -> int | None:
    """The Landlock rules of one run as a descriptor; None where the kernel has no Landlock."""
    if not jail.landlock:
        return None
    return open_ruleset(LIBC, jail.landlock, read=[*readable(), *read], write=[*write, Path("/dev/null")])


def enter(jail: Jail, limits: Limits, ruleset: int | None, parent: int, *, forks: bool) -> None:
    """Enter the jail; for `preexec_fn` of a process with one thread. Raises OSError, and then nothing is executed."""
    _limit(limits)
    if jail.uid is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (limits.processes, limits.processes))
        os.setgroups([])
        os.setresgid(jail.uid, jail.uid, jail.uid)
        os.setresuid(jail.uid, jail.uid, jail.uid)
    elif jail.identity == "no-capabilities":
        _drop_capabilities()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of identity, which clears it
    if os.getppid() != parent:
        raise OSError(errno.ESRCH, "the worker is gone")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if ruleset is not None:
        restrict(LIBC, ruleset)
    install_filter(LIBC, forks=forks)


def _limit(limits: Limits) -> None:
    cpu = math.ceil(limits.cpu_seconds) + 1  # the last resort, should the watch miss it: a signal can be caught
    for kind, soft, hard in (
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_AS, limits.memory_mib * _MIB, None),
        (resource.RLIMIT_FSIZE, limits.file_mib * _MIB, None),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, None),
        (resource.RLIMIT_CORE, 0, None),
        (resource.RLIMIT_STACK, _STACK, None),
    ):
        hard = soft if hard is None else hard
        ceiling = resource.getrlimit(kind)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(kind, (soft, hard))


def _drop_capabilities() -> None:
    for capability in range(64):
        if LIBC.prctl(_PR_CAPBSET_DROP, capability, None, 0, 0) != 0:
            break  # EINVAL past the last one; EPERM where there is none to drop
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if LIBC.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be given up")


def _prctl(option: int, value: int) -> None:
    if LIBC.prctl(option, value, None, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def _own_uid() -> int:
    """A user id that nobody has: above all real ones, or in the upper part of a user namespace's few."""
    first, _, count = map(int, Path("/proc/self/uid_map").read_text().splitlines()[0].split())
    return 1_000_000_000 + os.getpid() if first + count > 1_100_000_000 else 20_000 + os.getpid() % 40_000
