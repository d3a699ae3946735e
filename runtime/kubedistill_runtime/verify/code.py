"""Code responses: the program in a response, and whether what it printed or returned is what was expected.

What a program printed is compared line by line, token by token, with equal counts of both; blanks at the ends of lines
and blank lines at the end do not count. A token expected as a decimal with a fraction (0.5, 1e-3) accepts any number
within 1e-6, relative or absolute; every other token must be the same text. Questions with several right outputs need a
checker of their own and are not for this module.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

from kubedistill_runtime.verify.answer import answer_section

Language = Literal["python", "cpp"]

TOLERANCE = 1e-6
"""Difference allowed to an expected decimal, relative to it or to 1, whichever is larger."""

MAX_SOURCE = 1 << 18
"""Characters of a program."""

_FENCE = re.compile(r"^(?P<before>[^\n`~]*)(?P<ticks>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)[^\n`]*$", re.MULTILINE)
_LABELS: tuple[tuple[Language, re.Pattern[str]], ...] = (
    ("python", re.compile(r"(?:python|py|pypy|cpython)[-_ ]?(?:[23](?:\.\d{1,2})*)?")),
    ("cpp", re.compile(r"(?:c\+\+|cpp|cc|cxx|g\+\+|gnu\+\+)[-_ ]?(?:\d[\da-z])?")),
)
"""Languages with the standard or version that labels add, as in c++14, cpp2a or python3.11: all run under one."""
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_FRACTIONAL = re.compile(r"[.eE]")


@dataclass(frozen=True)
class Program:
    """A program as a response gives it."""

    language: Language
    source: str


def extract_program(response: str) -> Program | str:
    """The last closed Python or C++ block after the thinking, or an unlabelled one; a string says why there is none."""
    section, error = answer_section(response)
    if section is None:
        return error or "no answer"
    blocks = _blocks(section)
    labelled = [block for block in blocks if _language(block[0])]
    unlabelled = [block for block in blocks if not block[0]]
    if not labelled and not unlabelled:
        return "no closed code block: put the program between ```python and ```"
    label, source = (labelled or unlabelled)[-1]
    if len(source) > MAX_SOURCE:
        return f"the program has {len(source)} characters, at most {MAX_SOURCE} are run"
    language = _language(label) or ("cpp" if re.search(r"^\s*#include\b", source, re.MULTILINE) else "python")
    return Program(language, source)


def _language(label: str) -> Language | None:
    """The language that a block's label, in lower case, names; None for another one or none."""
    return next((language for language, labels in _LABELS if labels.fullmatch(label)), None)


def _blocks(section: str) -> list[tuple[str, str]]:
    """(label, content) of every closed fenced block; a labelled one may open behind text, as models do."""
    blocks: list[tuple[str, str]] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(section):
        alone = not fence["before"].strip(" \t>-*0123456789.")
        if opened is None:
            if alone or _language(fence["language"].lower()):
                opened = fence
        elif alone and fence["ticks"].startswith(opened["ticks"]) and not fence["language"]:
            blocks.append((opened["language"].lower(), section[opened.end() + 1 : fence.start()]))
            opened = None
    return blocks


def same_output(expected: str, printed: str) -> bool:
    """Whether a program printed what was expected."""
    wanted, got = _lines(expected), _lines(printed)
    return len(wanted) == len(got) and all(
        len(left) == len(right) and all(map(_same_token, left, right)) for left, right in zip(wanted, got, strict=True)
    )


def _lines(text: str) -> list[list[str]]:
    lines = [line.split() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _same_token(expected: str, printed: str) -> bool:
    if expected == printed:
        return True
    if not (_FRACTIONAL.search(expected) and _DECIMAL.fullmatch(expected) and _DECIMAL.fullmatch(printed)):
        return False
    return _near(float(expected), float(printed))


def _near(expected: float, value: float) -> bool:
    return math.isfinite(expected) and abs(expected - value) <= TOLERANCE * max(1.0, abs(expected))


def same_value(expected: object, value: object) -> bool:
    """Whether a function returned what was expected, both as JSON values. Floats as in `same_output`; True equals 1."""
    if isinstance(expected, list) and isinstance(value, list):
        return len(expected) == len(value) and all(map(same_value, expected, value))
    if isinstance(expected, dict) and isinstance(value, dict):
        return expected.keys() == value.keys() and all(same_value(expected[key], value[key]) for key in expected)
    if isinstance(expected, float) and isinstance(value, (int, float)):
        return expected == value or _near(expected, float(value))
    return type(expected) in (int, bool, str, type(None), float) and expected == value
