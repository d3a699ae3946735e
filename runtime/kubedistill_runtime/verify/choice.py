"""Multiple choice: the letter that a response settles on, A to J.

A guess is right one time in four, so hedging must not pay: a response whose answer section settles on two different
letters, in one box or in several places, has no answer.
"""

import re
from dataclasses import dataclass

from kubedistill_runtime.verify.answer import answer_section, boxed, stated

LETTERS = "ABCDEFGHIJ"

_DRESS = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|operatorname|boldsymbol|bf|rm)(?![a-zA-Z])|[${}*_`~]"
)
_CHOSEN = re.compile(
    r"(?:the\s+)?(?:(?:correct|right|best|final)\s+)?(?:(?:option|choice|answer)(?:\s+is\b)?\s*:?\s*)?"
    r"(?:[(\[]\s*(?P<bracketed>[A-J])\s*[)\]]"
    r"|(?P<bare>[A-J])(?![\w'])(?=\s*(?:\Z|[).:,;/|&+(\[–—-]|(?:and|or|is|because|since)\b|[A-J]\b)))"
    r"[).:\]]*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_ENDS = r"(?=\s*(?:\Z|[).,:;/|&+\]]|(?:and|or)\b))"
_ANOTHER = re.compile(
    r"[(\[]\s*([A-Ja-j])\s*[)\]]"
    rf"|(?:\A|[,;/|&+–—-]|\b(?:and|or|option|choice|answer))\s*(?<![\w'])([A-Ja-j])(?![\w']){_ENDS}"
    r"|(?<![\w'])([A-J])[).:]\s*(?=\w)"
)
"""A further option in what follows the first: bracketed, joined to it, or with a text of its own."""
_CORRECT_OPTION = re.compile(
    r"\b(?:correct|right|best|final)\s+(?:option|choice)[*_]*(?:\s+is\b\s*:?|\s*[:=])[*_]*\s*(?P<answer>\S.*)$",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Choice:
    """The letter and how it was found (`boxed`, `phrase`, `line`); None, with an error, where there is none."""

    letter: str | None
    found: str
    error: str | None = None


def extract_choice(response: str) -> Choice:
    """The letter of a response's answer section: of its boxes, else of "the answer is ...", else its last line."""
    section, error = answer_section(response)
    if section is None:
        return Choice(None, "none", error)
    boxes = [letters_of(text) for text in boxed(section)]
    phrases = [letters_of(text) for text in [*stated(section), *_CORRECT_OPTION.findall(section)]]
    named = {letter for letters in (*boxes, *phrases) for letter in letters}
    if len(named) > 1:
        return Choice(None, "none", f"the answer names {' and '.join(sorted(named))}: one letter counts")
    if boxes and not any(boxes):
        return Choice(None, "none", "the box names no letter")
    if named:
        return Choice(named.pop(), "boxed" if boxes else "phrase")
    last = letters_of(section.strip().splitlines()[-1])
    if len(last) == 1:
        return Choice(last.pop(), "line")
    return Choice(None, "none", "no letter is chosen: end with \\boxed{} around one")


def letters_of(text: str) -> set[str]:
    """The options that a text settles on: one for `B`, `(b)`, `\\text{B}`, `B. Paris`, `option B`; both of `A or B`."""
    chosen = _CHOSEN.match(_DRESS.sub(" ", text).strip())
    if chosen is None:
        return set()
    others = [next(filter(None, groups)) for groups in _ANOTHER.findall(chosen["rest"].strip())]
    return {letter.upper() for letter in (chosen["bracketed"] or chosen["bare"], *others)}


def check_letter(gold: str) -> str | None:
    """Why a gold cannot be verified against; None where it can: a letter A to J that, boxed, is found as itself."""
    if len(gold) != 1 or gold not in LETTERS:
        return f"gold {gold[:40]!r} is no letter A to J: give the letter of the right option"
    return None if extract_choice(f"\\boxed{{{gold}}}").letter == gold else f"gold {gold!r} does not equal itself"
