"""Whether a gold answer was copied whole: brackets that are closed, operators that have something on both sides.

What is cut short equals itself as text, so that comparing it with itself shows nothing; and no right answer equals it.
"""

import re

from kubedistill_runtime.verify.normal import NormalForm

_ESCAPED = {r"\{": "‹", r"\}": "›", r"\langle": "‹", r"\rangle": "›"}
_ESCAPE = re.compile(r"\\[{}]|\\[lr]angle(?![a-zA-Z])")
_PLAIN = r"[^()\[\]{}‹›]"
_PAIR = re.compile(rf"\({_PLAIN}*\)|\[{_PLAIN}*\]|\{{{_PLAIN}*\}}|‹{_PLAIN}*›")
"""A pair of brackets with no others inside."""
_INTERVAL = re.compile(rf"[(\[\]]\s*(?=[^,\s]){_PLAIN}*,\s*(?=\S){_PLAIN}+[)\[\]]")
"""Half-open, or written as `]1, 2[`."""
_BRACKET = re.compile(r"[()\[\]{}‹›]")
_SHOWN = {"‹": r"\{", "›": r"\}"}
_ONE_SIDED = re.compile(r"\\(?:left|right)\s*\.")
"""The typesetter's own word for a bracket without its other half."""
_LABEL = re.compile(r"(?:\A|(?<=[\s,;]))[a-zA-Z0-9]{1,2}\)\s+(?=-?[\w$(]|-?\\(?:frac|sqrt|pi|text)(?![a-zA-Z]))")
"""`a) 5, b) 7`."""
_OPTION = re.compile(r"\(?\s*[A-Z]\s*\)?")

_WORDED = r"\\(?:times|cdot|div|pm|mp|le|ge|ne|lt|gt|in|cup|cap|approx|sqrt|frac)(?![a-zA-Z])"
_ENDS = re.compile(rf"(?P<sign>(?<!\^)[-+*/^_=<>]|{_WORDED})\s*(?=[,)\]]|\Z)")
_BEGINS = re.compile(r"(?:\A|[(,\[])\s*(?P<sign>[*/^_]|\\(?:times|cdot|div|cup|cap)(?![a-zA-Z]))")
_GRADE = re.compile(r"[A-Z]{1,2}[-+]")
"""A mark or a blood group, `A+`."""


def flaw(raw: str, form: NormalForm) -> str | None:
    """What is missing of an answer, `form` being the normal form of `raw`; None where it seems whole.

    Half-open intervals, `]1, 2[`, labels as in `a) 5`, `\\right.` and signs above a number (`0^+`) are whole.
    """
    if _OPTION.fullmatch(form.spaced) or _GRADE.fullmatch(form.spaced):
        return None
    text = _ESCAPE.sub(lambda match: _ESCAPED[match[0]], form.spaced)
    if not _ONE_SIDED.search(raw) and (alone := _alone(text)) and _alone(_LABEL.sub("", text)):
        return f"has a {_SHOWN.get(alone, alone)} without its other half: balance its brackets"
    if form.wordy:
        return None
    if match := _ENDS.search(text):
        return f"has nothing after {match['sign']}: give the whole answer"
    if match := _BEGINS.search(text):
        return f"has nothing before {match['sign']}: give the whole answer"
    return None


def _alone(text: str) -> str | None:
    """A bracket that is not one of a pair; None where there is none."""
    before = ""
    while text != before:
        before = text
        text = _PAIR.sub("x", text)
        if text == before:
            text = _INTERVAL.sub("x", text)
    found = _BRACKET.search(text)
    return found[0] if found else None
