"""Reconcile, case by case: a job from its first stage to its result and its end."""

from datetime import timedelta

import pytest

from kubedistill_api.conditions import find, holds
from kubedistill_api.observed import Cause, DeleteResource, Observed, StartStage, StopStage
from kubedistill_api.reconcile import next_look, reconcile
from kubedistill_api.status import JobStatus, Score, ScoreDelta
from tests.unit.control.cluster_model import COUNTED, START, Cluster, job, result_of, running, stage_of


def test_a_new_job_starts_what_needs_nothing() -> None:
    status, actions = reconcile(job(), Cluster().graph, None, Observed(), START)
    assert actions == (StartStage("prepare", 0),)
    assert status.phase == "Running"
    assert status.start_time == status.active_since == START
    assert stage_of(status, "sample").message == "waits for prepare"


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
