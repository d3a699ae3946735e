"""Answers are complete, or there are none."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.evaluate.results import MissingSamples, answers_of, read_answers

TWO = {"tiny": {"q1": [True, False, False], "q2": [True, True, False]}}


def test_answers_come_as_questions_by_samples_whatever_the_order_of_the_rows(results_table, shuffled):
    answers = answers_of(shuffled(results_table(TWO)), 3, {"tiny": ["q1", "q2"]})["tiny"]
    assert answers.questions == ("q1", "q2")
    assert answers.correct.tolist() == list(TWO["tiny"].values())
    assert answers.tokens.tolist() == [[10, 11, 12], [10, 11, 12]]


def test_the_order_of_questions_is_the_benchmarks(results_table):
    answers = answers_of(results_table(TWO), 3, {"tiny": ["q2", "q1"]})["tiny"]
    assert answers.correct.tolist() == [[True, True, False], [True, False, False]]


def test_benchmarks_are_kept_apart(results_table):
    both = answers_of(results_table({"a": {"q1": [True]}, "b": {"q1": [False]}}), 1)
    assert {name: answers.correct.tolist() for name, answers in both.items()} == {"a": [[True]], "b": [[False]]}


def test_a_question_with_fewer_samples_than_asked_for_is_an_error_that_names_it(results_table):
    table = results_table(TWO).filter(pa.array([True, True, True, True, False, True]))
    with pytest.raises(MissingSamples, match=r"benchmark tiny: question q2 has 2 of 3 samples \(missing: 1\)"):
        answers_of(table, 3)


def test_asking_for_twice_the_samples_is_an_error_and_does_not_halve_the_score(results_table):
    with pytest.raises(MissingSamples, match="q1 has 3 of 6 samples"):
        answers_of(results_table(TWO), 6)


def test_a_question_without_any_answer_is_an_error(results_table):
    with pytest.raises(MissingSamples, match="question q3 has 0 of 3 samples"):
        answers_of(results_table(TWO), 3, {"tiny": ["q1", "q2", "q3"]})


def test_a_benchmark_without_any_answer_is_an_error(results_table):
    with pytest.raises(MissingSamples, match="benchmark other has no results"):
        answers_of(results_table(TWO), 3, {"tiny": ["q1", "q2"], "other": ["q1"]})


def test_more_samples_than_asked_for_are_an_error(results_table):
    with pytest.raises(BadInput, match="question q1 has a sample 2, but only 2 samples"):
        answers_of(results_table(TWO), 2)


def test_a_sample_that_is_there_twice_is_an_error(results_table):
    table = results_table(TWO)
    with pytest.raises(BadInput, match="sample 1 of question q1 is there 2 times"):
        answers_of(pa.concat_tables([table, table.slice(1, 1)]), 3)


def test_an_answer_to_a_question_that_was_not_asked_is_an_error(results_table):
    with pytest.raises(BadInput, match="question q2 has results but is not in the benchmark"):
        answers_of(results_table(TWO), 3, {"tiny": ["q1"]})


def test_an_answer_without_a_verdict_is_an_error(results_table):
    table = results_table(TWO)
    verdicts = pa.array([None, *table["correct"].to_pylist()[1:]], pa.bool_())
    with pytest.raises(BadInput, match="1 results have no value for correct"):
        answers_of(table.set_column(table.schema.get_field_index("correct"), "correct", verdicts), 3)


def test_answers_whose_check_failed_are_counted(results_table):
    assert answers_of(results_table(TWO, errors=2), 3)["tiny"].errors == 2


def test_a_file_that_is_no_table_of_results_is_refused(tmp_path):
    path = tmp_path / "results.parquet"
    pq.write_table(pa.table({"benchmark": ["a"], "question_id": ["q"]}), path)
    with pytest.raises(BadInput, match="has no column sample_index, correct"):
        read_answers(path, 1)
