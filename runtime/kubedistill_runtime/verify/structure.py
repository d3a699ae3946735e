"""Answers of several parts: lists, sets, tuples, intervals, unions, matrices, plus-minus.

Taking them apart here keeps set and tuple semantics out of the computer algebra: only single expressions reach it.
"""

import re
from dataclasses import dataclass
from typing import Literal

from kubedistill_runtime.verify.normal import NormalForm

MAX_PARTS = 64
"""Parts of one answer; matching unordered parts takes the square of this."""

Kind = Literal["list", "set", "sequence", "union", "matrix"]

_OPENING = {"(": ")", "[": "]", r"\{": r"\}", r"\langle": r"\rangle"}
_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|.", re.DOTALL)
_MATRIX = re.compile(
    r"\\begin\{(?P<env>[pbB]?matrix|smallmatrix|array)\}(?:\{[clr|]*\})?(?P<body>.*)\\end\{(?P=env)\}", re.DOTALL
)
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


@dataclass(frozen=True)
class Structure:
    """An answer's parts. brackets are the outer ones of a sequence, as in `[)`; width counts a matrix's columns."""

    kind: Kind
    parts: tuple[str, ...]
    brackets: str = ""
    width: int = 0

    @property
    def ordered(self) -> bool:
        """Whether the parts' order carries meaning."""
        return self.kind in ("sequence", "matrix")

    @property
    def is_point(self) -> bool:
        """Whether this is a point or vector whichever brackets it wears: (1, 2), or any with three parts or more."""
        if self.kind == "matrix":
            return self.width in (1, len(self.parts))
        return len(self.parts) > 2 or self.brackets in ("()", r"\langle\rangle")


def structure(form: NormalForm) -> Structure | None:
    """The parts of an answer; None where it is a single expression."""
    text = form.spaced
    if len(text) < 2 or (form.wordy and "," not in text) or _THOUSANDS.fullmatch(text):
        return None
    if match := _MATRIX.fullmatch(text.strip()):
        rows = [[cell.strip() for cell in row.split("&")] for row in match["body"].strip().split(r"\\") if row.strip()]
        if rows and len({len(row) for row in rows}) == 1:
            return Structure("matrix", tuple(cell for row in rows for cell in row), width=len(rows[0]))
        return None
    if parts := _split(text, ","):
        return Structure("list", parts)
    if parts := _split(text, r"\cup"):
        return Structure("union", parts)
    if enclosed := _enclosed(text):
        opening, inner, closing = enclosed
        if opening == r"\{" and (r"\mid" in inner or "|" in inner or ":" in inner):
            return None
        parts = _split(inner, ",") or ((inner.strip(),) if opening == r"\{" and inner.strip() else ())
        if not parts:
            return None
        return Structure("set", parts) if opening == r"\{" else Structure("sequence", parts, opening + closing)
    if text.count(r"\pm") == 1 and r"\mp" not in text:
        return Structure("list", (text.replace(r"\pm", "+"), text.replace(r"\pm", "-")))
    return None


def thousands_as_list(form: NormalForm) -> Structure | None:
    """The other reading of "100,200": not the number, but the list of 100 and 200."""
    return Structure("list", tuple(form.spaced.split(","))) if _THOUSANDS.fullmatch(form.spaced) else None


def _split(text: str, separator: str) -> tuple[str, ...]:
    """The parts between separators outside of all brackets; empty where there is none, or where a part is empty."""
    parts, depth, start = [], 0, 0
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word in ("(", "[", "{", r"\{", r"\langle"):
            depth += 1
        elif word in (")", "]", "}", r"\}", r"\rangle"):
            depth -= 1
        elif word == separator and depth == 0:
            parts.append(text[start : token.start()].strip())
            start = token.end()
    parts.append(text[start:].strip())
    if len(parts) < 2 or len(parts) > MAX_PARTS or not all(parts):
        return ()
    return tuple(parts)


def _enclosed(text: str) -> tuple[str, str, str] | None:
    """(opening, inside, closing) where one pair of brackets holds the whole text; "[0, 1)" counts as a pair."""
    opening = next((opening for opening in _OPENING if text.startswith(opening)), None)
    closing = next((closing for closing in _OPENING.values() if text.endswith(closing)), None)
    if opening is None or closing is None or len(text) < len(opening) + len(closing):
        return None
    if (opening == r"\{") != (closing == r"\}"):
        return None
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in ("(", "[", "{", r"\{", r"\langle"):
            depth += 1
        elif token[0] in (")", "]", "}", r"\}", r"\rangle"):
            depth -= 1
        if depth == 0 and token.end() < len(text):
            return None
    return opening, text[len(opening) : len(text) - len(closing)], closing
