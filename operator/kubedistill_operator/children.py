"""Manifests of what the operator makes for a resource. Pure."""

import json
import re
from typing import Any

from kubedistill_api.base import API_VERSION
from kubedistill_api.graph import RUN_FIELDS, Graph, Node, Resource
from kubedistill_api.job import DistillationJob
from kubedistill_api.probe import Candidate
from kubedistill_api.runtime import RoleSpec, RuntimeSpec
from kubedistill_api.stage import ROLES, ExitCode, StageSpec
from kubedistill_api.study import DistillationStudy
from kubedistill_operator.names import PRIORITY_LABEL, QUEUE_LABEL, child_name, labels, plan_name, stage_labels
from kubedistill_operator.templates import Manifest, pod_template, secret_refs

RUNTIME_KEY = "runtime.json"
TEACHER_KEY = "teacher.json"
STUDY_KEY = "study.json"
RAY_KINDS = ("sample", "baseline", "evaluate", "curate")
KEEP_S = 24 * 3600
"""A child that ended is kept so long, for its logs."""
RULE_EXITS = {0: ExitCode.BAD_INPUT, 1: ExitCode.TRY_AGAIN, 3: ExitCode.OUT_OF_MEMORY}
"""Exit code by the index of the rule in `podFailurePolicy`, which the Job's condition names."""

_CLAIM = re.compile(r'"pvc://([^/"]+)')


def owner(resource: Resource) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": API_VERSION,
            "kind": resource.kind,
            "name": resource.metadata.name,
            "uid": resource.metadata.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def storage_root(runtime: RuntimeSpec, namespace: str) -> str:
    """URI below which a namespace's stages lie."""
    assert runtime.storage.uri is not None
    return f"{runtime.storage.uri.rstrip('/')}/{namespace}"


def plan_map(resource: Resource, graph: Graph, runtime: RuntimeSpec, teacher: Candidate | None) -> Manifest:
    """The ConfigMap with the runtime and a study as they were when the resource began, and what each stage is to do."""
    root = storage_root(runtime, resource.metadata.namespace)
    data = {RUNTIME_KEY: runtime.model_dump_json(by_alias=True, exclude_defaults=True)}
    if teacher:
        data[TEACHER_KEY] = teacher.model_dump_json(by_alias=True, exclude_none=True)
    if isinstance(resource, DistillationStudy):
        # As it was written: the report's digest is made of the fields that were set.
        data[STUDY_KEY] = resource.spec.model_dump_json(by_alias=True, exclude=RUN_FIELDS, exclude_unset=True)
    for node in graph.nodes:
        data[f"{node.name}.json"] = _stage_spec(resource, graph, node, runtime, root).model_dump_json(by_alias=True)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": plan_name(resource),
            "namespace": resource.metadata.namespace,
            "labels": labels(resource),
            "ownerReferences": owner(resource),
        },
        "immutable": True,
        "data": data,
    }


def _stage_spec(resource: Resource, graph: Graph, node: Node, runtime: RuntimeSpec, root: str) -> StageSpec:
    spec = graph.stage_spec(node.name, root, runtime)
    update: dict[str, Any] = {"role": spec.role.model_copy(update={"template": {}})}
    if node.kind == "report" and isinstance(resource, DistillationJob) and resource.spec.output:
        update["deliver_to"] = resource.spec.output.uri
    return spec.model_copy(update=update)


def stage_children(
    resource: Resource, graph: Graph, runtime: RuntimeSpec, stage: str, attempt: int
) -> tuple[Manifest, Manifest | None]:
    """The Job of one attempt, and the headless Service where it has several pods.

    Raises BadTemplate.
    """
    node = graph[stage]
    role: RoleSpec = getattr(runtime, ROLES[node.kind])
    name, namespace = child_name(resource, stage, attempt), resource.metadata.namespace
    several = role.replicas > 1
    marks = stage_labels(resource, stage, attempt, node.digest)
    root = storage_root(runtime, namespace)
    spec = _stage_spec(resource, graph, node, runtime, root)
    template = pod_template(
        role,
        runtime.image,
        labels=marks,
        digest=node.digest,
        config_map=plan_name(resource),
        key=f"{stage}.json",
        claims=_claims(spec),
        secrets=secret_refs(node.params),
        head=f"{name}-0.{name}" if several else None,
        service=name if several else None,
        attempt=attempt,
        priority_class=resource.spec.priority_class_name,
    )
    metadata: Manifest = {
        "name": name,
        "namespace": namespace,
        "labels": dict(marks),
        "ownerReferences": owner(resource),
    }
    job_spec: Manifest = {
        "completionMode": "Indexed",
        "completions": role.replicas,
        "parallelism": role.replicas,
        # Attempts are counted by the resource: another one is another Job, and all pods of an attempt end together.
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "ttlSecondsAfterFinished": KEEP_S,
        "podFailurePolicy": {"rules": _failure_rules()},
        "template": template,
    }
    if several and node.kind in RAY_KINDS:
        # The driver is index 0; the others serve it, and end when it does.
        job_spec["successPolicy"] = {"rules": [{"succeededIndexes": "0"}]}
    if role.active_deadline_seconds:
        job_spec["activeDeadlineSeconds"] = role.active_deadline_seconds
    own = resource.metadata.labels
    labelled = {**metadata, "labels": {**marks, **_queued(own, own.get(QUEUE_LABEL) or runtime.queue_name)}}
    if QUEUE_LABEL in labelled["labels"]:
        # The queue starts it, and may put what it likes into the template meanwhile: the Job is never written again.
        job_spec["suspend"] = True
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": labelled, "spec": job_spec}
    return job, _service(metadata, name) if several else None


def _queued(own: dict[str, str], queue: str | None) -> dict[str, str]:
    """Labels that Kueue reads; none without a queue."""
    if not queue:
        return {}
    return {QUEUE_LABEL: queue} | ({PRIORITY_LABEL: own[PRIORITY_LABEL]} if own.get(PRIORITY_LABEL) else {})


def _failure_rules() -> list[Manifest]:
    disrupted = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [int(RULE_EXITS[index])]}}
        if index in RULE_EXITS
        else disrupted
        for index in range(len(RULE_EXITS) + 1)
    ]


def _service(metadata: Manifest, name: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": dict(metadata),
        "spec": {
            "clusterIP": "None",
            # The pods find each other before they are ready.
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": name},
        },
    }


def owned_by_job(service: Manifest, job: Manifest) -> Manifest:
    """The Service as the Job's, so that it goes when the Job does. It is made before the Job, whose pods need it, and
    so cannot be the Job's from the beginning."""
    reference = {"apiVersion": "batch/v1", "kind": "Job", "controller": True}
    reference |= {key: job["metadata"][key] for key in ("name", "uid")}
    metadata = {**service["metadata"], "ownerReferences": [reference]}
    return {**service, "kind": "Service", "apiVersion": "v1", "metadata": metadata}


def is_of_a_job(service: Manifest) -> bool:
    return any(owner["kind"] == "Job" for owner in service["metadata"].get("ownerReferences", ()))


def _claims(spec: StageSpec) -> dict[str, bool]:
    """Claims that a stage mounts, and whether it only reads them."""
    written = _named(spec.output_uri) | _named(getattr(spec, "deliver_to", None) or "")
    return {claim: claim not in written for claim in _CLAIM.findall(spec.model_dump_json(by_alias=True))}


def _named(uri: str) -> set[str]:
    return set(_CLAIM.findall(json.dumps(uri)))
