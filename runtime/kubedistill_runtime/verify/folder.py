"""Folders that hostile programs wrote: measured and removed without following, recursing or giving up."""

import os
import stat
from pathlib import Path

_BLOCK = 4096
"""Bytes counted for an entry beside its content."""

MAX_ENTRIES = 4_096
"""Entries looked at. A folder with more counts as full."""


def used_bytes(folder: Path, enough: int) -> int:
    """Bytes that a folder takes, counted until they reach `enough`. What cannot be looked at counts as full."""
    used, entries, folders = 0, 0, [str(folder)]
    while folders and used < enough:
        try:
            with os.scandir(folders.pop()) as listing:
                for entry in listing:
                    entries += 1
                    status = entry.stat(follow_symlinks=False)
                    used += status.st_blocks * 512 + _BLOCK
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    if entries > MAX_ENTRIES or used >= enough:
                        return enough
        except FileNotFoundError:
            continue  # removed while we looked
        except OSError:
            return enough  # a path grown too long, a folder locked away
    return used


def remove_tree(folder: Path) -> None:
    """Remove a folder, however deep: folders inside are lifted to the top before they are emptied."""
    if not folder.exists():
        return
    prefix, count = os.urandom(8).hex(), 0  # no program can have put something in the way of a name it cannot guess
    top = [folder]
    while top:
        current = top.pop()
        current.chmod(stat.S_IRWXU)
        with os.scandir(current) as listing:
            entries = list(listing)
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)  # noqa: PTH108 - entry.path is a string
            elif current == folder:
                top.append(Path(entry.path))
            else:
                count += 1
                lifted = folder / f".{prefix}-{count}"
                os.chmod(entry.path, stat.S_IRWXU)  # noqa: PTH101 - moving a folder needs write access to it
                os.rename(entry.path, lifted)  # noqa: PTH104
                top.append(lifted)
        if current != folder:
            current.rmdir()
    folder.rmdir()
