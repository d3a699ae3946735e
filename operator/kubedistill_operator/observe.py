"""From Jobs and their pods to what reconcile sees. Pure; objects are JSON as the API server gives them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from kubedistill_api.observed import QUEUED, Cause, Child, ChildState
from kubedistill_api.stage import ExitCode, StageResult
from kubedistill_api.status import Progress
from kubedistill_operator.children import RULE_EXITS
from kubedistill_operator.lost import Loss, has_ended
from kubedistill_operator.names import ATTEMPT_LABEL, DIGEST_LABEL, INDEX_LABEL, QUEUE_LABEL, STAGE_LABEL
from kubedistill_operator.templates import CONTAINER

Object = dict[str, Any]

SIGTERM_EXIT = 143
KILLED_EXIT = 137
DISRUPTIONS = {
    "PreemptionByScheduler": Cause.PREEMPTED,
    "EvictionByEvictionAPI": Cause.EVICTED,
    "TerminationByKubelet": Cause.EVICTED,
    "DeletionByTaintManager": Cause.NODE_LOST,
    "DeletionByPodGC": Cause.NODE_LOST,
}
UNSEEN_ENDS = ("Unknown", "ContainerStatusUnknown")
"""Reasons of a container whose end nobody saw: its machine was off. The exit code is not the program's, but one that
containerd or the kubelet fills in."""
EXITS = {
    ExitCode.BAD_INPUT: Cause.BAD_INPUT,
    ExitCode.TRY_AGAIN: Cause.TRY_AGAIN,
    ExitCode.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
}
FIXES = {
    "Unschedulable": "",
    "ImagePullBackOff": "check the runtime's image and its pull secret",
    "ErrImagePull": "check the runtime's image and its pull secret",
    "InvalidImageName": "correct the runtime's image",
    "CreateContainerConfigError": "create what is missing; the pod goes on by itself",
}
SHOWN = 600
"""Characters of a message that are shown."""


def child(
    job: Object,
    pods: Sequence[Object],
    digest: str,
    progress: Progress | None,
    trouble: str = "",
    losses: Sequence[Loss] = (),
) -> Child:
    """One Job as a child. `digest` is the full digest of the stage that it was started for, where its label fits;
    `trouble` is the newest complaint of the Job controller, which has no field in the Job; `losses` tell of pods whose
    node is away."""
    metadata, spec, status = job["metadata"], job.get("spec", {}), job.get("status", {})
    labels = metadata["labels"]
    first = first_pod(pods)
    base = {
        "stage": labels[STAGE_LABEL],
        "attempt": int(labels[ATTEMPT_LABEL]),
        "digest": digest if digest.startswith(labels[DIGEST_LABEL]) else labels[DIGEST_LABEL],
        "pod": first["metadata"]["name"] if first else None,
        "started": _time(status.get("startTime")),
    }
    conditions = {c["type"]: c for c in status.get("conditions", ()) if c.get("status") == "True"}
    if "Complete" in conditions:
        return Child(**base, state="succeeded", exit_code=0)
    if "Failed" in conditions:
        cause, code, message = _why(conditions["Failed"], pods)
        return Child(**base, state="failed", cause=cause, exit_code=code, message=message)
    deleted = bool(metadata.get("deletionTimestamp"))
    for one in losses:
        if one.lost:
            return Child(**base, state="failed", cause=Cause.NODE_LOST, message=one.message, remains=not deleted)
    away = ("NodeUnreachable", losses[0].message) if losses else ("", "")
    if deleted:
        return Child(**base, state="stopping", reason=away[0], message=away[1])
    if spec.get("suspend"):
        return Child(**base, state="pending", reason=QUEUED, message=_queued(metadata))
    state, reason, message = _state(pods, int(spec.get("parallelism", 1)), trouble)
    if losses:
        reason, message = away
    partly = state == "pending" and 0 < sum(map(_is_placed, pods)) < int(spec.get("parallelism", 1))
    return Child(**base, state=state, reason=reason, message=message, progress=progress, partly=partly)


def first_pod(pods: Sequence[Object]) -> Object | None:
    """The newest pod of index 0: it drives the stage and leaves the result."""
    own = [pod for pod in pods if pod["metadata"].get("labels", {}).get(INDEX_LABEL) == "0"]
    return max(own, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)


def have_ended(pods: Sequence[Object]) -> bool:
    """Whether there are pods, and each of them is known to have ended."""
    return bool(pods) and all(map(has_ended, pods))


def result(pods: Sequence[Object]) -> StageResult | None:
    """The result that index 0 left as its termination message."""
    for pod in pods:
        if pod["metadata"].get("labels", {}).get(INDEX_LABEL) != "0":
            continue
        ended = _terminated(pod)
        if ended and ended.get("exitCode") == 0 and ended.get("message"):
            try:
                return StageResult.model_validate_json(ended["message"])
            except ValidationError:
                continue
    return None


def _queued(metadata: Object) -> str:
    queue = metadata["labels"].get(QUEUE_LABEL)
    if queue:
        return f"waits to be admitted by Kueue's queue {queue} (kubectl get workloads)"
    name = metadata["name"]
    return f"Job {name} is suspended, and is in no queue: who suspended it resumes it (kubectl edit job {name})"


def _state(pods: Sequence[Object], wanted: int, trouble: str) -> tuple[ChildState, str, str]:
    phases = [pod.get("status", {}).get("phase") for pod in pods]
    if sum(phase in ("Running", "Succeeded") for phase in phases) >= wanted:
        return "running", "", ""
    # Of a pod that runs into trouble on its node, and one that has none, the second holds up the others.
    for pod in sorted(pods, key=_is_placed):
        if complaint := _complaint(pod):
            return "pending", *complaint
    if len(pods) < wanted and trouble:
        quota = "exceeded quota" in trouble
        fix = "; it starts when quota is free" if quota else ""
        return "pending", "QuotaExceeded" if quota else "PodsNotCreated", f"{trouble[:SHOWN]}{fix}"
    return "pending", "", ""


def _is_placed(pod: Object) -> bool:
    """Whether the pod takes room on a node."""
    status = pod.get("status", {})
    return status.get("phase") == "Running" or (bool(pod.get("spec", {}).get("nodeName")) and not has_ended(pod))


def _complaint(pod: Object) -> tuple[str, str] | None:
    """Why a pod does not run, with the pod's name and what to do."""
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    if status.get("phase") != "Pending":
        return None
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            fix = FIXES.get(reason, "")
            said = f"pod {name}: {waiting.get('message') or reason}"
            return reason, f"{said[:SHOWN]}; {fix}" if fix else said[:SHOWN]
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            said = f"pod {name}: {condition.get('message', '')}"[:SHOWN]
            since = _time(condition.get("lastTransitionTime"))
            return condition.get("reason") or "Unschedulable", f"{said}{_since(since)}"
    return None


