"""What lies below a namespace's `stages`."""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from kubedistill_api.stage import RESULT_FILE, SPEC_FILE
from kubedistill_runtime.garbage.decide import Folder, Leftover, spoken
from kubedistill_runtime.local.locks import FileLock
from kubedistill_runtime.local.process import LOCK_FILE
from kubedistill_runtime.stages.owner import OWNER_FILE

STAGES = "stages"
TRASH = ".trash-"
"""Begins the name of a folder that is being removed: nobody looks for a stage there."""
STAGE = re.compile(r"[a-z]+-[0-9a-f]{16}")
TEMPORARY = re.compile(r"\..+\.(tmp|new|part|\d+)|.+\.(tmp|new)")
"""Names under which something is written before it gets its own."""
QUIET = timedelta(hours=1)
"""Pods have no lock that could be asked. One that began and has written nothing for so long is taken for gone; loading
a large model, the longest that a stage is silent, takes minutes."""


class _Size(NamedTuple):
    newest: float
    bytes: int


def survey(stages: Path, now: datetime | None = None) -> list[Folder]:
    """Every folder, in the order of their names."""
    paths = sorted(stages.iterdir())
    makers: dict[str, set[str]] = {}
    for path in paths:
        for artifact in _outputs(_json(path / RESULT_FILE)):
            makers.setdefault(str(artifact.get("digest")), set()).add(path.name)
    return [look(path, makers, now) for path in paths]


def look(path: Path, makers: Mapping[str, set[str]], now: datetime | None = None) -> Folder:
    """One folder. `makers` says which folders have an artifact of a digest."""
    moment = now or datetime.now(UTC)
    trash = path.name.startswith(TRASH)
    if path.is_symlink() or not path.is_dir() or not (trash or STAGE.fullmatch(path.name)):
        return Folder(path.name, timedelta(), strange=True)
    size = _measured(path)
    age = moment - datetime.fromtimestamp(size.newest, UTC)
    if trash:
        return Folder(path.name, age, size.bytes, trash=True)
    result = _json(path / RESULT_FILE)
    return Folder(
        path.name,
        age,
        size.bytes,
        finished=bool(result),
        busy=_writer(path, bool(result), age),
        needs=frozenset(_needs(path, result, makers) - {path.name}),
        leftovers=tuple(_leftovers(path, result, moment)),
    )


def _writer(path: Path, finished: bool, age: timedelta) -> str:
    """Who is at it, in words."""
    lock = FileLock(path / LOCK_FILE)
    if lock.is_held():
        return f"process {lock.holder() or 'unknown'}"
    owner = path / OWNER_FILE
    if finished or age >= QUIET or not owner.exists():
        return ""
    with contextlib.suppress(OSError):
        return f"pod {owner.read_text().split(' ')[0] or 'unknown'}, {spoken(age)} ago"
    return ""


def _needs(path: Path, result: Mapping[str, Any], makers: Mapping[str, set[str]]) -> set[str]:
    """By its spec. Folders of versions that left none in a cluster have the digests of what they read."""
    spec = _json(path / SPEC_FILE)
    if spec:
        return {str(uri).rstrip("/").rpartition("/")[2] for uri in (spec.get("inputs") or {}).values()}
    read = [artifact for artifacts in (result.get("inputs") or {}).values() for artifact in artifacts.values()]
    return set().union(*(makers.get(str(artifact.get("digest")), set()) for artifact in read))


def _leftovers(path: Path, result: Mapping[str, Any], now: datetime) -> Iterator[Leftover]:
    outputs = {path / str(artifact.get("uri")) for artifact in _outputs(result)}
    for folder, folders, files in os.walk(path):
        here = Path(folder)
        for name in [*folders, *files]:
            if TEMPORARY.fullmatch(name) and here / name not in outputs:
                size = _measured(here / name)
                age = now - datetime.fromtimestamp(size.newest, UTC)
                yield Leftover(str((here / name).relative_to(path)), age, size.bytes)
        # What is inside of one goes with it; an artifact is whole, whatever its files are called.
        folders[:] = [name for name in folders if not TEMPORARY.fullmatch(name) and here / name not in outputs]


def _measured(path: Path) -> _Size:
    """When something in it was last written, and the bytes that its removal frees. Files that go away meanwhile do not
    count."""
    newest, total = 0.0, 0
    for file in _files(path):
        with contextlib.suppress(OSError):
            state = file.lstat()
            newest = max(newest, state.st_mtime, state.st_ctime)
            total += state.st_size if state.st_nlink == 1 else 0
    return _Size(newest or path.lstat().st_mtime, total)


def _files(path: Path) -> Iterator[Path]:
    if path.is_symlink() or not path.is_dir():
        yield path
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in files)
        yield from (link for name in folders if (link := Path(folder, name)).is_symlink())


def _outputs(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((result.get("outputs") or {}).values())


def _json(path: Path) -> dict[str, Any]:
    """A file's mapping, whatever version wrote it; empty where there is none."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
