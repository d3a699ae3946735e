"""Reconcile, case by case: places, queues, suspension, deadlines and clocks."""

from dataclasses import replace
from datetime import timedelta

import pytest

from kubedistill_api.conditions import find
from kubedistill_api.observed import Cause, Hold, Observed, StartStage, StopStage
from kubedistill_api.reconcile import next_look, reconcile
from kubedistill_api.retries import GIVEN_BACK
from kubedistill_api.turns import Claim, Places, Turns
from tests.unit.control.cluster_model import POLICY, START, Cluster, job, result_of, running, stage_of


def assert_deadline_after(cluster: Cluster, seconds: int) -> None:
    """It runs until the last of so many seconds, and then its deadline is over."""
    cluster.advance(seconds - 1)
    cluster.look()
    assert cluster.status.phase == "Running"
    cluster.advance(1)
    cluster.look()
    assert find(cluster.status.conditions, "Failed").reason == "DeadlineExceeded"


def test_slots_bound_the_stages_that_run_at_once_and_the_plan_orders_them() -> None:
    cluster = Cluster(slots=1)
    cluster.succeed(running(cluster, "prepare"))
    assert cluster.look() == (StartStage("baseline", 0),)
    assert stage_of(cluster.status, "sample").reason == "WaitingForSlot"
    cluster.slots = 2
    assert cluster.look() == (StartStage("sample", 0),)


def test_who_waits_for_a_place_keeps_its_turn_says_for_what_and_starts_when_it_comes() -> None:
    theirs = Claim(START, "b", ("other",), "train")
    full = Turns("DistillationRuntime r", Places(1), "a", ("own",), {"b": 1}, (theirs,))
    status, actions = reconcile(job(), Cluster().graph, None, Observed(), START, turns=full)
    prepare = stage_of(status, "prepare")
    assert (actions, prepare.state, prepare.reason) == ((), "Waiting", "WaitingForPlace")
    assert prepare.message == "waits for one of 1 places on DistillationRuntime r; it is next"
    assert status.phase == "Pending"
    assert find(status.conditions, "Progressing").message == f"prepare: {prepare.message}"
    later = START + timedelta(seconds=1000)
    again, _ = reconcile(job(), Cluster().graph, status, Observed(), later, turns=full)
    assert stage_of(again, "prepare").waiting_since == START
    assert again.active_since is None
    free = replace(full, held={}, claims=())
    begun, actions = reconcile(job(), Cluster().graph, again, Observed(), later, turns=free)
    assert actions == (StartStage("prepare", 0),)
    assert stage_of(begun, "prepare").waiting_since is None


@pytest.mark.parametrize("how", ["suspended", "held", "done by another", "no bound"])
def test_who_cannot_take_its_turn_does_not_stand_in_the_line(how: str) -> None:
    full = Turns("DistillationRuntime r", Places(1), "a", ("own",), {"b": 1})
    graph = Cluster().graph
    waits, _ = reconcile(job(), graph, None, Observed(), START, turns=full)
    assert stage_of(waits, "prepare").waiting_since
    hold = Hold("SpecChanged", "") if how == "held" else None
    results = {graph["prepare"].digest: result_of(graph, "prepare", START)} if how == "done by another" else {}
    turns = None if how == "no bound" else full
    spec = job(suspend=how == "suspended")
    after, _ = reconcile(spec, graph, waits, Observed(results=results), START, turns=turns, hold=hold)
    prepare = stage_of(after, "prepare")
    assert (prepare.waiting_since, prepare.reason) == (None, "")


def test_one_look_takes_no_more_places_than_there_are() -> None:
    cluster = Cluster()
    cluster.succeed(running(cluster, "prepare"))
    one = Turns("DistillationRuntime r", Places(1), "a", ("own",), {})
    status, actions = reconcile(cluster.resource, cluster.graph, cluster.status, cluster.observe(), START, turns=one)
    assert actions == (StartStage("baseline", 0),)
    assert stage_of(status, "sample").message.endswith("; it is next")


def test_a_child_without_room_gives_a_wanted_place_back_for_free_and_no_other() -> None:
    cluster = Cluster(job(backoffLimit=0))
    cluster.look()
    (child,) = cluster.living()
    cluster._put(replace(child, started=cluster.now))
    cluster.advance(POLICY.pending_s + 1)
    cluster.look()
    assert stage_of(cluster.status, "prepare").state == "Starting"
    cluster._put(replace(child, started=START, wanted=True, message="no node"))
    assert cluster.look() == (StopStage("prepare", 0),)
    prepare = stage_of(cluster.status, "prepare")
    assert (prepare.state, prepare.reason, prepare.failures) == ("Waiting", "Unschedulable", 0)
    assert prepare.message == "no node; after 480 s it gave its place on the runtime to others"


