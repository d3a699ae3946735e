"""The contents are what the stages' files say."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.report.gather import gather, publishable
from tests.unit.report.synthetic_stages import Shape

SMALL = Shape(questions=14, benchmark_questions=9, steps=7, length=60)


@pytest.fixture
def context(finished_job):
    return finished_job(SMALL)


@pytest.fixture
def report(context):
    return gather(context, context.spec.params.manifest)


def test_lengths_are_those_of_the_token_ids_of_all_and_of_kept_traces(context, report):
    (track,) = report.tracks
    drawn = pq.read_table(context.artifact("sample", "traces"))["response_token_ids"].to_pylist()
    kept = pq.read_table(context.artifact("curate", "corpus"))["response_token_ids"].to_pylist()
    assert sorted(track.lengths.drawn) == sorted(map(len, drawn))
    assert sorted(track.lengths.kept) == sorted(map(len, kept))


def test_fates_add_up_to_all_traces_and_all_questions(report):
    (track,) = report.tracks
    assert sum(fate.count for fate in track.funnel.trace_fates) == 14 * 8
    assert sum(fate.count for fate in track.funnel.question_fates) == 14
    assert [number for _, number in track.funnel.traces] == sorted(
        (number for _, number in track.funnel.traces), reverse=True
    )


def test_pass_rates_are_split_by_what_became_of_the_questions(context, report):
    rates = report.pass_rates
    table = pq.read_table(context.artifact("baseline", "pass_rates")).to_pylist()
    total = rates.hard + rates.easy + rates.unsolved
    assert total.tolist() == np.bincount([row["correct"] for row in table], minlength=9).tolist()
    # maxPassRate is 0.6 of 8 samples: 4 may stay, 5 may not.
    assert rates.hard[5:].sum() == 0
    assert rates.easy[:5].sum() == 0


def test_benchmarks_carry_scores_questions_and_lengths(report):
    (benchmark,) = report.tracks[0].benchmarks
    assert benchmark.metrics == ("avg@8", "pass@4")
    assert benchmark.delta("avg@8").mean == pytest.approx(
        benchmark.score("student", "avg@8").mean - benchmark.score("base", "avg@8").mean
    )
    assert len(benchmark.per_question) == len(benchmark.texts) == 9
    assert {who: len(tokens) for who, tokens in benchmark.tokens.items()} == {"base": 72, "student": 72}


def test_prepare_drops_are_counted_by_reason(report):
    assert [(fate.reason, fate.count) for fate in report.prepare_fates] == [("duplicate", 4), ("contaminated", 2)]


def test_teacher_and_student_are_named_as_people_know_them(report):
    assert report.tracks[0].teacher == "Qwen/QwQ-32B@976055f"
    assert report.student == "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"


def test_a_probes_candidates_are_tracks_in_the_order_of_the_plan(finished_probe):
    context = finished_probe(SMALL)
    report = gather(context, context.spec.params.manifest)
    assert [(track.name, track.teacher) for track in report.tracks] == [
        ("careless", "embedded://models/careless-teacher"),
        ("terse", "terse-teacher"),
    ]
    assert report.answers is None


def test_answers_show_both_sides_of_a_question(report):
    for entry in report.answers.entries:
        assert [response["who"] for response in entry.responses] == ["base", "base", "student", "student"]


def test_a_stage_without_its_spec_has_no_parameters_but_all_else(context):
    for uri in context.spec.inputs.values():
        (Path(uri) / "spec.json").unlink()
    report = gather(context, context.spec.params.manifest)
    assert {stage.parameters for stage in report.stages} == {None}
    assert report.tracks[0].teacher == "Qwen/QwQ-32B@976055f"


def test_a_file_that_was_changed_after_its_stage_is_refused(context):
    path = context.artifact("evaluate", "scores")
    path.write_text(path.read_text() + " ")
    with pytest.raises(BadInput, match="was changed after evaluate made it"):
        gather(context, context.spec.params.manifest)


def test_credentials_are_taken_out_of_addresses_and_kubectls_copy_is_left_out():
    manifest = {
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "a"}},
        "spec": {"list": ["https://user:pass@host/v1", "s3://bucket/key@2"], "n": 1},
    }
    assert publishable(manifest) == {
        "metadata": {"annotations": {"team": "a"}},
        "spec": {"list": ["https://host/v1", "s3://bucket/key@2"], "n": 1},
    }
