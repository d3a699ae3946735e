"""Rows of LiveCodeBench (github.com/LiveCodeBench/LiveCodeBench) as questions of domain code.

Its hidden tests are JSON text, and where that is long: base64 of zlib of a pickle of the text. A pickle is a program
that builds objects and may call anything; none is run here. One that does no more than hold a text is read, any other
is refused.
"""

import base64
import binascii
import json
import pickletools
import zlib
from collections.abc import Mapping
from typing import Any

COLUMNS = ("question_content", "starter_code", "public_test_cases", "private_test_cases", "metadata")
"""Columns that are read; starter code is empty where a whole program is asked for."""
DATE = "contest_date"

MAX_BYTES = 2**30
"""Of one question's hidden tests when unpacked; a few kilobytes of zlib could stand for any number."""

_OF_TEXT = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_HARMLESS = _OF_TEXT | {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}
"""Instructions of a pickle that holds a text; of any protocol."""

_STARTER = "{statement}\n\nComplete this code and keep its names:\n\n```python\n{starter}\n```"
_PROGRAM = "{statement}\n\nThe program reads from standard input and writes the answer to standard output."


def question_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with columns `question` and `tests`, as `FieldMap` names them.

    Calls of a function have their arguments as JSON, one in a line, and so the value that is expected. Raises
    ValueError that says what is wrong with the row.
    """
    metadata = _json(row.get("metadata") or "{}", "metadata")
    if not isinstance(metadata, dict):
        raise ValueError(f"metadata is a {type(metadata).__name__}, not an object")
    name = metadata.get("func_name")
    cases = [
        *_cases(_json(row.get("public_test_cases"), "public_test_cases"), "public_test_cases"),
        *_cases(hidden_tests(row.get("private_test_cases")), "private_test_cases"),
    ]
    kinds = {case.get("testtype", "functional" if name else "stdin") for case in cases}
    if kinds != ({"functional"} if name else {"stdin"}):
        raise ValueError(f"tests are {', '.join(sorted(kinds))}, but metadata has {name or 'no'} func_name")
    statement = row.get("question_content")
    if name:
        cases = [{"input": _arguments(case["input"]), "output": _value(case["output"])} for case in cases]
        question = _STARTER.format(statement=statement, starter=str(row.get("starter_code") or "").strip())
    else:
        question = _PROGRAM.format(statement=statement)
    tests = {"inputs": [case["input"] for case in cases], "outputs": [case["output"] for case in cases]}
    return {"question": question if statement else "", "tests": {**tests, "fn_name": name or None}}


def hidden_tests(value: Any) -> Any:
    """What the column `private_test_cases` says. Raises ValueError where it is in neither of its forms."""
    if not isinstance(value, str):
        raise ValueError(f"private_test_cases is a {type(value).__name__}, not text")
    if value.lstrip().startswith(("[", "{")):
        return _json(value, "private_test_cases")
    try:
        packed = base64.b64decode(value, validate=True)
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(packed, MAX_BYTES)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise ValueError(f"private_test_cases is neither JSON nor base64 of zlib: {error}") from None
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise ValueError(f"private_test_cases is cut short, or more than {MAX_BYTES} bytes when unpacked")
    return _json(text_of_pickle(content), "private_test_cases")


def text_of_pickle(content: bytes) -> str:
    """The text that a pickle holds, by its instructions, of which none is carried out.

    Raises ValueError for a pickle of anything but one text.
    """
    texts = []
    try:
        for instruction, argument, _ in pickletools.genops(content):
            if instruction.name not in _HARMLESS:
                raise ValueError(f"it has the instruction {instruction.name}")
            if instruction.name in _OF_TEXT:
                texts.append(str(argument))
        (text,) = texts
    except ValueError as error:
        raise ValueError(f"private_test_cases has a pickle that is not of one text: {error}") from None
    return text


def _json(text: Any, column: str) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{column} is not JSON: {error}") from None


def _cases(value: Any, column: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise ValueError(f"{column} is a {type(value).__name__}, not a list of tests")
    for number, case in enumerate(value):
        if (
            not isinstance(case, dict)
            or not isinstance(case.get("input"), str)
            or not isinstance(case.get("output"), str)
        ):
            raise ValueError(f"{column}: test {number} has no input and output as text")
    return value


def _arguments(text: str) -> list[Any]:
    return [_json(line, "an argument of a test") for line in text.split("\n")]


def _value(text: str) -> Any:
    return _json(text, "the value that a test expects")
