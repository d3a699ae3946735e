"""What the local files that a resource names contain, so that changed content is other work."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from kubedistill_api.graph import Resource
from kubedistill_api.study import DistillationStudy, arms
from kubedistill_runtime.data.storage import digest, local_path
from kubedistill_runtime.errors import BadInput

WHOLE_CONTENT_BYTES = 64 * 2**20
"""Files up to this size are read; larger ones are told apart by size and time of change."""


def sources(resource: Resource) -> dict[str, str]:
    """A fingerprint for each URI that lies on this machine.

    Raises BadInput that names the fields whose file or folder is not there.
    """
    found: dict[str, str] = {}
    missing: list[str] = []
    for field, uri in dict.fromkeys(_named(resource)):
        try:
            path = local_path(uri)
        except BadInput as error:
            missing.append(f"{field}: {error}")
            continue
        if path is None or uri in found:
            continue
        if path.exists():
            found[uri] = fingerprint(path)
        else:
            missing.append(f"{field}: {path} does not exist; correct the path, or make the file")
    if missing:
        raise BadInput("\n".join(missing))
    return found


def fingerprint(path: Path) -> str:
    """Of a file, or of the names and contents of all files in a folder."""
    if path.is_file():
        return _of_file(path)
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(f"{file.relative_to(path)}\0{_of_file(file)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _of_file(path: Path) -> str:
    state = path.stat()
    if state.st_size <= WHOLE_CONTENT_BYTES:
        return digest(path)
    return f"size:{state.st_size} changed:{state.st_mtime_ns}"


def _named(resource: Resource) -> Iterator[tuple[str, str]]:
    """Every URI that a resource reads from, with its field; of a study those of all its variants."""
    if isinstance(resource, DistillationStudy):
        for arm in arms(resource.spec):
            yield from _uris(arm.recipe.model_dump(mode="json", by_alias=True), "spec.job")
    else:
        yield from _uris(resource.spec.model_dump(mode="json", by_alias=True, exclude={"output"}), "spec")


def _uris(value: object, field: str) -> Iterator[tuple[str, str]]:
    """Every `uri` with the field that holds it."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "uri" and isinstance(item, str):
                yield f"{field}.uri", item
            else:
                yield from _uris(item, f"{field}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _uris(item, f"{field}[{index}]")
