"""When a pod on a node that is away counts as lost, and what is said until then."""

from datetime import UTC, datetime, timedelta

import pytest

from kubedistill_api.observed import Cause
from kubedistill_operator import observe
from kubedistill_operator.lost import NODE_AWAY, OUT_OF_SERVICE, SLACK, STUCK, Loss, Unknown, is_suspect, loss
from kubedistill_operator.names import ATTEMPT_LABEL, DIGEST_LABEL, INDEX_LABEL, STAGE_LABEL

DELETED = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def pod(*, deleted: bool = True, phase: str = "Running", ready: str = "True", node: str = "node-1") -> dict:
    metadata: dict = {"name": "pod-0", "labels": {INDEX_LABEL: "0"}}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "Ready", "status": ready}]
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": phase, "conditions": conditions}}


def node(*taints: dict, ready: str = "True", since: str = "2025-12-31T23:54:00Z") -> dict:
    return {
        "spec": {"taints": list(taints)},
        "status": {"conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}]},
    }


AWAY = node(ready="Unknown")


def lost_at(one: dict, where: object, now: datetime) -> bool:
    found = loss(one, where, now)  # type: ignore[arg-type]
    assert found is not None
    assert "pod pod-0 on node node-1" in found.message
    return found.lost


def test_only_a_pod_that_outlived_its_deletion_or_is_not_ready_is_suspect() -> None:
    assert not is_suspect(pod(), DELETED)
    assert is_suspect(pod(), DELETED + SLACK + SECOND)
    assert not is_suspect(pod(phase="Failed"), DELETED + STUCK)
    assert not is_suspect(pod(node=""), DELETED + STUCK)
    assert not is_suspect(pod(deleted=False), DELETED + STUCK)
    assert is_suspect(pod(deleted=False, ready="False"), DELETED)


@pytest.mark.parametrize("where", [None, node({"key": OUT_OF_SERVICE, "effect": "NoExecute"}), AWAY])
def test_a_node_that_is_gone_or_given_up_loses_its_pods_at_once_and_one_that_is_silent_after_a_while(where) -> None:
    soon = DELETED + SLACK + SECOND
    assert lost_at(pod(), where, soon) == (where is not AWAY)
    assert lost_at(pod(), where, DELETED + NODE_AWAY)


@pytest.mark.parametrize("where", [node(), Unknown()])
def test_a_node_that_answers_or_may_not_be_read_is_not_waited_for_for_ever_either(where) -> None:
    assert not lost_at(pod(), where, DELETED + STUCK - SECOND)
    assert lost_at(pod(), where, DELETED + STUCK)


def test_a_pod_that_tolerates_its_silent_node_is_lost_after_a_while() -> None:
    since = datetime(2025, 12, 31, 23, 54, tzinfo=UTC)
    tolerant = pod(deleted=False, ready="False")
    assert not lost_at(tolerant, AWAY, since + STUCK - SECOND)
    assert lost_at(tolerant, AWAY, since + STUCK)
    assert loss(tolerant, node(), since + STUCK) is None


def test_until_then_it_is_said_which_pod_on_which_node_and_what_to_do_and_always_the_same() -> None:
    first, later = (loss(pod(), AWAY, DELETED + n * SECOND) for n in (20, 90))
    assert first == later
    assert first is not None
    assert "kubectl taint node node-1" in first.message
    assert "kubectl delete node node-1" in first.message
    assert "00:02:00 UTC" in first.message


def job(**metadata: str) -> dict:
    labels = {STAGE_LABEL: "train", ATTEMPT_LABEL: "0", DIGEST_LABEL: "d" * 63}
    return {"metadata": {"name": "j", "labels": labels, **metadata}, "spec": {"parallelism": 1}, "status": {}}


def test_a_lost_pod_fails_its_job_though_kubernetes_waits_for_it() -> None:
    child = observe.child(job(), [pod()], "d" * 64, None, losses=[Loss(True, "gone")])
    assert (child.state, child.cause, child.message, child.remains) == ("failed", Cause.NODE_LOST, "gone", True)
    deleted = observe.child(job(deletionTimestamp="x"), [pod()], "d" * 64, None, losses=[Loss(True, "gone")])
    assert (deleted.state, deleted.remains) == ("failed", False)


@pytest.mark.parametrize("metadata", [{}, {"deletionTimestamp": "2026-01-01T00:00:00Z"}])
def test_a_pod_that_may_be_lost_is_spoken_of(metadata: dict) -> None:
    child = observe.child(job(**metadata), [pod()], "d" * 64, None, losses=[Loss(False, "silent")])
    assert child.alive
    assert (child.reason, child.message) == ("NodeUnreachable", "silent")
