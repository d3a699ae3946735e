"""Landlock: a process gives up the file system but for the folders it names. Needs no privilege; Linux 5.13 or later.

Where the kernel has it, model-written code reads neither secrets nor other processes under /proc, and writes only into
its own folder. From Linux 6.7 and 6.12 it also gives up TCP, signals and abstract sockets beyond itself.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every processor
_ASK_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | 1 << 14 | 1 << 15
_HANDLED = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Rights over files by the version of the interface that brought them."""


def landlock_version(libc: ctypes.CDLL) -> int:
    """The interface's version; 0 where this kernel has none or has it switched off."""
    return max(0, int(libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)))


def open_ruleset(libc: ctypes.CDLL, version: int, *, read: Iterable[Path], write: Iterable[Path]) -> int:
    """A file descriptor of rules: these paths may be read and executed, those also written. Raises OSError."""
    handled = max(mask for since, mask in _HANDLED.items() if since <= version)
    attributes = struct.pack("=Q", handled)
    if version >= 4:
        attributes += struct.pack("=Q", 0b11)  # binding and connecting TCP
    if version >= 6:
        attributes += struct.pack("=Q", 0b11)  # abstract unix sockets and signals
    ruleset: int = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock ruleset refused")
    for paths, rights in ((read, _READ), (write, handled & ~_EXECUTE)):
        for path in paths:
            _allow(libc, ruleset, path, rights)
    return ruleset


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rights = rights if path.is_dir() else rights & _FILE_RIGHTS
        if libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, target), 0) != 0:
            raise OSError(ctypes.get_errno(), f"landlock rule refused for {path}")
    finally:
        os.close(target)


def restrict(libc: ctypes.CDLL, ruleset: int) -> None:
    """Put this process under the rules, for good. PR_SET_NO_NEW_PRIVS must be set. Raises OSError."""
    if libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0:
        raise OSError(ctypes.get_errno(), "landlock restriction refused")
