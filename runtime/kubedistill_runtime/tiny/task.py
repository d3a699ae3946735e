"""Signed sums of single digits, and the ways in which a teacher writes one down.

A question is ``Compute 4+8-3+6.``; its level is the number of terms; every prefix total lies in 0..99. A trace is
``<think>``, lines of arithmetic, ``</think>`` and ``\\boxed{answer}``. The styles differ as real teachers do: ``run``
and ``words`` keep a running total, ``group`` adds the positive and the negative terms apart, ``terse`` takes two terms
a line, and ``direct`` writes the answer at once.
"""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

LEVELS = range(3, 9)
CLEAN_STYLES = ("run", "words", "group")
SLIPS = (-10, -1, 1, 10)
HIGHEST = 99


@dataclass(frozen=True)
class Question:
    """A sum of ``terms``, each -9..9 and not 0, the first one positive."""

    terms: tuple[int, ...]

    @property
    def expression(self) -> str:
        return _chain(self.terms)

    @property
    def text(self) -> str:
        return f"Compute {self.expression}."

    @property
    def answer(self) -> int:
        return sum(self.terms)

    def row(self) -> dict[str, str | int]:
        """The JSON row of a question file; ``terms`` is the level."""
        return {"question": self.text, "answer": str(self.answer), "terms": len(self.terms)}


def draw_question(rng: random.Random, level: int) -> Question:
    terms = [rng.randint(1, 9)]
    while len(terms) < level:
        term = rng.choice((-1, 1)) * rng.randint(1, 9)
        if 0 <= sum(terms) + term <= HIGHEST:
            terms.append(term)
    return Question(tuple(terms))


def draw_questions(seed: int, per_level: int, exclude: Collection[Question] = ()) -> list[Question]:
    """``per_level`` different questions of each level in LEVELS, shuffled, none of them in ``exclude``."""
    rng = random.Random(seed)
    taken = set(exclude)
    questions: list[Question] = []
    for level in LEVELS:
        wanted = len(questions) + per_level
        while len(questions) < wanted:
            question = draw_question(rng, level)
            if question not in taken:
                taken.add(question)
                questions.append(question)
    rng.shuffle(questions)
    return questions


def train_questions() -> list[Question]:
    """The pool a teacher is asked: 300 questions."""
    return draw_questions(seed=1, per_level=50)


def benchmark_questions() -> list[Question]:
    """The 102 questions that measure a student; none is in the train pool."""
    return draw_questions(seed=2, per_level=17, exclude=train_questions())


class Slips:
    """Arithmetic that goes wrong with probability ``rate`` at each step; a wrong total is carried on."""

    def __init__(self, rng: random.Random, rate: float):
        self.rng, self.rate = rng, rate

    def add(self, total: int, *terms: int) -> int:
        total += sum(terms)
        if self.rate and self.rng.random() < self.rate:
            total += self.rng.choice(SLIPS)
        return min(max(total, 0), HIGHEST)


def _chain(terms: tuple[int, ...]) -> str:
    return "".join(f"{term:+d}" for term in terms).removeprefix("+")


def _run(terms: tuple[int, ...], slips: Slips) -> tuple[list[str], int]:
    lines, total = [], terms[0]
    for term in terms[1:]:
        after = slips.add(total, term)
        lines.append(f"{total}{term:+d}={after}")
        total = after
    return lines, total


def _words(terms: tuple[int, ...], slips: Slips) -> tuple[list[str], int]:
    lines, total = [f"start {terms[0]}"], terms[0]
    for term in terms[1:]:
        total = slips.add(total, term)
        lines.append(f"{'add' if term > 0 else 'take'} {abs(term)} get {total}")
    return lines, total


def _group(terms: tuple[int, ...], slips: Slips) -> tuple[list[str], int]:
    gains = tuple(term for term in terms if term > 0)
    losses = tuple(-term for term in terms if term < 0) or (0,)
    gain_lines, gain = _run(gains, slips)
    loss_lines, loss = _run(losses, slips)
    total = slips.add(gain, -loss)
    return [f"plus {gains[0]}", *gain_lines, f"minus {losses[0]}", *loss_lines, f"total {gain}-{loss}={total}"], total


def _terse(terms: tuple[int, ...], slips: Slips) -> tuple[list[str], int]:
    lines, total = [], terms[0]
    for start in range(1, len(terms), 2):
        pair = terms[start : start + 2]
        after = slips.add(total, *pair)
        lines.append(f"{_chain((total, *pair))}={after}")
        total = after
    return lines, total


def _direct(terms: tuple[int, ...], slips: Slips) -> tuple[list[str], int]:
    total = slips.add(0, *terms)
    return [f"{_chain(terms)}={total}"], total


STYLES: dict[str, Callable[[tuple[int, ...], Slips], tuple[list[str], int]]] = {
    "run": _run,
    "words": _words,
    "group": _group,
    "terse": _terse,
    "direct": _direct,
}


def render_trace(question: Question, style: str, rng: random.Random, slip: float = 0.0) -> str:
    """The response in ``style``, without the end-of-turn token; ``slip`` is the chance of an error per step."""
    lines, answer = STYLES[style](question.terms, Slips(rng, slip))
    return "\n".join(("<think>", *lines, "</think>", rf"\boxed{{{answer}}}"))
