"""What Jobs and pods in every state are taken for, from what the store keeps of them."""

import pytest

from kubedistill_api.observed import Cause
from kubedistill_operator import observe
from kubedistill_operator.names import ATTEMPT_LABEL, DIGEST_LABEL, INDEX_LABEL, QUEUE_LABEL, STAGE_LABEL
from kubedistill_operator.slim import slim

DIGEST = "d" * 64


def job(conditions=(), **metadata):
    labels = {STAGE_LABEL: "train", ATTEMPT_LABEL: "2", DIGEST_LABEL: DIGEST[:63]}
    true = [{"type": kind, "status": "True", **more} for kind, more in conditions]
    item = {
        "metadata": {"name": "demo-train", "labels": labels, **metadata},
        "spec": {"parallelism": 1},
        "status": {"startTime": "2026-01-01T00:00:00Z", "conditions": true},
    }
    return slim("Job", item)


def pod(phase="Running", index="0", *, terminated=None, waiting=None, conditions=(), name="pod-0", **more):
    state = {"terminated": terminated} if terminated else {"waiting": waiting} if waiting else {"running": {}}
    containers = [{"name": "stage", "state": state}]
    item = {
        "metadata": {"name": name, "labels": {INDEX_LABEL: index}, **more.pop("metadata", {})},
        "spec": more.pop("spec", {"nodeName": "node-1"}),
        "status": {"phase": phase, "conditions": list(conditions), **more, "containerStatuses": containers},
    }
    return slim("Pod", item)


def failed(*pods, reason="BackoffLimitExceeded", message=""):
    return observe.child(job([("Failed", {"reason": reason, "message": message})]), pods, DIGEST, None)


def died(code, *, at="2026-01-01T00:00:05Z", **more):
    ended = {"exitCode": code, "finishedAt": at} | {k: more.pop(k) for k in ("message", "reason") if k in more}
    return pod("Failed", terminated=ended, **more)


def test_the_labels_say_whose_it_is() -> None:
    child = observe.child(job(), [pod()], DIGEST, None)
    assert (child.stage, child.attempt, child.digest, child.state, child.pod) == (
        "train", 2, DIGEST, "running", "pod-0",
    )  # fmt: skip


def test_other_work_than_planned_keeps_its_own_digest() -> None:
    assert observe.child(job(), [], "e" * 64, None).digest == DIGEST[:63]


@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        ([pod("Pending", waiting={"reason": "ImagePullBackOff", "message": "no such image"})], "ImagePullBackOff"),
        ([pod("Pending", waiting={"reason": "ContainerCreating"})], ""),
        (
            [pod("Pending", conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}])],
            "Unschedulable",
        ),
    ],
)
def test_a_pending_pod_says_why(pods, reason: str) -> None:
    child = observe.child(job(), pods, DIGEST, None)
    assert (child.state, child.reason) == ("pending", reason)


def test_a_quota_is_told_by_the_controllers_complaint() -> None:
    child = observe.child(job(), [], DIGEST, None, 'pods "x" is forbidden: exceeded quota: none')
    assert (child.state, child.reason) == ("pending", "QuotaExceeded")


@pytest.mark.parametrize(
    ("second", "partly"),
    [
        ([], True),
        ([pod("Pending", "1", name="pod-1", spec={})], True),
        ([pod("Pending", "1", name="pod-1")], False),
        ([pod("Running", "1", name="pod-1")], False),
    ],
)
def test_places_for_some_pods_only_are_told(second, partly: bool) -> None:
    item = job()
    item["spec"]["parallelism"] = 2
    assert observe.child(item, [pod(), *second], DIGEST, None).partly is partly
    assert not observe.child(item, [], DIGEST, None).partly


def test_of_two_complaints_that_of_the_pod_without_a_node_is_told() -> None:
    item = job()
    item["spec"]["parallelism"] = 2
    no_node = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    pods = [
        pod("Pending", waiting={"reason": "ErrImagePull"}),
        pod("Pending", "1", conditions=no_node, name="pod-1", spec={}),
    ]
    assert observe.child(item, pods, DIGEST, None).reason == "Unschedulable"


