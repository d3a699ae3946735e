"""Puts the student, the report, the card and the corpus where the user wants them.

A marker beside them says which of them are whole, and of which work. What an interrupted delivery has put there is not
put there again.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from kubedistill_api.stage import StageResult
from kubedistill_runtime.data.storage import disk_error, fsync_folder, local_path, write_atomically
from kubedistill_runtime.errors import BadInput, TryAgain

OUTPUTS = {
    ("train", "model"): "model",
    ("curate", "corpus"): "corpus.parquet",
    ("report", "card"): "README.md",
    ("report", "report"): "report.html",
}
"""What is delivered: (kind of stage, artifact) -> name in the output folder."""
MARKER = ".kubedistill.json"
"""The digest of each output that is whole, by name."""
LINKED_BYTES = 64 * 2**20
"""Larger files are hard links where the disk is the same: weights are not edited in place, configurations are."""
LAST = "config.json"
"""A model in an object store is not one before it has this file, so it comes last."""


class _Source(NamedTuple):
    path: Path
    digest: str


def deliver(stages: Iterable[tuple[StageResult, Path]], uri: str) -> bool:
    """Brings the output folder at `uri` up to date with these stages, each with its folder; False when it already was.

    Raises BadInput when it cannot be written to or an artifact is gone, TryAgain when the disk is full or the store
    does not answer.
    """
    sources: dict[str, _Source] = {}
    for result, folder in stages:
        for (kind, artifact), name in OUTPUTS.items():
            if result.kind == kind and artifact in result.outputs:
                made = result.outputs[artifact]
                sources[name] = _Source(folder / made.uri, made.digest)
    for name, source in sources.items():
        if not source.path.exists():
            raise BadInput(
                f"spec.output.uri: {name} cannot be delivered, {source.path} is missing; run its stage again"
            )
    folder_at = local_path(uri)
    return _to_folder(sources, folder_at) if folder_at else _to_store(sources, uri)


def _marker(whole: dict[str, str]) -> bytes:
    return json.dumps(dict(sorted(whole.items())), indent=1).encode()


def _still_whole(marker: bytes, sources: dict[str, _Source]) -> dict[str, str]:
    """What a marker says of the outputs that are wanted; nothing where it is not one."""
    try:
        found = json.loads(marker)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: source.digest for name, source in sources.items() if found.get(name) == source.digest}


def _to_folder(sources: dict[str, _Source], folder: Path) -> bool:
    at = folder / MARKER
    try:
        whole = _still_whole(at.read_bytes(), sources) if at.exists() else {}
        whole = {name: digest for name, digest in whole.items() if (folder / name).exists()}
        missing = [name for name in sources if name not in whole]
        if not missing:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        for name in missing:
            write_atomically(at, _marker(whole))
            _replace(sources[name], folder / name)
            whole[name] = sources[name].digest
        write_atomically(at, _marker(whole))
    except PermissionError as error:
        raise BadInput(f"spec.output.uri: {error.filename or folder} cannot be written to; choose another") from error
    except OSError as error:
        raise disk_error(error, folder) from error
    return True


def _replace(source: _Source, target: Path) -> None:
    """Copies beside the target and renames: nobody sees half of it. The copy's name tells of what it is, so that an
    interrupted one is gone on with."""
    new = target.with_name(f".{target.name}.{source.digest.rpartition(':')[2][:16]}.new")
    old = target.with_name(f".{target.name}.old")
    for rest in target.parent.glob(f".{target.name}.*"):
        if rest != new:
            _remove(rest)
    if source.path.is_dir():
        for file in sorted(p for p in source.path.rglob("*") if p.is_file()):
            copy = new / file.relative_to(source.path)
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                _copy(file, copy)
    else:
        _copy(source.path, new)
    if target.is_dir():
        target.rename(old)
    new.replace(target)
    fsync_folder(target.parent)
    _remove(old)


def _copy(source: Path, target: Path) -> None:
    """A file under its name is whole."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    if not (source.stat().st_size >= LINKED_BYTES and _linked(source, part)):
        shutil.copy2(source, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
    part.replace(target)


def _linked(source: Path, target: Path) -> bool:
    """False on another disk, or one without links."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _to_store(sources: dict[str, _Source], uri: str) -> bool:
    from fsspec.core import url_to_fs  # half a second, and only for object stores

    try:
        store, root = url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise BadInput(f"spec.output.uri: {uri}: {error}") from error
    at = f"{root.rstrip('/')}/{MARKER}"
    targets = {name: f"{root.rstrip('/')}/{name}" for name in sources}
    try:
        whole = _still_whole(store.cat_file(at), sources) if store.exists(at) else {}
        whole = {name: digest for name, digest in whole.items() if store.exists(targets[name])}
        missing = [name for name in sources if name not in whole]
        if not missing:
            return False
        for name in missing:
            store.pipe_file(at, _marker(whole))
            _put(store, sources[name].path, targets[name])
            whole[name] = sources[name].digest
        store.pipe_file(at, _marker(whole))
    except PermissionError as error:
        raise BadInput(f"spec.output.uri: {uri} cannot be written to: {error}") from error
    except OSError as error:
        raise TryAgain(f"spec.output.uri: {uri}: {error}") from error
    return True


def _put(store: Any, source: Path, target: str) -> None:
    """Puts a file, or a folder in place of what is there."""
    if source.is_file():
        store.makedirs(target.rpartition("/")[0], exist_ok=True)
        store.put_file(str(source), target)
        return
    if store.exists(target):
        store.rm(target, recursive=True)
    for file in sorted((p for p in source.rglob("*") if p.is_file()), key=lambda p: (p.name == LAST, p)):
        path = f"{target}/{file.relative_to(source)}"
        store.makedirs(path.rpartition("/")[0], exist_ok=True)
        store.put_file(str(file), path)
