"""What a resource runs on: its runtime, its teacher and its plan, settled once and kept in a ConfigMap."""

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from kubedistill_api.conditions import holds
from kubedistill_api.graph import RUN_FIELDS, Graph, Resource
from kubedistill_api.job import DistillationJob
from kubedistill_api.observed import Hold
from kubedistill_api.planning import plan
from kubedistill_api.podfields import forbidden
from kubedistill_api.probe import Candidate, TeacherProbe
from kubedistill_api.runtime import NamespaceSelector, RuntimeSpec
from kubedistill_api.status import JobStatus, RuntimeStatus
from kubedistill_api.study import DistillationStudy, DistillationStudySpec
from kubedistill_operator.admission import DEFAULT_RUNTIME, refusals, teacher_refusals, with_deadline
from kubedistill_operator.children import RUNTIME_KEY, STUDY_KEY, TEACHER_KEY, plan_map
from kubedistill_operator.cluster import Cluster, Conflict, NotFound
from kubedistill_operator.names import plan_name
from kubedistill_operator.store import Store

log = logging.getLogger(__name__)

Place = tuple[str, str, str]
"""Kind, namespace and name."""


@dataclass(frozen=True)
class Settled:
    """What is decided once for a resource."""

    runtime: RuntimeSpec
    runtime_status: RuntimeStatus
    teacher: Candidate | None
    graph: Graph
    study: DistillationStudySpec | None = None
    """Of a study, what the graph was made from: the API server cannot keep values of any type from being changed."""
    caution: str = ""
    """What is to be said of the teacher, when it is decided."""


@dataclass(frozen=True)
class Waiting:
    """Nothing is decided yet."""

    hold: Hold
    place: Place | None = None
    """What is waited for: a change of it is a reason to look again."""