def _why(failed: Object, pods: Sequence[Object]) -> tuple[Cause, int | None, str]:
    """Cause, exit code and message of a Job that failed. A pod tells more than the Job, but may be gone."""
    if failed.get("reason") == "DeadlineExceeded":
        return Cause.DEADLINE, None, "one attempt took longer than the runtime's activeDeadlineSeconds"
    ends = sorted(filter(None, map(_end, pods)), key=lambda end: end[0])
    # What others did because the first one ended is not the cause.
    for wanted in (Cause.BAD_INPUT, Cause.OUT_OF_MEMORY, None):
        for _, cause, code, message in ends:
            if wanted in (None, cause):
                return cause, code, message
    said = str(failed.get("message", ""))
    if failed.get("reason") == "PodFailurePolicy":
        for index, exit_code in RULE_EXITS.items():
            if f"rule at index {index}" in said:
                return EXITS[exit_code], int(exit_code), said
        return Cause.EVICTED, None, said
    if not pods:
        return Cause.DELETED, None, "its pods are gone; somebody deleted them, or their node"
    return Cause.APPLICATION, None, said


def _end(pod: Object) -> tuple[str, Cause, int | None, str] | None:
    """When and why a pod failed; None for one that did not."""
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    ended = _terminated(pod) or {}
    code = ended.get("exitCode")
    when = str(ended.get("finishedAt") or pod["metadata"].get("deletionTimestamp") or "9")
    for condition in status.get("conditions", ()):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            cause = DISRUPTIONS.get(condition.get("reason", ""), Cause.EVICTED)
            node = pod.get("spec", {}).get("nodeName", "")
            return when, cause, code, f"pod {name} on {node}: {condition.get('message') or condition.get('reason')}"
    if status.get("reason") == "Evicted":
        return when, Cause.EVICTED, code, f"pod {name}: {status.get('message', '')}"
    if status.get("phase") != "Failed":
        return None
    said = str(ended.get("message") or "").strip()
    if ended.get("reason") in UNSEEN_ENDS:
        # Before all others: what pods of other machines did, they did for want of this one.
        where = pod.get("spec", {}).get("nodeName", "")
        return "", Cause.NODE_LOST, code, f"pod {name}: node {where} started anew, and nobody saw how the pod ended"
    if ended.get("reason") == "OOMKilled":
        return when, Cause.OUT_OF_MEMORY, code, f"pod {name} used more memory than its limit"
    if code in EXITS:
        nothing = "a process was killed for memory" if code == ExitCode.OUT_OF_MEMORY else f"exit code {code}"
        return when, EXITS[ExitCode(code)], code, f"pod {name}: {said or nothing}"
    if pod["metadata"].get("deletionTimestamp") and code in (SIGTERM_EXIT, KILLED_EXIT):
        return when, Cause.DELETED, code, f"pod {name} was deleted"
    what = f"exit code {code}" if code is not None else str(status.get("message") or status.get("reason") or "failed")
    return when, Cause.APPLICATION, code, f"pod {name}: {what}" + (f": {said[-SHOWN:]}" if said else "")


def _terminated(pod: Object) -> Object | None:
    for container in pod.get("status", {}).get("containerStatuses", ()):
        if container.get("name") == CONTAINER:
            return container.get("state", {}).get("terminated")  # type: ignore[no-any-return]
    return None


def _since(moment: datetime | None) -> str:
    return f"; so since {moment.astimezone(UTC):%H:%M:%S} UTC" if moment else ""


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
