"""The API's side of verification: names on the wire, defaults, refusals."""

import pytest
from pydantic import ValidationError

from kubedistill_api.verification import CodeTests, VerificationSpec


@pytest.mark.parametrize("name", ["fn_name", "fnName"])
def test_the_function_name_is_read_in_both_spellings_and_written_in_one(name):
    tests = CodeTests.model_validate({"inputs": [[1]], "outputs": [1], name: "f"})

    assert tests.fn_name == "f"
    assert tests.model_dump(by_alias=True) == {"inputs": [[1]], "outputs": [1], "fn_name": "f"}


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        ({"inputs": [], "outputs": []}, "at least 1 item"),
        ({"inputs": ["1"], "outputs": ["1", "2"]}, "inputs has 1 tests but outputs has 2"),
        ({"inputs": [["1"]], "outputs": ["1"]}, r"inputs\[0\] is a list"),
        ({"inputs": ["1"], "outputs": [1]}, r"outputs\[0\] is a int"),
        ({"inputs": ["1"], "outputs": [1], "fn_name": "f"}, r"inputs\[0\] is a str"),
        ({"inputs": ["1"], "outputs": ["1"], "timeout": 1}, "Extra inputs"),
    ],
)
def test_tests_that_cannot_be_run_are_refused(tests, reason):
    with pytest.raises(ValidationError, match=reason):
        CodeTests.model_validate(tests)


def test_the_defaults_verify_both_domains_without_a_judge():
    spec = VerificationSpec.model_validate({})

    assert (spec.math, spec.code, spec.judge) == ("rules", "sandbox", None)


def test_a_manifest_is_camel_case():
    spec = VerificationSpec.model_validate(
        {
            "timeoutSeconds": 5,
            "codeLimits": {"cpuSeconds": 2, "memoryMib": 256},
            "judge": {"endpoint": {"url": "http://judge:8000/v1", "model": "m", "maxConcurrent": 4}},
        }
    )

    assert spec.code_limits.cpu_seconds == 2
    assert spec.judge.endpoint.max_concurrent == 4


def test_a_token_rate_is_refused_for_a_judge():
    judge = {"endpoint": {"url": "http://judge:8000/v1", "model": "m", "tokensPerMinute": 1000}}

    with pytest.raises(ValidationError, match=r"use endpoint\.requestsPerMinute"):
        VerificationSpec.model_validate({"judge": judge})
