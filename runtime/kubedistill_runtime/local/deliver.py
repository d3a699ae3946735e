"""Puts the student, the report, the card and the corpus where the user wants them."""

import json
import os
import shutil
from pathlib import Path

from kubedistill_api.graph import Graph
from kubedistill_runtime.data.storage import disk_error, fsync_folder, local_path, write_atomically
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.local.workspace import Workspace

OUTPUTS = {
    ("train", "model"): "model",
    ("curate", "corpus"): "corpus.parquet",
    ("report", "card"): "README.md",
    ("report", "report"): "report.html",
}
"""What is delivered: (kind of stage, artifact) -> name in the output folder."""
MARKER = ".kubedistill.json"
"""Written last; says which work lies there."""
LINKED_BYTES = 64 * 2**20
"""Larger files are hard links where the disk is the same: weights are not edited in place, configurations are."""


def deliver(graph: Graph, workspace: Workspace, uri: str) -> bool:
    """Brings the output folder up to date; False when it already was.

    Raises BadInput when it cannot be written to, TryAgain when the disk is full or the store does not answer.
    """
    sources = {}
    for node in graph.nodes:
        result = workspace.result(node)
        for (kind, artifact), name in OUTPUTS.items():
            if node.kind == kind and result and artifact in result.outputs:
                sources[name] = (workspace.stage(node) / result.outputs[artifact].uri, result.outputs[artifact].digest)
    marker = json.dumps({name: digest for name, (_, digest) in sorted(sources.items())}, indent=1).encode()
    folder = local_path(uri)
    paths = {name: path for name, (path, _) in sources.items()}
    return _to_folder(paths, marker, folder) if folder else _to_store(paths, marker, uri)


def _to_folder(sources: dict[str, Path], marker: bytes, folder: Path) -> bool:
    at = folder / MARKER
    try:
        if at.exists() and at.read_bytes() == marker and all((folder / name).exists() for name in sources):
            return False
        folder.mkdir(parents=True, exist_ok=True)
        at.unlink(missing_ok=True)
        for name, source in sources.items():
            _replace(source, folder / name)
        fsync_folder(folder)
        write_atomically(at, marker)
    except PermissionError as error:
        raise BadInput(f"spec.output.uri: {error.filename or folder} cannot be written to; choose another") from error
    except OSError as error:
        raise disk_error(error, folder) from error
    return True


def _replace(source: Path, target: Path) -> None:
    """Copies beside the target and renames: nobody sees half of it."""
    new = target.with_name(f".{target.name}.new")
    old = target.with_name(f".{target.name}.old")
    for rest in (new, old):
        _remove(rest)
    if source.is_dir():
        shutil.copytree(source, new, copy_function=_copy)
    else:
        _copy(str(source), str(new))
    if target.is_dir():
        target.rename(old)
    new.replace(target)
    _remove(old)


def _copy(source: str, target: str) -> str:
    if Path(source).stat().st_size >= LINKED_BYTES:
        try:
            os.link(source, target)
        except OSError:  # another disk, or one without links
            return str(shutil.copy2(source, target))
        return target
    return str(shutil.copy2(source, target))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _to_store(sources: dict[str, Path], marker: bytes, uri: str) -> bool:
    from fsspec.core import url_to_fs  # half a second, and only for object stores

    try:
        store, root = url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise BadInput(f"spec.output.uri: {uri}: {error}") from error
    at = f"{root.rstrip('/')}/{MARKER}"
    try:
        if store.exists(at) and store.cat_file(at) == marker:
            return False
        for name, source in sources.items():
            target = f"{root.rstrip('/')}/{name}"
            if source.is_dir():
                for file in sorted(p for p in source.rglob("*") if p.is_file()):
                    _put(store, file, f"{target}/{file.relative_to(source)}")
            else:
                _put(store, source, target)
        store.pipe_file(at, marker)
    except PermissionError as error:
        raise BadInput(f"spec.output.uri: {uri} cannot be written to: {error}") from error
    except OSError as error:
        raise TryAgain(f"spec.output.uri: {uri}: {error}") from error
    return True


def _put(store: object, source: Path, target: str) -> None:
    store.makedirs(target.rpartition("/")[0], exist_ok=True)
    store.put_file(str(source), target)
