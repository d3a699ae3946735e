"""Tests of code questions in the forms that public datasets have, as CodeTests."""

import json
from typing import Any

from pydantic import ValidationError

from kubedistill_api.verification import CodeTests


def parse_tests(value: Any) -> CodeTests:
    """Reads `{inputs, outputs, fn_name}`, a list of `{input, output}`, or `{test_cases: [...]}`; each as an object or
    as JSON text. Raises ValueError that says what is wrong."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not JSON: {error}") from None
    if isinstance(value, dict) and isinstance(value.get("test_cases"), list):
        value = value["test_cases"]
    if isinstance(value, list):
        value = _from_cases(value)
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, not {{inputs, outputs}} or a list of {{input, output}}")
    # Structs of Parquet have every key of every row, with null where a row has none.
    known = {key: value[key] for key in ("inputs", "outputs", "fn_name") if value.get(key) is not None}
    try:
        return CodeTests.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{place}: {message}" if place else message) from None


def _from_cases(cases: list[Any]) -> dict[str, Any]:
    for index, case in enumerate(cases):
        if not isinstance(case, dict) or "input" not in case or "output" not in case:
            raise ValueError(f"test {index} is not an object with input and output")
    names = {case.get("fn_name") for case in cases}
    if len(names) > 1:
        raise ValueError(f"tests call different functions: {', '.join(sorted(map(str, names)))}")
    return {
        "inputs": [case["input"] for case in cases],
        "outputs": [case["output"] for case in cases],
        "fn_name": names.pop() if names else None,
    }
