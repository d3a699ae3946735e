"""From answers to what the status shows."""

import json

import pytest

from kubedistill_api.status import Score, ScoreDelta
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.evaluate.results import answers_of
from kubedistill_runtime.evaluate.scores import score

BASE = {"tiny": {"q1": [True, False, False, False], "q2": [False] * 4}}
STUDENT = {"tiny": {"q1": [True, True, True, False], "q2": [True, False, True, False]}}


@pytest.fixture
def scored(results_table):
    base, student = (answers_of(results_table(rows), 4) for rows in (BASE, STUDENT))
    return score(student, base, pass_at_k=[1, 2, 4])


def test_scores_are_means_over_questions_before_and_after(scored):
    means = {(s.model, s.metric): s.mean for s in scored.scores}
    assert means["base", "avg@4"] == pytest.approx(1 / 8)
    assert means["student", "avg@4"] == pytest.approx(5 / 8)
    # pass@2 of q1: 1 - C(1,2)/C(4,2) = 1, of q2: 1 - C(2,2)/C(4,2) = 5/6.
    assert means["student", "pass@2"] == pytest.approx((1 + 5 / 6) / 2)
    assert means["student", "pass@4"] == 1


def test_pass_at_1_is_not_listed_beside_its_twin(scored):
    assert [s.metric for s in scored.scores if s.model == "student"] == ["avg@4", "pass@2", "pass@4"]


def test_a_difference_is_the_difference_of_the_scores(scored):
    means = {(s.model, s.metric): s.mean for s in scored.scores}
    for delta in scored.deltas:
        assert delta.mean == pytest.approx(means["student", delta.metric] - means["base", delta.metric])
        assert delta.ci[0] <= delta.mean <= delta.ci[1]


def test_metrics_are_flat_figures(scored):
    metrics = scored.metrics()
    assert metrics["tiny/avg@4/base"] == pytest.approx(1 / 8)
    assert metrics["tiny/avg@4/student"] == pytest.approx(5 / 8)
    assert metrics["tiny/avg@4/delta"] == pytest.approx(1 / 2)
    assert metrics["tiny/avg@4/delta/lo"] <= 1 / 2 <= metrics["tiny/avg@4/delta/hi"]


def test_details_have_truncation_length_and_every_question(scored):
    (details,) = scored.details["benchmarks"]
    assert details["questions"] == 2
    assert details["samples"] == 4
    assert details["base"] == {"truncatedShare": 1 / 8, "meanTokens": 11.5, "errors": 0}
    assert details["perQuestion"] == [
        {"questionId": "q1", "base": 0.25, "student": 0.75},
        {"questionId": "q2", "base": 0.0, "student": 0.5},
    ]


def test_the_json_reads_back_as_the_models_of_the_api(scored):
    data = json.loads(json.dumps(scored.to_json()))
    assert [Score.model_validate(s) for s in data["scores"]] == scored.scores
    assert [ScoreDelta.model_validate(d) for d in data["deltas"]] == scored.deltas


def test_without_a_base_there_are_scores_and_no_differences(results_table):
    alone = score(answers_of(results_table(STUDENT), 4), None)
    assert [s.model for s in alone.scores] == ["student"]
    assert alone.deltas == []
    assert alone.details["benchmarks"][0]["perQuestion"][0]["base"] is None


def test_a_base_with_other_questions_is_refused(results_table):
    base = answers_of(results_table({"tiny": {"q1": [True] * 4, "q9": [True] * 4}}), 4)
    with pytest.raises(BadInput, match="did not answer the same questions"):
        score(answers_of(results_table(STUDENT), 4), base)


def test_a_base_without_the_benchmark_is_refused(results_table):
    base = answers_of(results_table({"other": BASE["tiny"]}), 4)
    with pytest.raises(BadInput, match="benchmark tiny: the base has no results"):
        score(answers_of(results_table(STUDENT), 4), base)


def test_pass_at_more_than_the_samples_names_the_field(results_table):
    with pytest.raises(BadInput, match=r"evaluation\.passAt: pass@8 needs at least 8 samples"):
        score(answers_of(results_table(STUDENT), 4), None, pass_at_k=[8])


def test_a_benchmark_that_is_asked_once_has_its_mean_alone_and_the_others_all(results_table):
    once = {"arc": {"a1": [True], "a2": [False]}}
    base, student = (answers_of(results_table({**rows, **once}), 4, once={"arc"}) for rows in (BASE, STUDENT))
    both = score(student, base, pass_at_k=[2])
    metrics = {(s.benchmark, s.metric) for s in both.scores}
    assert metrics == {("tiny", "avg@4"), ("tiny", "pass@2"), ("arc", "avg@1")}
    (delta,) = [d for d in both.deltas if d.benchmark == "arc"]
    assert (delta.mean, delta.ci[0] < 0 < delta.ci[1]) == (0, True)
    assert [(b["benchmark"], b["samples"]) for b in both.details["benchmarks"]] == [("tiny", 4), ("arc", 1)]