def test_a_suspended_job_waits_in_a_queue() -> None:
    item = job()
    item["spec"]["suspend"] = True
    assert observe.child(item, [], DIGEST, None).reason == "Queued"
    assert "no queue" in observe.child(item, [], DIGEST, None).message
    item["metadata"]["labels"][QUEUE_LABEL] = "gpus"
    child = observe.child(item, [pod(metadata={"deletionTimestamp": "2026-01-01T00:00:09Z"})], DIGEST, None)
    assert (child.state, child.reason, child.partly) == ("pending", "Queued", False)
    assert "queue gpus" in child.message


def test_a_job_under_deletion_is_alive_until_its_pods_are_gone() -> None:
    child = observe.child(job(deletionTimestamp="2026-01-01T00:00:09Z"), [pod()], DIGEST, None)
    assert child.state == "stopping"
    assert child.alive


@pytest.mark.parametrize(
    ("one", "cause"),
    [
        (died(65, message="bad"), Cause.BAD_INPUT),
        (died(75), Cause.TRY_AGAIN),
        (died(1, message="Traceback"), Cause.APPLICATION),
        (died(137, reason="OOMKilled"), Cause.OUT_OF_MEMORY),
        (died(71, message="CUDA out of memory"), Cause.OUT_OF_MEMORY),
        (died(71), Cause.OUT_OF_MEMORY),
        (died(137), Cause.APPLICATION),
        (died(255, reason="Unknown"), Cause.NODE_LOST),
        (died(137, reason="ContainerStatusUnknown"), Cause.NODE_LOST),
        (died(143, metadata={"deletionTimestamp": "2026-01-01T00:00:01Z"}), Cause.DELETED),
        (pod("Failed", reason="Evicted", message="disk pressure"), Cause.EVICTED),
        (
            died(143, conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]),
            Cause.PREEMPTED,
        ),
        (
            died(143, conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]),
            Cause.NODE_LOST,
        ),
    ],
)
def test_the_pod_tells_the_cause(one, cause: Cause) -> None:
    child = failed(one)
    assert (child.state, child.cause) == ("failed", cause)
    assert child.message


def test_of_several_pods_the_first_to_die_is_the_cause() -> None:
    late = died(1, at="2026-01-01T00:00:09Z", message="peer is gone", name="pod-1", index="1")
    assert "pod-0" in failed(late, died(1, message="boom")).message


def test_what_others_do_for_want_of_a_machine_that_was_off_is_not_the_cause() -> None:
    late = died(255, reason="Unknown", at="2026-01-01T00:00:09Z", name="pod-1", index="1")
    assert failed(died(75), late).cause is Cause.NODE_LOST


def test_wrong_input_and_memory_go_before_whoever_died_first() -> None:
    late = died(65, at="2026-01-01T00:00:09Z", message="bad", name="pod-1", index="1")
    assert failed(died(1), late).cause is Cause.BAD_INPUT


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("Container stage failed with exit code 65 matching FailJob rule at index 0", Cause.BAD_INPUT),
        ("Container stage failed with exit code 75 matching FailJob rule at index 1", Cause.TRY_AGAIN),
        ("Pod has condition DisruptionTarget matching FailJob rule at index 2", Cause.EVICTED),
        ("Container stage failed with exit code 71 matching FailJob rule at index 3", Cause.OUT_OF_MEMORY),
    ],
)
def test_without_pods_the_policys_rule_tells(message: str, cause: Cause) -> None:
    assert failed(reason="PodFailurePolicy", message=message).cause is cause


def test_a_job_whose_pods_are_gone_was_meddled_with() -> None:
    assert failed().cause is Cause.DELETED


def test_a_jobs_own_deadline() -> None:
    assert failed(pod(), reason="DeadlineExceeded").cause is Cause.DEADLINE


def test_a_cut_result_is_no_result() -> None:
    assert observe.result([pod("Succeeded", terminated={"exitCode": 0, "message": '{"version": "v1al'})]) is None
