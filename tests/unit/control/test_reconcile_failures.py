"""Reconcile, case by case: children that fail, vanish, or are not its own."""

from dataclasses import replace
from datetime import timedelta

import pytest

from kubedistill_api.conditions import find
from kubedistill_api.observed import Cause, Child, StartStage, StopStage
from kubedistill_api.reconcile import next_look
from kubedistill_api.retries import DISRUPTED, TRY_AGAINS
from tests.unit.control.cluster_model import POLICY, Cluster, job, running, stage_of


def fail_until_it_ends(cluster: Cluster, cause: Cause) -> int:
    """How many times prepare was started until the job failed."""
    for n in range(1, 50):
        cluster.fail(running(cluster, "prepare"), cause)
        cluster.look()
        if cluster.status.phase == "Failed":
            return n
        pause = next_look(cluster.resource, cluster.status, cluster.now, POLICY)
        assert pause > timedelta(), "no back-off"
        assert cluster.look() == (), "started before the back-off was over"
        cluster.advance(pause.total_seconds())
    return 0


def test_application_errors_are_retried_up_to_the_backoff_limit() -> None:
    cluster = Cluster(job(backoffLimit=2))
    assert fail_until_it_ends(cluster, Cause.APPLICATION) == 3
    condition = find(cluster.status.conditions, "Failed")
    assert condition.reason == "BackoffLimitExceeded"
    assert "prepare" in condition.message
    assert "ApplicationError in prepare" in condition.message


def test_back_off_doubles_up_to_its_cap() -> None:
    waits = [POLICY.delay(10, n).total_seconds() for n in range(1, 10)]
    assert waits[:4] == [10, 20, 40, 80]
    assert waits[-1] == 600


def test_try_again_has_its_own_bound_and_does_not_use_up_the_backoff_limit() -> None:
    cluster = Cluster(job(backoffLimit=0))
    assert fail_until_it_ends(cluster, Cause.TRY_AGAIN) == POLICY.try_again_limit + 1
    stage = stage_of(cluster.status, "prepare")
    assert (stage.failures, stage.metrics[TRY_AGAINS]) == (0, POLICY.try_again_limit + 1)


@pytest.mark.parametrize("cause", [Cause.BAD_INPUT, Cause.OUT_OF_MEMORY, Cause.DEADLINE])
def test_some_failures_end_the_job_at_once(cause: Cause) -> None:
    cluster = Cluster()
    assert fail_until_it_ends(cluster, cause) == 1
    assert find(cluster.status.conditions, "Failed").reason == cause


def test_running_out_of_memory_says_what_to_do() -> None:
    cluster = Cluster()
    fail_until_it_ends(cluster, Cause.OUT_OF_MEMORY)
    assert "lower the batch" in find(cluster.status.conditions, "Failed").message


@pytest.mark.parametrize("cause", [Cause.PREEMPTED, Cause.EVICTED, Cause.NODE_LOST])
def test_disruptions_are_free_but_not_without_back_off(cause: Cause) -> None:
    cluster = Cluster(job(backoffLimit=0))
    assert fail_until_it_ends(cluster, cause) == 0
    stage = stage_of(cluster.status, "prepare")
    assert (stage.failures, stage.metrics[DISRUPTED]) == (0, 49)


def test_retries_are_no_figures_of_a_stage_that_succeeded() -> None:
    cluster = Cluster()
    cluster.fail(running(cluster, "prepare"), Cause.PREEMPTED)
    cluster.settle()
    assert DISRUPTED not in stage_of(cluster.status, "prepare").metrics


def test_a_child_that_was_deleted_by_hand_is_started_again_under_a_new_attempt() -> None:
    cluster = Cluster()
    cluster.remove(running(cluster, "prepare"))
    cluster.look()
    assert stage_of(cluster.status, "prepare").reason == "Vanished"
    cluster.advance(60)
    assert cluster.look() == (StartStage("prepare", 1),)


