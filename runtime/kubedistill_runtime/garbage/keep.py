"""Who refers to which stage: the records of local jobs, and what `kubectl get` says of a cluster's.

A record counts by the digests that it mentions, whatever version wrote it, and by the stages that its manifest has. So
a job that was restored from its YAML keeps its artifacts from its first moment, before it has a status.
"""

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubedistill_api.document import documents
from kubedistill_api.graph import Resource
from kubedistill_api.job import DistillationJob
from kubedistill_api.manifest import KINDS, ManifestError, load
from kubedistill_api.planning import plan
from kubedistill_api.probe import Candidate, TeacherProbe
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.local.fingerprints import sources
from kubedistill_runtime.local.runner import winner
from kubedistill_runtime.local.workspace import STATUS_FILE, JobFolder, Workspace

DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{16}(?:[0-9a-f]{48})?(?![0-9a-f])")
"""A stage's digest, whole or as its folder has it."""
NAMED = 16
"""Characters of the digest in a folder's name."""
WANTED = "give it the output of: kubectl get djob,tprobe,dstudy -A -o json"


def mentioned(text: str) -> set[str]:
    """The digests in a text, as folders have them."""
    return {found[:NAMED] for found in DIGEST.findall(text)}


def of_workspace(workspace: Workspace) -> dict[str, str]:
    """Digest -> who refers to it, of the jobs, probes and studies that were run on this machine."""
    found: dict[str, str] = {}
    for path in sorted((workspace.folder / "jobs").glob("*/*")):
        folder = JobFolder(path)
        digests = _in_record(folder) | _in_manifest(folder, workspace)
        found |= _said(digests - found.keys(), folder.kind, folder.namespace, folder.name)
    return found


class Records:
    """The same, read again only where a record has changed: a manifest's files have to be read for its digests."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._seen: dict[Path, int] | None = None
        self._found: dict[str, str] = {}

    def now(self) -> dict[str, str]:
        seen: dict[Path, int] = {}
        for path in (self._workspace.folder / "jobs").glob("*/*/*"):
            with contextlib.suppress(FileNotFoundError):
                seen[path] = path.stat().st_mtime_ns
        if seen != self._seen:
            self._seen, self._found = seen, of_workspace(self._workspace)
        return self._found


def _in_record(folder: JobFolder) -> set[str]:
    path = folder.folder / STATUS_FILE
    return mentioned(path.read_text(errors="replace")) if path.exists() else set()


def _in_manifest(folder: JobFolder, workspace: Workspace) -> set[str]:
    """Nothing where the manifest is another version's or its files are gone: then it is the status that counts."""
    digests: set[str] = set()
    try:
        for resource in load(folder.manifest).resources if folder.manifest.exists() else ():
            taken = winner(resource, workspace)
            before = sources(taken[0]) if taken else {}
            digests |= _planned(resource, taken[1] if taken else None, before | sources(resource))
    except (ManifestError, BadInput):
        return digests
    return digests


def of_cluster(text: str) -> dict[str, str]:
    """Digest -> who refers to it, from `kubectl get djob,tprobe,dstudy -A` as JSON or YAML.

    Raises BadInput where it is something else, or a resource in it cannot be read.
    """
    resources = [(item.get("status") or {}, _read(item)) for item in _items(text)]
    winners = {
        (probe.metadata.namespace, probe.metadata.name): candidate
        for status, probe in resources
        if isinstance(probe, TeacherProbe)
        for candidate in probe.spec.candidates
        if candidate.name == status.get("winner")
    }
    found: dict[str, str] = {}
    for status, resource in resources:
        meta, teacher = resource.metadata, None
        if isinstance(resource, DistillationJob) and resource.spec.teacher.probe_ref:
            teacher = winners.get((meta.namespace, resource.spec.teacher.probe_ref.name))
        digests = mentioned(json.dumps(status)) | _planned(resource, teacher, {})
        found |= _said(digests - found.keys(), resource.kind, meta.namespace, meta.name)
    return found


def _said(digests: set[str], kind: str, namespace: str, name: str) -> dict[str, str]:
    return dict.fromkeys(digests, f"{kind} {namespace}/{name}")


def _items(text: str) -> list[dict[str, Any]]:
    """The objects of one List, or of several documents."""
    try:
        found = [json.loads(text)] if text.lstrip().startswith("{") else [one.data for one in documents(text)]
    except ValueError as error:
        raise BadInput(f"--keep-from: not the JSON that it begins as ({error}); {WANTED}") from None
    items: list[Any] = []
    for data in found:
        listed = isinstance(data, dict) and isinstance(data.get("items"), list)
        items += data["items"] if listed else [data]
    if not found or not all(isinstance(item, dict) and item.get("kind") in KINDS for item in items):
        raise BadInput(f"--keep-from: is empty, or holds what is no job, probe or study; {WANTED}")
    return [item for item in items if not item["kind"].endswith("Runtime")]


def _read(item: dict[str, Any]) -> Resource:
    try:
        return load(json.dumps({key: value for key, value in item.items() if key != "status"})).resources[0]
    except ManifestError as error:
        raise BadInput(
            f"--keep-from: {item['kind']} {item.get('metadata', {}).get('name')} cannot be read, so what it needs is "
            f"not known; use the version of kubedistill that its cluster has\n{error}"
        ) from None


def _planned(resource: Resource, teacher: Candidate | None, found: Mapping[str, str]) -> set[str]:
    """The stages of its plan; none of a job whose probe has no winner, which has not begun."""
    try:
        return {node.digest[:NAMED] for node in plan(resource, sources=found, teacher=teacher).nodes}
    except LookupError:
        return set()
