"""Reconcile, case by case."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cluster_model import COUNTED, POLICY, START, Cluster, job, result_of, stage_of

from kubedistill_api.conditions import find, holds
from kubedistill_api.observed import Cause, Child, DeleteResource, Hold, Observed, StartStage, StopStage
from kubedistill_api.reconcile import next_look, reconcile
from kubedistill_api.retries import DISRUPTED, GIVEN_BACK, TRY_AGAINS
from kubedistill_api.status import JobStatus, Score, ScoreDelta
from kubedistill_api.turns import Claim, Places, Turns


def running(cluster: Cluster, stage: str) -> Child:
    """The stage's child, running."""
    cluster.look()
    child = next(c for c in cluster.living() if c.stage == stage)
    cluster.run(child)
    cluster.look()
    return next(c for c in cluster.living() if c.stage == stage)


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


def test_a_new_job_starts_what_needs_nothing() -> None:
    status, actions = reconcile(job(), Cluster().graph, None, Observed(), START)
    assert actions == (StartStage("prepare", 0),)
    assert status.phase == "Running"
    assert status.start_time == status.active_since == START
    assert stage_of(status, "sample").message == "waits for prepare"


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


def test_the_whole_job_ends_complete_with_cost_and_result() -> None:
    cluster = Cluster()
    cluster.settle()
    status = cluster.status
    assert status.phase == "Complete"
    assert holds(status.conditions, "Complete")
    assert find(status.conditions, "Progressing").status == "False"
    assert status.usage.gpu_seconds == len(cluster.graph.nodes)
    assert status.usage.stored_bytes == sum(stage.usage.stored_bytes for stage in status.stages) == 7 * 300
    assert status.result.model_uri == f"/storage/stages/{cluster.graph['train'].folder}/model"
    assert status.active_since is None


def test_the_result_is_named_where_the_user_wants_it() -> None:
    cluster = Cluster(job(output={"uri": "pvc://models/ded"}))
    cluster.settle()
    assert cluster.status.result.model_uri == "pvc://models/ded/model"
    assert cluster.status.result.report_uri == "pvc://models/ded/report.html"


def test_figures_of_the_stages_become_the_jobs() -> None:
    cluster = Cluster()
    graph = cluster.graph
    figures = {"questions": 5, "sampled": 40, "well_formed": 39, "correct": 30, "hard": 20, "kept": 10, "minutes": 0.5}
    cluster.results[graph["curate"].digest] = result_of(graph, "curate", START, **figures)
    score = Score(benchmark="test", model="student", metric="avg@16", n=9, mean=0.5, ci=(0.4, 0.6))
    delta = ScoreDelta(benchmark="test", metric="avg@16", mean=0.1, ci=(0.0, 0.2))
    evaluated = result_of(graph, "evaluate", START).model_copy(update={"scores": [score], "deltas": [delta]})
    cluster.results[graph["evaluate"].digest] = evaluated
    status, _ = reconcile(cluster.resource, graph, None, cluster.observe(), START)
    assert (status.corpus.well_formed, status.corpus.kept) == (39, 10)
    assert (status.scores, status.deltas) == ([score], [delta])


def test_results_that_are_there_are_reused_at_no_cost() -> None:
    first = Cluster()
    first.settle()
    second = Cluster(results=first.results)
    actions = second.look()
    assert actions == ()
    assert second.status.phase == "Complete"
    assert all(stage.reused for stage in second.status.stages)
    assert second.status.usage.gpu_seconds == 0


def test_a_stage_whose_result_is_there_needs_no_stage_before_it() -> None:
    cluster = Cluster()
    cluster.results[cluster.graph["sample"].digest] = result_of(cluster.graph, "sample", START)
    cluster.record()
    cluster.look()
    assert stage_of(cluster.status, "sample").reused
    assert stage_of(cluster.status, "prepare").state == "Starting"


def test_a_result_counts_once_its_child_has_ended() -> None:
    cluster = Cluster()
    child = running(cluster, "prepare")
    cluster.write_result(child)
    cluster.look()
    assert stage_of(cluster.status, "prepare").state == "Running"
    cluster.succeed(child)
    cluster.look()
    assert stage_of(cluster.status, "prepare").state == "Succeeded"
    assert not stage_of(cluster.status, "prepare").reused


