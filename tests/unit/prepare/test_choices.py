"""Multiple-choice sources: options laid out, golds turned into letters."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from kubedistill_api.data import FieldMap, QuestionSource
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.data.questions import Drop, Question, load_source
from kubedistill_runtime.errors import BadInput

Write = Callable[..., str]
STEM = "Which is a prime?"
MMLU = {"question": STEM, "choices": ["1", "4", "7", "9"], "answer": 2}
GPQA = {"Question": STEM, "Correct Answer": "7", "Incorrect Answer 1": "1", "Incorrect Answer 2": "4"}
GPQA_FIELDS = FieldMap(
    prompt="Question", answer="Correct Answer", options=["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2"]
)


def load(uri: str, fields: FieldMap, **verification: Any) -> list[Question | Drop]:
    source = QuestionSource(uri=uri, domain="choice", fields=fields)
    return list(load_source(source, 0, "spec.questions[0]", VerificationSpec(**verification)))


@pytest.mark.parametrize("answer", [2, "C", "7"])
def test_a_list_of_options_is_laid_out_in_its_order(jsonl: Write, answer: object) -> None:
    (question,) = load(jsonl([{**MMLU, "answer": answer}]), FieldMap(options=["choices"]))
    assert isinstance(question, Question)
    assert question.prompt == f"{STEM}\n\nA) 1\nB) 4\nC) 7\nD) 9"
    assert (question.gold, question.domain) == ("C", "choice")


def test_the_right_option_of_separate_columns_is_not_always_the_first(jsonl: Write) -> None:
    rows = [{**GPQA, "Question": f"{STEM} ({number})"} for number in range(60)]
    found = load(jsonl(rows), GPQA_FIELDS)
    for question in found:
        assert isinstance(question, Question)
        assert f"\n{question.gold}) 7" in question.prompt
    counts = Counter(question.gold for question in found if isinstance(question, Question))
    assert set(counts) == {"A", "B", "C"}
    assert min(counts.values()) >= 10
    assert load(jsonl(rows, "again.jsonl"), GPQA_FIELDS) == found


def test_without_options_the_prompt_has_them_and_the_answer_is_a_letter(jsonl: Write) -> None:
    (question,) = load(jsonl([{"question": "Pick. A) 1 B) 7", "answer": "B"}]), FieldMap())
    assert isinstance(question, Question)
    assert (question.question, question.gold) == ("Pick. A) 1 B) 7", "B")


def test_equal_stems_with_other_options_are_other_questions(jsonl: Write) -> None:
    one, other = load(jsonl([MMLU, {**MMLU, "choices": ["1", "4", "5", "9"]}]), FieldMap(options=["choices"]))
    assert one.question_id != other.question_id


BAD = [
    ({"answer": 4}, "no option number 4"),
    ({"answer": -1}, "no option number -1"),
    ({"answer": "E"}, "neither the letter nor the text"),
    ({"answer": "AB"}, "neither the letter nor the text"),
    ({"answer": None}, "neither the letter nor the text"),
    ({"choices": ["7"]}, "1 options"),
    ({"choices": ["7", "7", "4"]}, "two options are the same"),
    ({"choices": ["7", "", "4"]}, "an option is empty"),
    ({"choices": [str(n) for n in range(11)]}, "11 options"),
]


@pytest.mark.parametrize(("change", "problem"), BAD)
def test_a_row_whose_options_or_answer_are_no_good_is_dropped(
    jsonl: Write, change: dict[str, Any], problem: str
) -> None:
    good, drop = load(jsonl([MMLU, {**MMLU, **change}]), FieldMap(options=["choices"]))
    assert isinstance(good, Question)
    assert isinstance(drop, Drop)
    assert drop.reason == "bad_gold"
    assert problem in drop.detail


def test_a_gold_that_is_no_letter_says_so(jsonl: Write) -> None:
    with pytest.raises(BadInput, match=r"gold '42' is no letter A to J.*Set spec.questions\[0\].fields.answer"):
        load(jsonl([{"question": "x", "answer": "42"}]), FieldMap())


def test_a_column_of_options_that_is_not_there_is_named(jsonl: Write) -> None:
    with pytest.raises(BadInput, match=r"fields.options\[0\]: there is no column wrong"):
        load(jsonl([MMLU]), FieldMap(options=["wrong"]))
