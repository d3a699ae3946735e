"""What the files that a stage named contained when it read them.

On one machine a file's content is part of the stage's digest. In a cluster the plan is made where the files are not,
so that a file that was changed under its name would go unnoticed: the stage looks, before it takes a result for its
own.
"""

import json
from pathlib import Path

from kubedistill_api.stage import StageParams
from kubedistill_runtime.data.storage import local_path, write_atomically
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.local.fingerprints import fingerprint

SOURCES_FILE = "sources.json"


def note_sources(folder: Path, params: StageParams) -> None:
    """Writes what the files contain that `params` name."""
    write_atomically(folder / SOURCES_FILE, json.dumps(_fingerprints(params), indent=1).encode())


def check_sources(folder: Path, params: StageParams) -> None:
    """Raises BadInput where a file is not what it was when the stage's result was made."""
    path = folder / SOURCES_FILE
    if not path.exists():
        return
    before = json.loads(path.read_text())
    for uri, now in _fingerprints(params).items():
        if before.get(uri, now) != now:
            raise BadInput(
                f"{uri} was changed since {folder.name} was made from it. Give changed content a name of its own, or "
                f"remove the folder {folder} and what was made from it"
            )


def _fingerprints(params: StageParams) -> dict[str, str]:
    paths = {uri: local_path(uri) for uri in sorted(_uris(params.model_dump(mode="json", by_alias=True)))}
    return {uri: fingerprint(path) for uri, path in paths.items() if path is not None and path.exists()}


def _uris(value: object) -> set[str]:
    if isinstance(value, dict):
        own = {value["uri"]} if isinstance(value.get("uri"), str) else set()
        return own.union(*map(_uris, value.values()))
    return set().union(*map(_uris, value)) if isinstance(value, list) else set()