def test_a_child_that_hangs_after_its_result_is_stopped() -> None:
    cluster = Cluster()
    cluster.write_result(running(cluster, "prepare"))
    cluster.advance(next_look(cluster.resource, cluster.status, cluster.now).total_seconds() + 1)
    assert StopStage("prepare", 0) in cluster.look()
    assert stage_of(cluster.status, "prepare").state == "Succeeded"


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
    cluster.advance(39)
    cluster.look()
    assert cluster.status.phase == "Running"
    cluster.advance(1)
    cluster.look()
    assert find(cluster.status.conditions, "Failed").reason == "DeadlineExceeded"
    assert cluster.status.active_seconds == 100


def test_a_failed_job_stops_what_still_runs() -> None:
    cluster = Cluster()
    cluster.succeed(running(cluster, "prepare"))
    running(cluster, "baseline")
    cluster.fail(running(cluster, "sample"), Cause.BAD_INPUT)
    assert cluster.look() == (StopStage("baseline", 0),)
    assert cluster.look() == ()
    assert stage_of(cluster.status, "baseline").state == "Waiting"


def test_a_finished_job_starts_nothing_although_its_spec_changes() -> None:
    cluster = Cluster()
    cluster.settle()
    before = cluster.status
    cluster.children.clear()
    cluster.results.clear()
    cluster.change(job(epochs=3))
    assert cluster.look() == ()
    assert cluster.status == before


def test_a_changed_spec_does_anew_what_differs_and_keeps_the_rest() -> None:
    cluster = Cluster()
    for stage in ("prepare", "baseline", "sample", "curate"):
        cluster.succeed(running(cluster, stage))
    running(cluster, "train")
    cluster.change(job(epochs=3))
    assert cluster.look() == (StopStage("train", 0),)
    assert stage_of(cluster.status, "curate").state == "Succeeded"
    cluster.end_stopping(cluster.children["train", 0])
    assert cluster.look() == (StartStage("train", 1),)
    assert cluster.status.observed_generation == 2


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
    cluster.advance(39)
    cluster.look()
    assert cluster.status.phase == "Running"
    cluster.advance(1)
    cluster.look()
    assert find(cluster.status.conditions, "Failed").reason == "DeadlineExceeded"


def test_a_clock_that_jumps_back_neither_stalls_a_retry_nor_stretches_the_deadline() -> None:
    cluster = Cluster(job(activeDeadlineSeconds=1000))
    cluster.fail(running(cluster, "prepare"), Cause.APPLICATION)
    cluster.look()
    cluster.advance(-86400)
    assert cluster.look() == (StartStage("prepare", 1),)
    assert cluster.status.active_since == cluster.now
    assert next_look(cluster.resource, cluster.status, cluster.now) <= timedelta(seconds=1000)


def test_conditions_keep_the_time_of_their_transition() -> None:
    cluster = Cluster()
    cluster.look()
    cluster.advance(50)
    cluster.succeed(running(cluster, "prepare"))
    cluster.look()
    assert find(cluster.status.conditions, "Progressing").last_transition_time == START


def test_a_finished_job_is_deleted_when_its_time_is_over() -> None:
    cluster = Cluster(job(ttlSecondsAfterFinished=60))
    cluster.settle()
    assert next_look(cluster.resource, cluster.status, cluster.now) == timedelta(seconds=60)
    cluster.advance(60)
    assert cluster.look() == (DeleteResource(),)


def test_nothing_is_done_for_a_resource_that_is_being_deleted() -> None:
    cluster = Cluster()
    cluster.look()
    meta = cluster.resource.metadata.model_copy(update={"deletion_timestamp": START})
    cluster.resource = cluster.resource.model_copy(update={"metadata": meta})
    cluster.record()
    assert cluster.look() == ()


def test_a_suspended_job_counts_results_that_are_there_but_starts_nothing() -> None:
    cluster = Cluster(job(suspend=True))
    cluster.results[cluster.graph["prepare"].digest] = result_of(cluster.graph, "prepare", START)
    cluster.record()
    assert cluster.look() == ()
    assert cluster.status.phase == "Suspended"
    assert stage_of(cluster.status, "prepare").reused


@pytest.mark.parametrize("cause", COUNTED)
def test_the_same_look_twice_changes_nothing(cause: Cause) -> None:
    cluster = Cluster()
    cluster.fail(running(cluster, "prepare"), cause)
    cluster.look()
    version = cluster.version
    assert cluster.look() == ()
    assert cluster.version == version


def test_an_empty_status_and_none_are_the_same() -> None:
    cluster = Cluster()
    given = (cluster.resource, cluster.graph)
    assert reconcile(*given, None, Observed(), START) == reconcile(*given, JobStatus(), Observed(), START)


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