def test_a_child_that_cannot_be_placed_shows_why() -> None:
    cluster = Cluster()
    cluster.look()
    pending = replace(cluster.living()[0], reason="Unschedulable", message="0/3 nodes have nvidia.com/gpu")
    cluster.children["prepare", 0] = pending
    cluster.record()
    cluster.look()
    condition = find(cluster.status.conditions, "Progressing")
    assert (condition.reason, condition.message) == ("Unschedulable", "prepare: 0/3 nodes have nvidia.com/gpu")


def test_suspending_stops_children_and_resuming_goes_on_under_a_new_attempt() -> None:
    cluster = Cluster()
    running(cluster, "prepare")
    cluster.change(job(suspend=True))
    assert cluster.look() == (StopStage("prepare", 0),)
    assert cluster.status.phase == "Suspended"
    cluster.settle()
    cluster.change(job())
    assert cluster.look() == (StartStage("prepare", 1),)
    assert cluster.status.phase == "Running"
    assert find(cluster.status.conditions, "Suspended").reason == "Resumed"


def test_time_suspended_does_not_count_against_the_deadline() -> None:
    cluster = Cluster(job(activeDeadlineSeconds=100))
    cluster.look()
    cluster.advance(60)
    cluster.change(job(suspend=True, activeDeadlineSeconds=100))
    cluster.look()
    cluster.advance(3600)
    cluster.look()
    cluster.change(job(activeDeadlineSeconds=100))
    cluster.look()
    assert next_look(cluster.resource, cluster.status, cluster.now) == timedelta(seconds=40)
    assert_deadline_after(cluster, 40)
    assert cluster.status.active_seconds == 100


def test_time_in_a_queue_does_not_count_against_the_deadline_and_an_eviction_is_no_failure() -> None:
    cluster = Cluster(job(activeDeadlineSeconds=100, backoffLimit=0))
    child = running(cluster, "prepare")
    cluster.advance(60)
    cluster.evict(child)
    cluster.look()
    assert cluster.status.active_since is None
    cluster.advance(1e6)
    assert cluster.look() == ()
    prepare = stage_of(cluster.status, "prepare")
    assert (prepare.state, prepare.reason, prepare.attempt, prepare.failures) == ("Starting", "Queued", 0, 0)
    again = running(cluster, "prepare")
    assert again.attempt == 0
    assert_deadline_after(cluster, 40)


def test_a_clock_that_jumps_back_neither_stalls_a_retry_nor_stretches_the_deadline() -> None:
    cluster = Cluster(job(activeDeadlineSeconds=1000))
    cluster.fail(running(cluster, "prepare"), Cause.APPLICATION)
    cluster.look()
    cluster.advance(-86400)
    assert cluster.look() == (StartStage("prepare", 1),)
    assert cluster.status.active_since == cluster.now
    assert next_look(cluster.resource, cluster.status, cluster.now) <= timedelta(seconds=1000)


def test_a_suspended_job_counts_results_that_are_there_but_starts_nothing() -> None:
    cluster = Cluster(job(suspend=True))
    cluster.results[cluster.graph["prepare"].digest] = result_of(cluster.graph, "prepare", START)
    cluster.record()
    assert cluster.look() == ()
    assert cluster.status.phase == "Suspended"
    assert stage_of(cluster.status, "prepare").reused


def test_a_child_with_places_for_some_of_its_pods_gives_them_back_for_free_and_comes_again() -> None:
    pauses = set()
    for epochs in (1, 2, 3):
        cluster = Cluster(job(epochs, backoffLimit=0))
        cluster.settle_until("train")
        child = next(c for c in cluster.living() if c.stage == "train")
        partly = replace(child, partly=True, started=cluster.now, reason="QuotaExceeded", message="no quota")
        cluster.children["train", 0] = partly
        cluster.record()
        cluster.advance(POLICY.pending_s)
        assert cluster.look() == ()
        cluster.advance(1)
        assert cluster.look() == (StopStage("train", 0),)
        stage = stage_of(cluster.status, "train")
        assert (stage.reason, stage.failures, stage.metrics[GIVEN_BACK]) == (Cause.QUOTA, 0, 1)
        assert "no quota" in stage.message
        pauses.add(stage.retry_after - cluster.now)
        cluster.settle()
        assert cluster.status.phase == "Complete"
        assert cluster.starts["train", 1] == 1
    assert len(pauses) == 3, "stages that block each other come again together"


def test_a_child_that_holds_nothing_waits_without_end() -> None:
    cluster = Cluster()
    cluster.look()
    cluster.children["prepare", 0] = replace(cluster.children["prepare", 0], started=cluster.now)
    cluster.record()
    cluster.advance(1e6)
    assert cluster.look() == ()
    assert stage_of(cluster.status, "prepare").reason == "Unschedulable"
