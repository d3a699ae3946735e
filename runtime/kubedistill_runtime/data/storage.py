"""From URIs to files.

Stages work in folders that every process of the stage sees: a local path, a mounted volume. `pvc://claim/path` is
the folder `path` of the claim's mount, which the executor provides below `KUBEDISTILL_PVC_ROOT` (`/mnt/pvc`).
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.tiny import embedded_path

DEFAULT_PVC_ROOT = "/mnt/pvc"


def local_path(uri: str) -> Path | None:
    """The path behind a `file://`, `pvc://`, `embedded://` or scheme-less URI; None for a remote one.

    Raises BadInput for an `embedded://` name that does not exist.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri).expanduser()
    match scheme:
        case "file":
            return Path(rest)
        case "pvc":
            return Path(os.environ.get("KUBEDISTILL_PVC_ROOT", DEFAULT_PVC_ROOT)) / rest
        case "embedded":
            try:
                return embedded_path(rest)
            except ValueError as error:
                raise BadInput(str(error)) from None
    return None


def working_folder(uri: str) -> Path:
    """The folder of a stage, created if need be. Raises BadInput when the URI is not a file system's."""
    path = local_path(uri)
    if path is None:
        raise BadInput(f"{uri}: stages work in a file system; use a path, file:// or pvc://")
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_atomically(path: Path, content: bytes) -> None:
    """All of `content` or nothing, also after a crash. Raises TryAgain when the disk is full."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> Exception:
    """A full disk or quota as TryAgain that says so; any other error as it is."""
    return no_space(path) if error.errno in (errno.ENOSPC, errno.EDQUOT) else error


def no_space(path: Path) -> TryAgain:
    """What a full disk or quota is to a stage."""
    return TryAgain(f"no space left for {path}; nothing that was written before is lost: free space and run again")


def fsync_folder(folder: Path) -> None:
    """Makes a rename in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from sorted(p for p in path.rglob("*") if p.is_file())


def digest(path: Path) -> str:
    """`sha256:` of a file's content, or of the names and contents of all files in a folder."""
    total = hashlib.sha256()
    for file in _files(path):
        with file.open("rb") as handle:
            content = hashlib.file_digest(handle, "sha256").hexdigest()
        if file == path:
            return f"sha256:{content}"
        total.update(f"{file.relative_to(path)}\0{content}\n".encode())
    return f"sha256:{total.hexdigest()}"


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in _files(path))