class Settler:
    """Settles resources, and remembers."""

    def __init__(self, cluster: Cluster, store: Store) -> None:
        self._cluster = cluster
        self._store = store
        self._known: dict[str, Settled] = {}
        self._runtimes: WeakValueDictionary[str, RuntimeSpec] = WeakValueDictionary()
        """By their digests, so that resources share what is equal."""

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)

    async def settle(self, resource: Resource) -> Settled | Waiting:
        """From memory, from the ConfigMap, or anew. Raises what the API server refuses."""
        uid = str(resource.metadata.uid)
        settled = self._known.get(uid)
        namespace, name = resource.metadata.namespace, plan_name(resource)
        there = self._store.get("ConfigMap", namespace, name)
        if settled is None and there:
            settled = await self._read(resource)
        if settled is None:
            decided = await self._decide(resource)
            if isinstance(decided, Waiting):
                return decided
            settled = await self._keep(resource, decided)
        elif not there:
            await self._keep(resource, settled)
        self._known[uid] = settled
        return settled

    async def _read(self, resource: Resource) -> Settled | None:
        try:
            data = (await self._cluster.get("ConfigMap", resource.metadata.namespace, plan_name(resource)))["data"]
        except NotFound:
            return None
        runtime = RuntimeSpec.model_validate_json(data[RUNTIME_KEY])
        teacher = Candidate.model_validate_json(data[TEACHER_KEY]) if TEACHER_KEY in data else None
        if isinstance(resource, DistillationStudy):
            study = DistillationStudySpec.model_validate_json(data[STUDY_KEY], strict=True)
            resource = resource.model_copy(update={"spec": study})
        return self._settled(resource, runtime, teacher)

    async def _keep(self, resource: Resource, settled: Settled) -> Settled:
        """Creates the ConfigMap. One that exists decides."""
        manifest = plan_map(as_settled(resource, settled), settled.graph, settled.runtime, settled.teacher)
        try:
            self._store.put("ConfigMap", await self._cluster.create(manifest))
        except Conflict:
            return await self._read(resource) or settled
        return settled

    async def _decide(self, resource: Resource) -> Settled | Waiting:
        runtime = await self._runtime(resource)
        if isinstance(runtime, Waiting):
            return runtime
        if wrong := refusals(resource, runtime):
            return Waiting(Hold("BadInput", "; ".join(wrong), final=True))
        teacher, caution = None, ""
        if isinstance(resource, DistillationJob) and resource.spec.teacher.probe_ref:
            found = self._winner(resource, resource.spec.teacher.probe_ref.name)
            if isinstance(found, Waiting):
                return found
            teacher, caution = found
            if wrong := list(teacher_refusals(f"spec.teacher.probeRef: {teacher.name}", teacher, runtime)):
                return Waiting(Hold("BadInput", "; ".join(wrong), final=True))
        return replace(self._settled(resource, runtime, teacher), caution=caution)

    def _settled(self, resource: Resource, runtime: RuntimeSpec, teacher: Candidate | None) -> Settled:
        kind, name = _runtime_ref(resource)
        content = json.dumps(runtime.model_dump(mode="json", by_alias=True, exclude_defaults=True), sort_keys=True)
        digest = "sha256:" + hashlib.sha256(content.encode()).hexdigest()
        return Settled(
            self._runtimes.setdefault(digest, runtime),
            RuntimeStatus(kind=kind, name=name, digest=digest),
            teacher,
            plan(resource, teacher=teacher),
            resource.spec if isinstance(resource, DistillationStudy) else None,
        )

    async def _runtime(self, resource: Resource) -> RuntimeSpec | Waiting:
        kind, name = _runtime_ref(resource)
        place = (kind, "" if kind == "ClusterDistillationRuntime" else resource.metadata.namespace, name)
        item = self._store.get(*place)
        if item is None:
            asked = "" if resource.spec.runtime_ref else "spec.runtimeRef is not set, and "
            message = f"{asked}there is no {kind} {name}; it goes on when there is one (kubectl get {kind.lower()}s)"
            return Waiting(Hold("RuntimeNotFound", message), place)
        spec = dict(item.get("spec", {}))
        allowed = spec.pop("allowedNamespaces", None)
        if allowed is not None and not await self._fits(NamespaceSelector.model_validate(allowed), resource):
            message = (
                f"spec.runtimeRef: {kind} {name} does not serve the namespace {resource.metadata.namespace} (its "
                "spec.allowedNamespaces); name another runtime, or ask the platform team: it goes on when it may"
            )
            return Waiting(Hold("RuntimeNotAllowed", message), place)
        runtime = RuntimeSpec.model_validate_json(json.dumps(spec))
        if kind == "DistillationRuntime" and (fields := forbidden(runtime)):
            message = (
                f"{kind} {name} has {', '.join(fields)}, which reach beyond the pod; leave them out, or ask the "
                "platform team for a ClusterDistillationRuntime"
            )
            return Waiting(Hold("RuntimeForbidden", message), place)
        if not runtime.storage.uri:
            message = f"{kind} {name} has no spec.storage.uri; set it to a claim, as pvc://CLAIM/PATH"
            return Waiting(Hold("RuntimeIncomplete", message), place)
        return runtime

    async def _fits(self, allowed: NamespaceSelector, resource: Resource) -> bool:
        namespace = resource.metadata.namespace
        if namespace in allowed.names or not allowed.match_labels:
            return allowed.fits(namespace, {})
        return allowed.fits(namespace, await self._cluster.namespace_labels(namespace))

    def _winner(self, job: DistillationJob, name: str) -> tuple[Candidate, str] | Waiting:
        place = ("TeacherProbe", job.metadata.namespace, name)
        item = self._store.get(*place)
        if item is None:
            message = f"spec.teacher.probeRef: there is no TeacherProbe {name}; it goes on when there is one"
            return Waiting(Hold("ProbeNotFound", message), place)
        status = JobStatus.model_validate(item.get("status") or {})
        if holds(status.conditions, "Failed"):
            message = f"spec.teacher.probeRef: TeacherProbe {name} failed (kubectl describe tprobe {name})"
            return Waiting(Hold("ProbeFailed", message, final=True), place)
        if not status.winner:
            message = f"waits for TeacherProbe {name}, which is {status.phase}"
            return Waiting(Hold("WaitingForProbe", message), place)
        probe = TeacherProbe.model_validate_json(json.dumps({k: item[k] for k in ("kind", "metadata", "spec")}))
        winner = next(candidate for candidate in probe.spec.candidates if candidate.name == status.winner)
        if status.outcome and status.outcome.outcome == "tie":
            return (
                winner,
                f"the teacher is {winner.name}, the best estimate of TeacherProbe {name}: {status.outcome.reason}",
            )
        return winner, ""


def _runtime_ref(resource: Resource) -> tuple[str, str]:
    ref = resource.spec.runtime_ref
    return (ref.kind, ref.name) if ref else ("ClusterDistillationRuntime", DEFAULT_RUNTIME)


def as_settled(resource: Resource, settled: Settled) -> Resource:
    """The resource as it was settled, under its runtime's limits; how it is run is what it says now."""
    if settled.study and isinstance(resource, DistillationStudy):
        now = {name: getattr(resource.spec, name) for name in _run_fields(resource.spec)}
        resource = resource.model_copy(update={"spec": settled.study.model_copy(update=now)})
    return with_deadline(resource, settled.runtime)


def departure(resource: Resource, settled: Settled) -> Hold | None:
    """Why a resource that says something else by now does not go on."""
    if settled.study is None or not isinstance(resource, DistillationStudy):
        return None
    was, now = (spec.model_dump(mode="json", exclude=RUN_FIELDS) for spec in (settled.study, resource.spec))
    changed = [f"spec.{name}" for name in was if was[name] != now[name]]
    if not changed:
        return None
    return Hold(
        "SpecChanged",
        f"{' and '.join(changed)} changed after the study had begun, and the change is not followed: set it back, and "
        "the study goes on; for other values make another study, which shares what is equal",
    )


def _run_fields(spec: DistillationStudySpec) -> set[str]:
    return RUN_FIELDS & type(spec).model_fields.keys()