def test_a_child_that_was_out_of_sight_for_one_look_goes_on() -> None:
    cluster = Cluster()
    running(cluster, "prepare")
    cluster.look(stale_children=100)
    assert stage_of(cluster.status, "prepare").reason == "Vanished"
    assert cluster.look() == ()
    assert (stage_of(cluster.status, "prepare").state, stage_of(cluster.status, "prepare").attempt) == ("Running", 0)


def test_a_child_that_ended_well_without_a_result_is_started_again() -> None:
    cluster = Cluster()
    child = running(cluster, "prepare")
    cluster.children["prepare", 0] = replace(child, state="succeeded")
    cluster.record()
    cluster.look()
    assert "result is not there" in stage_of(cluster.status, "prepare").message
    cluster.advance(60)
    assert cluster.look() == (StartStage("prepare", 1),)


def test_failed_children_are_counted_once_also_when_the_status_was_lost() -> None:
    cluster = Cluster()
    cluster.fail(running(cluster, "prepare"), Cause.APPLICATION)
    cluster.status = None
    cluster.record()
    cluster.look()
    cluster.look()
    stage = stage_of(cluster.status, "prepare")
    assert (stage.failures, stage.attempt) == (1, 1)


def test_a_running_child_is_adopted_when_the_status_was_lost() -> None:
    cluster = Cluster()
    running(cluster, "prepare")
    cluster.status = None
    cluster.record()
    assert cluster.look() == ()
    assert stage_of(cluster.status, "prepare").state == "Running"


def test_a_child_of_other_work_is_not_adopted() -> None:
    cluster = Cluster()
    cluster.children["prepare", 0] = Child("prepare", 0, "0" * 64, "running")
    cluster.record()
    assert cluster.look() == (StopStage("prepare", 0),)
    assert stage_of(cluster.status, "prepare").reason == "Stopping"
    assert cluster.look() == (), "two attempts at once"
    cluster.end_stopping(cluster.children["prepare", 0])
    assert cluster.look() == (StartStage("prepare", 1),)


def test_a_child_of_no_stage_is_stopped() -> None:
    cluster = Cluster()
    cluster.children["old", 0] = Child("old", 0, "0" * 64, "running")
    cluster.record()
    assert StopStage("old", 0) in cluster.look()


def test_a_failed_job_stops_what_still_runs() -> None:
    cluster = Cluster()
    cluster.succeed(running(cluster, "prepare"))
    running(cluster, "baseline")
    cluster.fail(running(cluster, "sample"), Cause.BAD_INPUT)
    assert cluster.look() == (StopStage("baseline", 0),)
    assert cluster.look() == ()
    assert stage_of(cluster.status, "baseline").state == "Waiting"


def test_a_child_on_a_lost_node_is_told_to_end_and_the_next_attempt_does_not_wait_for_it() -> None:
    cluster = Cluster(job(backoffLimit=0))
    child = running(cluster, "prepare")
    silent = replace(child, reason="NodeUnreachable", message="pod p on node n: silent")
    cluster.children["prepare", 0] = silent
    cluster.record()
    cluster.look()
    assert find(cluster.status.conditions, "Progressing").reason == "NodeUnreachable"
    assert "node n" in find(cluster.status.conditions, "Progressing").message
    lost = replace(child, state="failed", cause=Cause.NODE_LOST, message="lost", remains=True)
    cluster.children["prepare", 0] = lost
    cluster.record()
    assert cluster.look() == (StopStage("prepare", 0),)
    assert stage_of(cluster.status, "prepare").reason == Cause.NODE_LOST
    cluster.children["prepare", 0] = replace(lost, remains=False)
    cluster.record()
    cluster.advance(60)
    assert cluster.look() == (StartStage("prepare", 1),)


def test_a_stopped_child_that_does_not_end_is_spoken_of() -> None:
    cluster = Cluster()
    child = running(cluster, "prepare")
    cluster.change(job(suspend=True))
    cluster.look()
    cluster.children["prepare", 0] = replace(child, state="stopping", reason="NodeUnreachable", message="pod p, node n")
    cluster.record()
    cluster.change(job())
    cluster.look()
    condition = find(cluster.status.conditions, "Progressing")
    assert (condition.reason, condition.message) == ("NodeUnreachable", "prepare: pod p, node n")
