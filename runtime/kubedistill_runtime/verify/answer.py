"""The final answer of a response: what stands after the thinking, and in it the last `\\boxed{}`.

The thinking is never searched. A model that boxed a number while thinking and then failed to state it has not answered.
A response without any think tag is taken as answer throughout; a caller whose chat template opens the thinking for the
model puts that `<think>` back in front, so that a response cut short inside it is seen for what it is.
"""

import re
from dataclasses import dataclass

MAX_RESPONSE = 8 << 20
"""Characters. Beyond it nothing is searched: the longest contexts in use give under 2 million."""

MAX_ANSWER = 2_000
"""Characters. No gold comes near; what is longer is a paragraph in a box."""

_TOKEN = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)
_PHRASE = re.compile(
    r"^[ \t>#*_-]*(?:.{0,200}?\b)?(?:final\s+)?answer[*_]*(?:\s+(?:is|equals)\b\s*:?|\s*[:=])[*_]*\s*(?P<answer>\S.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_HASHES = re.compile(r"^####\s*(?P<answer>\S.*)$", re.MULTILINE)
_MATH = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_BARE = re.compile(r"[-+]?(?:\d[\d,]*)(?:\.\d+)?(?:\s*/\s*\d+)?\s*%?")
_SENTENCE_END = re.compile(r"\.\s+(?=[A-Z])|\.\s*$")


@dataclass(frozen=True)
class Answer:
    """The final answer and how it was found: `boxed`, `phrase` ("the answer is ...", `####`) or `line` (the last)."""

    text: str | None
    found: str
    error: str | None = None


def answer_section(response: str) -> tuple[str | None, str | None]:
    """What follows the thinking, and None; or None and why there is no such section."""
    if len(response) > MAX_RESPONSE:
        return None, f"response has {len(response)} characters, at most {MAX_RESPONSE} are read"
    head, closed, section = response.rpartition("</think>")
    if not closed:
        if "<think>" in response:
            return None, "truncated: the thinking was never closed"
        section = response
    elif "<think>" in section:
        return None, "truncated: the thinking was opened again and never closed"
    if not section.strip():
        return None, "no answer after the thinking" if head or closed else "the response is empty"
    return section, None


def boxed(text: str) -> list[str]:
    """The contents of the balanced `\\boxed{...}` and `\\fbox{...}`, in the order of their ends; one pass."""
    opened: list[int | None] = []
    contents = []
    for token in _TOKEN.finditer(text):
        if token["box"]:
            opened.append(token.end())
        elif token[0] == "{":
            opened.append(None)
        elif token[0] == "}" and opened:
            start = opened.pop()
            if start is not None:
                contents.append(text[start : token.start()])
    return contents


def last_boxed(text: str) -> str | None:
    """The content of the last one; None where there is none."""
    contents = boxed(text)
    return contents[-1] if contents else None


def extract_answer(response: str) -> Answer:
    """The final answer of a response; text is None, with an error, where there is none to compare."""
    section, error = answer_section(response)
    if section is None:
        return Answer(None, "none", error)
    text, found = last_boxed(section), "boxed"
    if text is None:
        text, found = _stated(section), "phrase"
    if text is None:
        text, found = _last_line(section), "line"
    if text is None or not text.strip():
        return Answer(None, "none", "no final answer: put it in \\boxed{}")
    text = text.strip()
    if len(text) > MAX_ANSWER:
        return Answer(None, "none", f"the answer has {len(text)} characters, at most {MAX_ANSWER} are compared")
    return Answer(text, found)


def stated(section: str) -> list[str]:
    """What follows "the answer is" and `####`, to the end of its line, in the order of the text."""
    tail = section[-4_000:]
    matches = [*_PHRASE.finditer(tail), *_HASHES.finditer(tail)]
    return [match["answer"] for match in sorted(matches, key=lambda match: match.start("answer"))]


def _stated(section: str) -> str | None:
    answers = stated(section)
    if not answers:
        return None
    if math := _MATH.match(answers[-1].strip("*_ ")):
        return _inner(math)
    return _SENTENCE_END.split(answers[-1], maxsplit=1)[0].strip("*_ `") or None


def _last_line(section: str) -> str | None:
    line = section.strip().splitlines()[-1].strip("*_ `")
    if math := _MATH.fullmatch(line.rstrip(".")):
        return _inner(math)
    return line if _BARE.fullmatch(line.rstrip(".")) else None


def _inner(math: re.Match[str]) -> str:
    return next(group for group in math.groups() if group is not None)
