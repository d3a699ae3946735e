"""Pods that cannot end by themselves: their node is away, or does not do what it is told. Pure.

Kubernetes deletes the pods of a node that does not answer after their toleration (300 s by default), and then waits for
that node to confirm it, for ever. Whoever counts on these pods must stop counting at some point.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

Object = dict[str, Any]

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
AWAY = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")
SLACK = timedelta(seconds=10)
"""A kubelet may take so long to tell that a pod has ended."""
NODE_AWAY = timedelta(seconds=120)
"""A deleted pod of a node that does not answer counts as lost so long after its grace period."""
STUCK = timedelta(seconds=900)
"""The same where the node answers, or nobody knows; and for a pod that tolerates a node that is away."""


@dataclass(frozen=True)
class Unknown:
    """The operator may not read nodes."""


@dataclass(frozen=True)
class Loss:
    """A pod that should have ended, or whose node is away."""

    lost: bool
    """It is waited for no longer."""
    message: str
    """Which pod, on which node, since when, and what an administrator can do. The same at every look."""


def has_ended(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_suspect(pod: Object, now: datetime) -> bool:
    """Whether the pod's node is worth a look: the pod outlived its deletion, or the cluster holds its node for away."""
    if has_ended(pod) or not _node(pod):
        return False
    deleted = _moment(pod["metadata"].get("deletionTimestamp"))
    if deleted:
        return now > deleted + SLACK
    ready = _condition(pod, "Ready")
    return pod["status"].get("phase") == "Running" and ready is not None and ready.get("status") != "True"


def loss(pod: Object, node: Object | Unknown | None, now: datetime) -> Loss | None:
    """What became of a suspect pod on its node, None being a node that is not there; None for a pod that is well."""
    name, where = pod["metadata"]["name"], _node(pod)
    deleted = _moment(pod["metadata"].get("deletionTimestamp"))
    told = f"pod {name} on node {where}: "
    if node is None:
        return Loss(True, f"{told}there is no such node any more")
    standing, since = ("unknown", None) if isinstance(node, Unknown) else _standing(node)
    if standing == "out-of-service":
        return Loss(True, f"{told}the node is tainted as out of service")
    if standing == "away":
        due = deleted + NODE_AWAY if deleted else (since or now) + STUCK
        why = f"the node does not answer since {_clock(since)}" if since else "the node does not answer"
    elif deleted:
        due = deleted + STUCK
        why = f"it should have ended at {_clock(deleted)}, and the node does not end it"
    else:
        return None
    return Loss(now >= due, f"{told}{why}; it counts as lost from {_clock(due)} on, {_advice(where, standing)}")


def _advice(node: str, standing: str) -> str:
    if standing == "away":
        return (
            f"at once upon `kubectl taint node {node} {OUT_OF_SERVICE}=nodeshutdown:NoExecute` "
            f"(only if the machine is off) or `kubectl delete node {node}`"
        )
    return f"or once it has ended: see the kubelet and the storage of {node}"


def _standing(node: Object) -> tuple[Literal["out-of-service", "away", "ready"], datetime | None]:
    taints = {taint["key"]: taint for taint in node.get("spec", {}).get("taints") or ()}
    if OUT_OF_SERVICE in taints:
        return "out-of-service", None
    ready = _condition(node, "Ready")
    if ready and ready.get("status") != "True":
        return "away", _moment(ready.get("lastTransitionTime"))
    for key in AWAY:
        if key in taints:
            return "away", _moment(taints[key].get("timeAdded"))
    return "ready", None


def _node(pod: Object) -> str:
    return str(pod.get("spec", {}).get("nodeName") or "")


def _condition(item: Object, kind: str) -> Object | None:
    return next((c for c in item.get("status", {}).get("conditions") or () if c["type"] == kind), None)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _clock(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%H:%M:%S UTC")
