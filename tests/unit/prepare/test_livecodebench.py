"""LiveCodeBench's rows: tests unpacked without running anything, dates, and programs that are really judged."""

import base64
import json
import os
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kubedistill_api.data import Benchmark
from kubedistill_api.verification import CodeTests, VerificationSpec
from kubedistill_runtime.data import livecodebench
from kubedistill_runtime.data.livecodebench import hidden_tests, question_row, text_of_pickle
from kubedistill_runtime.data.questions import Drop, Question, load_source
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.verify.pool import VerifierPool
from kubedistill_runtime.verify.types import Item, Verdict

Write = Callable[..., str]
WHERE = "spec.evaluation.benchmarks[0]"


def packed(value: object, protocol: int | None = None) -> str:
    """As the data set packs a text with tests."""
    return base64.b64encode(zlib.compress(pickle.dumps(value, protocol))).decode()


def case(given: str, wanted: str, kind: str) -> dict[str, str]:
    return {"input": given, "output": wanted, "testtype": kind}


def program_row(**changes: Any) -> dict[str, Any]:
    return {
        "question_content": "Print twice the number.",
        "starter_code": "",
        "contest_date": "2025-02-01T00:00:00",
        "platform": "atcoder",
        "public_test_cases": json.dumps([case("2\n", "4\n", "stdin")]),
        "private_test_cases": packed(json.dumps([case("5\n", "10\n", "stdin")])),
        "metadata": "{}",
        **changes,
    }


def function_row(**changes: Any) -> dict[str, Any]:
    return {
        "question_content": "Sum the numbers, times a factor.",
        "starter_code": "class Solution:\n    def total(self, nums: List[int], factor: int) -> int:\n        ",
        "contest_date": "2025-03-15T00:00:00",
        "platform": "leetcode",
        "public_test_cases": json.dumps([case("[1, 2]\n3", "9", "functional")]),
        "private_test_cases": packed(json.dumps([case("[]\n7", "0", "functional")])),
        "metadata": json.dumps({"func_name": "total"}),
        **changes,
    }


def loaded(uri: str, **fields: Any) -> list[Question | Drop]:
    benchmark = Benchmark.model_validate({"preset": "livecodebench", "uri": uri, **fields})
    return list(load_source(benchmark, 0, WHERE, VerificationSpec()))


async def judged(question: Question, program: str) -> Verdict:
    assert question.tests is not None
    tests = CodeTests.model_validate_json(question.tests)
    async with VerifierPool(VerificationSpec(), 1) as verifier:
        return await verifier.verify(Item("one", "code", f"```python\n{program}\n```", None, tests))


async def test_a_program_is_judged_by_public_and_hidden_tests(jsonl: Write) -> None:
    (question,) = loaded(jsonl([program_row()]))
    assert isinstance(question, Question)
    assert "standard input" in question.question
    assert (await judged(question, "print(2 * int(input()))")).correct
    # Right on the public test alone.
    assert not (await judged(question, "print(2 + int(input()))")).correct


async def test_a_function_is_called_with_each_line_as_an_argument(jsonl: Write) -> None:
    (question,) = loaded(jsonl([function_row()]))
    assert isinstance(question, Question)
    assert "```python\nclass Solution:" in question.question
    body = "class Solution:\n    def total(self, nums: List[int], factor: int) -> int:\n        return {}"
    assert (await judged(question, body.format("sum(nums) * factor"))).correct
    assert not (await judged(question, body.format("9"))).correct


def test_hidden_tests_may_be_plain_json_or_of_any_protocol() -> None:
    text = json.dumps([case("1", "2", "stdin")])
    assert all(hidden_tests(form) == json.loads(text) for form in (text, *(packed(text, p) for p in range(6))))


