"""From rows to questions: columns, golds, ids, doubles."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from kubedistill_api.data import FieldMap, QuestionSource
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.data.questions import Drop, Question, load_source, question_id, without_doubles
from kubedistill_runtime.errors import BadInput

WHERE = ["spec.questions[0]", "spec.questions[1]"]
Write = Callable[..., str]


RULES = VerificationSpec()


def load(uri: str, verification: VerificationSpec = RULES, index: int = 0, **fields: Any) -> list[Any]:
    return list(load_source(QuestionSource(uri=uri, **fields), index, WHERE[index], verification))


def reasons(items: list[Any]) -> list[str]:
    return [item.reason for item in items if isinstance(item, Drop)]


GOOD = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(5)]


def test_a_row_becomes_a_question_with_its_place_and_prompt(jsonl: Write) -> None:
    (first, *_) = load(jsonl(GOOD), prompt_template="{question}\nThink {step} by step.", index=1)
    assert first == Question(
        question_id=question_id("math", "What is 0 + 0?", "0"),
        source=1,
        row=0,
        domain="math",
        question="What is 0 + 0?",
        prompt="What is 0 + 0?\nThink {step} by step.",
        gold="0",
        tests=None,
    )


def test_ids_do_not_depend_on_spacing_and_differ_by_gold() -> None:
    assert question_id("math", "a  b\n", "1") == question_id("math", " a b", "1")
    assert question_id("math", "a b", "1") != question_id("math", "a b", "2")
    assert len(question_id("math", "a", "1")) == 16


@pytest.mark.parametrize(("value", "gold"), [(4, "4"), (0.5, "0.5"), (["7"], "7"), (" 3 ", "3")])
def test_a_gold_that_is_no_text_becomes_text(jsonl: Write, value: object, gold: str) -> None:
    (question,) = load(jsonl([{"question": "q?", "answer": value}]))
    assert question.gold == gold


@pytest.mark.parametrize(
    ("solution", "gold"),
    [("2+2=4 <<2+2=4>>\n#### 4", "4"), ("1,000+200 = 1,200\n#### 1,200", "1,200"), ("#### 3\n#### 5", "5")],
)
def test_the_answer_at_the_end_of_a_worked_solution(jsonl: Write, solution: str, gold: str) -> None:
    uri = jsonl([{"question": "How many?", "answer": solution}])
    (question,) = load(uri, fields=FieldMap(answer_after="####"))
    assert question.gold == gold


def test_a_solution_without_the_mark_and_one_that_ends_in_it_are_dropped(jsonl: Write) -> None:
    rows = [{"question": f"How many {n}?", "answer": f"#### {n}"} for n in range(4)]
    uri = jsonl([*rows, {"question": "A?", "answer": "it is 4"}, {"question": "B?", "answer": "4 ####"}])
    drops = [item for item in load(uri, fields=FieldMap(answer_after="####")) if isinstance(item, Drop)]
    assert [(drop.row, drop.reason) for drop in drops] == [(4, "bad_gold"), (5, "empty_gold")]
    assert "answer has no ####" in drops[0].detail


def test_dotted_names_reach_into_objects_and_into_json_text(jsonl: Write) -> None:
    tests = {"test_cases": [{"input": "1\n", "output": "2\n", "type": "stdin_stdout"}]}
    for info in (tests, json.dumps(tests)):
        (question,) = load(
            jsonl([{"p": {"text": "double it"}, "verification_info": info}]),
            domain="code",
            fields=FieldMap(prompt="p.text", tests="verification_info.test_cases"),
        )
        assert question.question == "double it"
        assert json.loads(question.tests) == {"inputs": ["1\n"], "outputs": ["2\n"], "fn_name": None}


def test_a_column_whose_name_has_a_dot_wins_over_a_path(jsonl: Write) -> None:
    (question,) = load(jsonl([{"a.b": "plain", "a": {"b": "path"}, "answer": "1"}]), fields=FieldMap(prompt="a.b"))
    assert question.question == "plain"


def test_a_conversation_of_one_turn_is_a_question(jsonl: Write) -> None:
    turn = {"role": "user", "content": "2 + 2?"}
    good, bad = load(jsonl([{"question": [turn], "answer": 4}, {"question": [turn, turn], "answer": 4}]))
    assert good.question == "2 + 2?"
    assert bad.reason == "bad_prompt"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            FieldMap(prompt="problem"),
            r"spec\.questions\[0\]\.fields\.prompt: there is no column problem.*question, answer",
        ),
        (FieldMap(answer="solution"), r"spec\.questions\[0\]\.fields\.answer: there is no column solution"),
        (FieldMap(id="uuid"), r"spec\.questions\[0\]\.fields\.id: there is no column uuid"),
        (FieldMap(prompt="question.text"), r"fields\.prompt: there is no column question\.text"),
    ],
)
def test_a_missing_column_names_the_field_and_the_columns_there_are(
    jsonl: Write, fields: FieldMap, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        load(jsonl(GOOD), fields=fields)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "  ", "answer": "1"}, "empty_prompt"),
        ({"question": None, "answer": "1"}, "empty_prompt"),
        ({"question": {"x": 1}, "answer": "1"}, "bad_prompt"),
        ({"question": "q?", "answer": ""}, "empty_gold"),
        ({"question": "q?"}, "empty_gold"),
        ({"question": "q?", "answer": ["1", "2"]}, "bad_gold"),
        ({"question": "q?", "answer": "}{"}, "bad_gold"),
        ({"question": "q?", "answer": "x" * 5000}, "bad_gold"),
    ],
)
def test_an_unusable_row_is_dropped_by_name_before_anything_is_sampled(
    jsonl: Write, row: dict[str, Any], reason: str
) -> None:
    *kept, drop = load(jsonl([*GOOD, row]))
    assert len(kept) == len(GOOD)
    assert (drop.reason, drop.row) == (reason, 5)
    assert drop.detail
    assert len(drop.detail) <= 300


@pytest.mark.parametrize(
    "tests",
    ["not json", {"inputs": ["1"], "outputs": []}, {"inputs": [1], "outputs": ["1"]}, [{"input": "1"}], 7],
)
def test_tests_that_cannot_be_run_are_dropped_by_name(jsonl: Write, tests: object) -> None:
    good = [{"question": f"q{i}", "tests": {"inputs": ["1"], "outputs": ["1"]}} for i in range(3)]
    items = load(jsonl([*good, {"question": "bad", "tests": tests}]), domain="code")
    assert reasons(items) == ["bad_tests"]


PROSE = "We show that the sum converges because each term is smaller than the last one"


def test_a_gold_in_prose_needs_a_judge_and_speaks_not_against_the_source(jsonl: Write) -> None:
    uri = jsonl([{"question": f"q{i}", "answer": PROSE} for i in range(4)] + [{"question": "q", "answer": "Evelyn"}])
    *dropped, kept = load(uri)
    assert {drop.reason for drop in dropped} == {"prose_gold"}
    assert kept.gold == "Evelyn"
    assert dropped[1].row == 1
    assert dropped[1].detail.startswith("answer: gold 'We show that")
    assert dropped[1].detail.endswith("or set verification.judge")
    judge = {"judge": {"endpoint": {"url": "http://judge/v1", "model": "j"}}}
    judged = load_source(QuestionSource(uri=uri), 0, "spec.questions[0]", VerificationSpec.model_validate(judge))
    assert [item.gold for item in judged] == [PROSE] * 4 + ["Evelyn"]


def test_a_source_that_is_mostly_unusable_is_refused_with_the_field_to_set(jsonl: Write) -> None:
    bad = [{"question": f"q{i}", "answer": ""} for i in range(6)]
    with pytest.raises(BadInput, match=r"6 of 11 rows.*mostly empty_gold.*Set spec\.questions\[0\]\.fields\.answer"):
        load(jsonl([*GOOD, *bad]))


def test_half_a_source_may_be_unusable(jsonl: Write) -> None:
    assert reasons(load(jsonl([*GOOD, *({"question": "q", "answer": ""} for _ in range(5))]))) == ["empty_gold"] * 5


def test_without_verification_no_gold_is_needed(jsonl: Write) -> None:
    uri = jsonl([{"question": "Why?"}, {"question": "How?", "answer": "}{"}])
    assert [item.gold for item in load(uri, VerificationSpec(math="off"))] == [None, "}{"]


def test_half_a_surrogate_pair_does_not_break_the_table(jsonl: Write) -> None:
    (question,) = load(jsonl([{"question": "what is \ud800?", "answer": "1"}]))
    assert question.question.encode("utf-8")


def test_the_same_question_is_kept_once(jsonl: Write) -> None:
    again = [{"question": "What  is 1 + 1?\n", "answer": "2"}, {"question": "What is 1 + 1?", "answer": "2.0"}]
    kept, drops = without_doubles(load(jsonl([*GOOD, *again])), WHERE)
    assert [q.row for q in kept] == [0, 1, 2, 3, 4]
    assert [(d.reason, d.row) for d in drops] == [("duplicate", 5), ("duplicate", 6)]


def test_the_same_question_with_two_golds_is_not_trusted_at_all(jsonl: Write) -> None:
    kept, drops = without_doubles(load(jsonl([*GOOD, {"question": "What is 1 + 1?", "answer": "3"}])), WHERE)
    assert [q.row for q in kept] == [0, 2, 3, 4]
    assert [(d.reason, d.row) for d in drops] == [("contradicting_gold", 1), ("contradicting_gold", 5)]
    assert "'2' in row 1" in drops[0].detail


def test_doubles_are_found_across_sources(jsonl: Write) -> None:
    items = load(jsonl(GOOD, "a.jsonl")) + load(jsonl(GOOD[2:], "b.jsonl"), index=1)
    kept, drops = without_doubles(items, WHERE)
    assert len(kept) == 5
    assert {d.source for d in drops} == {1}


def test_a_given_id_of_two_questions_is_refused(jsonl: Write) -> None:
    rows = [{"id": 7, "question": "a?", "answer": 1}, {"id": 7, "question": "b?", "answer": 1}]
    with pytest.raises(BadInput, match=r"spec\.questions\[0\]\.fields\.id: the id '7' of row 1.*row 0"):
        without_doubles(load(jsonl(rows), fields=FieldMap(id="id")), WHERE)


def test_a_given_id_twice_for_the_same_question_is_a_duplicate(jsonl: Write) -> None:
    rows = [{"id": 7, "question": "a?", "answer": 1}] * 2
    kept, drops = without_doubles(load(jsonl(rows), fields=FieldMap(id="id")), WHERE)
    assert [q.question_id for q in kept] == ["7"]
    assert [d.reason for d in drops] == ["duplicate"]


def test_a_row_without_its_id_is_dropped_by_name(jsonl: Write) -> None:
    rows = [{"id": i, **row} for i, row in enumerate(GOOD)] + [{"question": "q?", "answer": 1}]
    assert reasons(load(jsonl(rows), fields=FieldMap(id="id"))) == ["no_id"]
