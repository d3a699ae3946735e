"""Locks on files that end with the process that holds them."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Self

from kubedistill_runtime.errors import TryAgain


class FileLock:
    """An exclusive `flock`. The lock lives as long as any process has the file descriptor open, so a child that
    inherits it keeps the lock when its parent is gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self) -> bool:
        """Takes the lock unless somebody else has it; does not wait. Raises TryAgain where the file system has no
        locks."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise TryAgain(f"{self.path} cannot be locked ({error.strerror}); use a root on another disk") from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._file = file
        return True

    def holder(self) -> str:
        """Process id of the one who took it last; empty when unknown."""
        try:
            return self.path.read_text().strip()
        except OSError:
            return ""

    def is_held(self) -> bool:
        """Whether anybody has the lock right now; takes nothing and creates nothing."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EACCES)
        else:
            return False
        finally:
            os.close(file)

    def fileno(self) -> int:
        """The descriptor, for a child to inherit. Raises ValueError when the lock is not held."""
        if self._file is None:
            raise ValueError(f"{self.path} is not locked")
        return self._file

    def release(self) -> None:
        """Gives up this process' share of the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
