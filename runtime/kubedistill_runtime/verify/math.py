"""The ladder for math answers: normal form, letters, exact rationals, parts, computer algebra.

Each rung answers equal, not equal, or passes on. The first rungs cost microseconds and never evaluate anything, so they
run in the caller's process; the last one (`symbolic`) is handed in by a child process that may be killed.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from kubedistill_runtime.verify.answer import MAX_ANSWER, last_boxed
from kubedistill_runtime.verify.normal import NormalForm, normal_form
from kubedistill_runtime.verify.rational import rational
from kubedistill_runtime.verify.structure import Structure, structure, thousands_as_list
from kubedistill_runtime.verify.types import Outcome
from kubedistill_runtime.verify.wellformed import flaw

Symbolic = Callable[[NormalForm, NormalForm], Outcome]
"""Compares a gold with an answer, gold first, by computer algebra."""

MAX_DEPTH = 4
"""Parts of parts of parts: points of a set of a list. Deeper nesting is not compared."""

MAX_WORDS = 3
"""Words that a gold may have in a row and still be an answer that is given in just these words."""

_CHOICE = re.compile(r"\(?\s*(?P<letter>[A-Z])\s*\)?")
_CHOSEN = re.compile(
    r"(?:(?:option|choice|answer)\s+)?(?:\(\s*(?P<a>[A-Za-z])\s*\)|(?P<b>[A-Za-z])\s*(?=[).:]|\Z))[).:]*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_LONE_LETTER = re.compile(r"(?<![a-zA-Z\\])[A-Z](?![a-zA-Z])")
_RELATION = re.compile(r"[<>=]|\\(?:le|ge|ne|in|lt|gt)(?![a-zA-Z])")
_NAMED_SET = re.compile(r"\\(?:mathbb|emptyset|setminus|backslash|cup|cap)(?![a-zA-Z])")
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z][a-zA-Z'-]*")
_LETTER = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z]")


def compare(gold: str, answer: str, symbolic: Symbolic | None = None) -> Outcome | None:
    """Whether an answer equals the gold. None: only `symbolic` could tell, and it was not given."""
    for name, text in (("gold", gold), ("answer", answer)):
        if len(text) > MAX_ANSWER:
            return Outcome(False, "none", f"{name} has {len(text)} characters, at most {MAX_ANSWER} are compared")
    return _compare(normal_form(gold), normal_form(answer), symbolic, 0)


def check_gold(gold: str, *, judged: bool = False) -> str | None:
    """Why a gold answer cannot be verified against; None where it can.

    It must be whole, and boxed it must pass its own check. That proves nothing of words, which equal themselves
    whatever they say: a few of them (`Evelyn`, `no solution`) are accepted and compared letter by letter; more are
    prose, for which only a judge model (`judged`) can tell right answers from wrong ones.
    """
    if not gold.strip():
        return "gold is empty: give the expected answer"
    if len(gold) > MAX_ANSWER:
        return f"gold has {len(gold)} characters, at most {MAX_ANSWER} are compared: give the final answer only"
    form = normal_form(gold)
    if not form.text:
        return f"gold {gold!r} has nothing to compare: give the expected answer"
    boxed = last_boxed(f"\\boxed{{{gold}}}")
    if boxed != gold:
        return f"gold {gold!r} does not survive in \\boxed{{}}: balance its braces"
    if problem := flaw(gold, form):
        return f"gold {gold[:60]!r} {problem}"
    if not judged and (words := words_in_a_row(gold)) > MAX_WORDS:
        return (
            f"gold {gold[:60]!r} is prose of {words} words, and without a judge model words are compared letter by "
            "letter: give the final answer alone, use domain choice for a question with options, or set "
            "verification.judge"
        )
    outcome = compare(gold, boxed)
    return None if outcome is not None and outcome.equal else f"gold {gold!r} does not equal itself"


def words_in_a_row(gold: str) -> int:
    """Words of a gold that is compared letter by letter, or of its longest part; 0 for one that is mathematics."""
    form = normal_form(gold)
    if not form.wordy:
        return 0
    parts = structure(form)
    texts = parts.parts if parts else (form.spaced,)
    return max(len(_WORD.findall(text)) for text in texts)


def _compare(gold: NormalForm, answer: NormalForm, symbolic: Symbolic | None, depth: int) -> Outcome | None:
    if not gold.text or not answer.text:
        return Outcome(False, "string", "nothing to compare" if not gold.text else None)
    if gold.name and answer.name and gold.name != answer.name:
        if not (_LETTER.search(gold.text) and _LETTER.search(answer.text)):
            return Outcome(False, "string")
        return None if symbolic is None else symbolic(_as_equation(gold), _as_equation(answer))
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return Outcome(None, "string", f"gold is in {gold.unit}, the answer in {answer.unit}")
    if gold.percent != answer.percent and (outcome := _compare_percent(gold, answer)):
        return outcome
    if gold.text == answer.text or _same_with_unit(gold, answer):
        return Outcome(True, "string")
    if choice := _CHOICE.fullmatch(gold.spaced):
        return _compare_choice(choice["letter"], answer)
    left, right = rational(gold.spaced), rational(answer.spaced)
    if left is not None and right is not None:
        return Outcome(left == right, "rational")
    parts, other = structure(gold), structure(answer)
    if parts is None and other is not None and other.kind == "list":
        parts = thousands_as_list(gold)
    elif other is None and parts is not None and parts.kind == "list":
        other = thousands_as_list(answer)
    if parts or other:
        return _compare_structures(gold, answer, parts, other, symbolic, depth)
    if gold.wordy or answer.wordy:
        if gold.text.casefold() == answer.text.casefold():
            return Outcome(True, "string")
        return Outcome(None, "string", "answers in words are compared letter by letter")
    if symbolic is None:
        return None
    if "=" in gold.text or "=" in answer.text:
        gold, answer = _as_equation(gold), _as_equation(answer)
    return symbolic(gold, answer)


def _compare_percent(gold: NormalForm, answer: NormalForm) -> Outcome | None:
    """A percentage and a bare number; None where one is no rational.

    The bare number is a share, or else a number of percent whose sign was left out, as in answers to "what percentage":
    50% is 0.5 and 50. As for math-verify, a number below 1 is a share and nothing else: 0.5% is not 0.5.
    """
    sign, bare = (gold, answer) if gold.percent else (answer, gold)
    percent, number = rational(sign.spaced), rational(bare.spaced)
    if percent is None or number is None:
        return None
    return Outcome(percent == 100 * number or (percent == number and abs(number) >= 1), "rational")


def _same_with_unit(gold: NormalForm, answer: NormalForm) -> bool:
    """Whether a unit of one letter, which reads as a variable, was typeset as text on one side only: 5 m^2."""
    return any(
        one.unit and not two.unit and two.text == one.text + one.unit for one, two in ((gold, answer), (answer, gold))
    )


def _as_equation(form: NormalForm) -> NormalForm:
    return replace(form, spaced=f"{form.name} = {form.spaced}", name=None) if form.name else form


def _compare_choice(letter: str, answer: NormalForm) -> Outcome:
    if (chosen := _CHOSEN.fullmatch(answer.spaced)) and not _LONE_LETTER.search(chosen["rest"]):
        return Outcome((chosen["a"] or chosen["b"]).upper() == letter, "choice")
    return Outcome(None, "choice", f"gold is the letter {letter} and the answer names no letter")


def _compare_structures(
    gold: NormalForm,
    answer: NormalForm,
    left: Structure | None,
    right: Structure | None,
    symbolic: Symbolic | None,
    depth: int,
) -> Outcome | None:
    if depth >= MAX_DEPTH:
        return Outcome(None, "structure", f"parts nested more than {MAX_DEPTH} deep")
    if left is None or right is None:
        one, single = (left, answer) if left else (right, gold)
        if one is not None and one.kind in ("set", "list") and len(one.parts) == 1:
            return _compare(normal_form(one.parts[0]), single, symbolic, depth + 1)
        if any(sign.search(form.text) for sign in (_RELATION, _NAMED_SET) for form in (gold, answer)):
            return None if symbolic is None else symbolic(gold, answer)
        return Outcome(False, "structure")
    if not _comparable(left, right) or len(left.parts) != len(right.parts):
        return Outcome(False, "structure")
    golds = [normal_form(part) for part in left.parts]
    answers = [normal_form(part) for part in right.parts]
    if left.ordered or right.ordered:
        pairs = [_compare(one, two, symbolic, depth + 1) for one, two in zip(golds, answers, strict=True)]
        return _all(pairs)
    return _match(golds, answers, symbolic, depth + 1)


def _comparable(left: Structure, right: Structure) -> bool:
    """Whether two kinds of brackets can mean the same. Two numbers in (], [) or [] are an interval and nothing else."""
    kinds = {left.kind, right.kind}
    if kinds == {"sequence"}:
        return left.brackets == right.brackets or (left.is_point and right.is_point)
    if "sequence" in kinds and kinds <= {"list", "sequence", "matrix"}:
        return all(side.kind == "list" or side.is_point for side in (left, right))
    if kinds == {"list", "union"}:  # "x < 1 or x > 2"
        return all(_RELATION.search(part) for side in (left, right) if side.kind == "list" for part in side.parts)
    return len(kinds) == 1 or kinds == {"list", "set"}


def _match(golds: list[NormalForm], answers: list[NormalForm], symbolic: Symbolic | None, depth: int) -> Outcome | None:
    """Unordered parts: each gold takes one answer. Equality is transitive, so the first that fits will do."""
    left = list(answers)
    taken: list[Outcome | None] = []
    for gold in golds:
        outcomes = [_compare(gold, answer, symbolic, depth) for answer in left]
        fits = next((i for i, outcome in enumerate(outcomes) if outcome is not None and outcome.equal), None)
        if fits is not None:
            taken.append(outcomes[fits])
            del left[fits]
        elif all(outcome is not None and outcome.equal is False for outcome in outcomes):
            return Outcome(False, "structure")
        else:
            return next(outcome for outcome in sorted(outcomes, key=_known) if outcome is None or outcome.equal is None)
    return _all(taken)


def _known(outcome: Outcome | None) -> bool:
    return outcome is not None


def _all(outcomes: list[Outcome | None]) -> Outcome | None:
    method = "math-verify" if any(outcome and outcome.method == "math-verify" for outcome in outcomes) else "structure"
    if any(outcome is not None and outcome.equal is False for outcome in outcomes):
        return Outcome(False, method)
    if any(outcome is None for outcome in outcomes):
        return None
    undecided = next((outcome for outcome in outcomes if outcome is not None and outcome.equal is None), None)
    return undecided or Outcome(True, method)
