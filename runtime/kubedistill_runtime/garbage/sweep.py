"""Removes what goes. Killed at any point it leaves whole folders, and trash that the next one removes."""

import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from kubedistill_runtime.data.storage import fsync_folder
from kubedistill_runtime.garbage.decide import Verdict
from kubedistill_runtime.garbage.survey import TRASH, look
from kubedistill_runtime.local.locks import FileLock
from kubedistill_runtime.local.process import LOCK_FILE


def sweep(stages: Path, verdict: Verdict, referrers: Mapping[str, str], now: datetime | None = None) -> str:
    """Acts on a verdict. Returns why nothing was done: somebody came to want the folder since; empty where it was.

    `referrers` are those of this moment. Raises OSError where something cannot be removed.
    """
    path = stages / verdict.folder.name
    if verdict.folder.trash:
        shutil.rmtree(path)
        return ""
    fresh = look(path, {}, now)
    if fresh.strange:
        return "it is gone"
    if fresh.busy:
        return f"being written: {fresh.busy}"
    if verdict.keep:
        _clean(path, verdict)
        return ""
    if fresh.digest in referrers:
        return f"{referrers[fresh.digest]} refers to it now"
    if fresh.age < verdict.folder.age:
        return "it was written to meanwhile"
    return _remove(path)


def _clean(path: Path, verdict: Verdict) -> None:
    for rest in verdict.leftovers:
        at = path / rest.path
        if at.is_dir() and not at.is_symlink():
            shutil.rmtree(at)
        else:
            at.unlink(missing_ok=True)


def _remove(path: Path) -> str:
    """Out of sight first: what is only half there must not be found. With the lock held nobody begins in it."""
    lock = FileLock(path / LOCK_FILE)
    with lock:
        if lock.path.exists() and not lock.acquire():
            return f"being written: process {lock.holder() or 'unknown'}"
        trash = path.with_name(f"{TRASH}{path.name}-{uuid4().hex[:8]}")
        path.rename(trash)
        fsync_folder(path.parent)
        shutil.rmtree(trash)
    return ""