class Runs:
    """Pickled as a call of `os.system`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_with_a_call_is_counted_and_calls_nothing(jsonl: Write, tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "called"
    bad = program_row(private_test_cases=packed(Runs(trap), protocol))
    found = loaded(jsonl([program_row(), program_row(question_content="Other."), bad]))
    assert [type(one) for one in found] == [Question, Question, Drop]
    assert isinstance(found[2], Drop)
    assert found[2].reason == "bad_tests"
    assert "a pickle that is not of one text" in found[2].detail
    assert not trap.exists()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(["[]"]),
        pickle.dumps(("[]", "[]")),
        pickle.dumps(7),
        pickle.dumps(b"[]"),
        pickle.dumps("[]")[:-1],
        b"\x80\x04\x82\x01.",  # an extension, looked up in a registry of classes
        b"\x80\x04X\x02\x00\x00\x00[]r\xff\xff\xff\xff2.",  # a memo of 4 billion places, and the text twice
        b"",
        b"no pickle",
    ],
    ids=["list", "tuple", "number", "bytes", "cut", "extension", "memo", "empty", "noise"],
)
def test_a_pickle_of_anything_but_a_text_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="a pickle that is not of one text"):
        text_of_pickle(content)


def test_what_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livecodebench, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        hidden_tests(packed(" " * 100_000))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"private_test_cases": "?"}, "neither JSON nor base64 of zlib"),
        ({"private_test_cases": None}, "is a NoneType, not text"),
        ({"private_test_cases": packed("{")}, "private_test_cases is not JSON"),
        ({"public_test_cases": "{}"}, "is a dict, not a list of tests"),
        ({"public_test_cases": '[{"input": "1"}]'}, "test 0 has no input and output"),
        ({"metadata": "[]"}, "metadata is a list"),
        ({"metadata": '{"func_name": "total"}'}, "tests are stdin, but metadata has total func_name"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        question_row(program_row(**changes))


def test_the_window_has_both_of_its_days_and_what_is_outside_is_counted(jsonl: Write) -> None:
    days = ["2025-01-31", "2025-02-01T23:59:59", "2025-02-28", "2025-03-01", "soon"]
    rows = [program_row(question_content=f"Question {n}.", contest_date=day) for n, day in enumerate(days)]
    found = loaded(jsonl(rows), window={"from": "2025-02-01", "to": "2025-02-28"})
    assert [one.row for one in found if isinstance(one, Question)] == [1, 2]
    assert [(one.row, one.reason) for one in found if isinstance(one, Drop)] == [
        (0, "outside_window"),
        (3, "outside_window"),
        (4, "bad_date"),
    ]
    assert len([one for one in loaded(jsonl(rows), window={"from": "2025-02-28"}) if isinstance(one, Question)]) == 2


def test_a_window_goes_by_any_column_with_a_day(jsonl: Write) -> None:
    uri = jsonl([{"question": f"{n}?", "answer": n, "day": f"2025-01-{n:02}"} for n in range(1, 5)])
    entry = {"name": "sums", "uri": uri, "fields": {"date": "day"}, "window": {"to": "2025-01-02"}}
    found = list(load_source(Benchmark.model_validate(entry), 0, WHERE, VerificationSpec()))
    assert [isinstance(one, Question) for one in found] == [True, True, False, False]


def test_rows_of_another_form_are_refused(jsonl: Write) -> None:
    with pytest.raises(BadInput, match=r"format: rows of livecodebench have question_content; these have question"):
        loaded(jsonl([{"question": "?", "tests": []}]))
    with pytest.raises(BadInput, match=r"mostly bad_tests; row 0: .* Check .*format: is it rows of livecodebench"):
        loaded(jsonl([program_row(private_test_cases="?")]))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"format": "livecodebench"}, "needs domain code"),
        ({"format": "livecodebench", "domain": "code", "fields": {"prompt": "x"}}, "remove fields"),
        ({"window": {"from": "2025-01-01"}}, "window needs fields.date"),
        ({"fields": {"date": "day"}, "window": {}}, "give from, to, or both"),
        ({"fields": {"date": "day"}, "window": {"from": "2025-02-30"}}, "no day 2025-02-30"),
        ({"fields": {"date": "day"}, "window": {"from": "2025-02-01", "to": "2025-01-01"}}, "is later than"),
        ({"fields": {"date": "day"}, "window": {"from": "January"}}, "pattern"),
    ],
)
def test_what_contradicts_itself_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Benchmark.model_validate({"name": "code", "uri": "q.jsonl", **fields})
