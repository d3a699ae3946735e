"""Tests of code questions in the forms that public datasets have."""

import json
from typing import Any

import pytest

from kubedistill_runtime.data.code_tests import parse_tests


@pytest.mark.parametrize(
    "value",
    [
        {"inputs": ["1\n"], "outputs": ["2\n"]},
        {"inputs": ["1\n"], "outputs": ["2\n"], "fn_name": None, "difficulty": "easy"},
        [{"input": "1\n", "output": "2\n"}],
        [{"input": "1\n", "output": "2\n", "type": "stdin_stdout", "fn_name": None}],
        {"language": "python", "test_cases": [{"input": "1\n", "output": "2\n"}]},
    ],
)
def test_every_form_of_program_tests_gives_the_same(value: Any) -> None:
    for form in (value, json.dumps(value)):
        tests = parse_tests(form)
        assert (tests.inputs, tests.outputs, tests.fn_name) == (["1\n"], ["2\n"], None)


def test_calls_of_a_function_keep_their_values() -> None:
    tests = parse_tests([{"input": [1, [2]], "output": 3, "fn_name": "add"}])
    assert (tests.inputs, tests.outputs, tests.fn_name) == ([[1, [2]]], [3], "add")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "not JSON"),
        ("3", "a int, not"),
        ([], "inputs"),
        ([{"input": "1"}], "test 0 is not an object with input and output"),
        ([{"input": "", "output": "", "fn_name": n} for n in ("a", "b")], "different functions: a, b"),
        ({"inputs": ["1"]}, "outputs"),
        ({"inputs": ["1", "2"], "outputs": ["1"]}, "2 tests but outputs has 1"),
    ],
)
def test_what_is_wrong_is_said(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_tests(value)
