"""A plan: the stages of a resource, each with its digest. Pure.

A stage's digest is made of its parameters, the digests of the stages it needs, the version of its kind, and the
fingerprints of the local files that it names. So it is known before anything runs, and the same work has the same
digest in every job.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from kubedistill_api.job import DistillationJob, Recipe
from kubedistill_api.probe import TeacherProbe, TeacherProbeSpec
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_api.stage import ROLES, STAGE_VERSIONS, Guard, ReportParams, StageKind, StageParams, StageSpec
from kubedistill_api.study import DistillationStudy, arms

Resource = DistillationJob | TeacherProbe | DistillationStudy

RUN_FIELDS = {
    "active_deadline_seconds",
    "backoff_limit",
    "output",
    "priority_class_name",
    "runtime_ref",
    "suspend",
    "ttl_seconds_after_finished",
}
"""Fields of a spec that say how a resource is run and not what it makes."""

ALREADY_DRAWN = "drawn"
"""Role of a need that saves work and does not change what is made, so it is no part of the digest: traces are the same
whether they are drawn or taken over."""


@dataclass(frozen=True)
class Node:
    """One stage of a plan."""

    name: str
    """Unique in the plan; a DNS label."""
    params: StageParams
    needs: Mapping[str, str]
    """Stages it reads from, as role -> name."""
    digest: str
    guard: Guard | None = None
    """The decision that it waits for, and that may make it needless."""

    @property
    def kind(self) -> StageKind:
        return self.params.kind

    @property
    def folder(self) -> str:
        """Name of its output folder, the same for equal work."""
        return f"{self.kind}-{self.digest[:16]}"


@dataclass(frozen=True)
class Graph:
    """The stages of a resource in an order in which they can run."""

    resource: str
    """`kind/namespace/name`."""
    nodes: tuple[Node, ...]

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    def stage_spec(self, name: str, root: str, runtime: RuntimeSpec, attempt: int = 0) -> StageSpec:
        """What the executor gives to the stage; `root` is the namespace's storage URI."""
        node = self[name]
        return StageSpec(
            resource=self.resource,
            stage=name,
            digest=node.digest,
            params=node.params,
            inputs={role: f"{root}/stages/{self[need].folder}" for role, need in node.needs.items()},
            guards={
                role: guard
                for role, need in node.needs.items()
                if (guard := self[need].guard) and guard.decide in node.needs
            },
            output_uri=f"{root}/stages/{node.folder}",
            role=getattr(runtime, ROLES[node.kind]),
            attempt=attempt,
        )


def recipe(resource: Resource) -> Recipe | TeacherProbeSpec:
    """The part of a spec that says what is made: student, questions, curation, training, evaluation."""
    return resource.spec.job if isinstance(resource, DistillationStudy) else resource.spec


class Builder:
    """Adds nodes in order and makes their digests.

    With `share`, work that is there under another name is not added again, and a name that stands for other work
    already gets a number.
    """

    def __init__(self, sources: Mapping[str, str], *, share: bool = False) -> None:
        self._sources = sources
        self._share = share
        self._nodes: dict[str, Node] = {}
        self._names: dict[str, str] = {}
        """Of the work that is there, by digest."""

    def add(self, name: str, params: StageParams, guard: Guard | None = None, /, **needs: str) -> str:
        dumped = params.model_dump(mode="json", by_alias=True)
        if isinstance(params, ReportParams):
            # Two jobs that differ in their name alone still have a report each.
            uris: set[str] = set()
        else:
            uris = _uris(dumped)
        content = {
            "params": dumped,
            "needs": {role: self._nodes[need].digest for role, need in needs.items() if role != ALREADY_DRAWN},
            "version": STAGE_VERSIONS[params.kind],
            "sources": {uri: self._sources[uri] for uri in sorted(uris) if uri in self._sources},
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        if self._share:
            if digest in self._names:
                return self._names[digest]
            name = next(free for free in _numbered(name) if free not in self._nodes)
            self._names[digest] = name
        self._nodes[name] = Node(name, params, needs, digest, guard)
        return name

    def nodes(self) -> tuple[Node, ...]:
        return tuple(self._nodes.values())


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in itertools.count(2):
        yield f"{name}-{number}"


def _uris(value: object) -> set[str]:
    """Every string under a key `uri`, at any depth."""
    if isinstance(value, dict):
        own = {value["uri"]} if isinstance(value.get("uri"), str) else set()
        return own.union(*map(_uris, value.values()))
    if isinstance(value, list):
        return set().union(*map(_uris, value))
    return set()


def source_uris(resource: Resource) -> set[str]:
    """The URIs that a resource reads from."""
    if isinstance(resource, DistillationStudy):
        return set().union(*(_uris(arm.recipe.model_dump(mode="json", by_alias=True)) for arm in arms(resource.spec)))
    return _uris(resource.spec.model_dump(mode="json", by_alias=True, exclude={"output"}))
