"""The decision of a round of a probe: who is clearly behind, whether the leader is clear, or whether it is a tie.

What is promised: with the procedure's confidence, no interval of any pair of candidates in any round misses its
difference. The error that this allows is spread over the rounds in proportion to their budgets, and within a round
evenly over all pairs that the procedure began with (Bonferroni). Both are fixed beforehand: neither the choice of the
leader, nor who left before, nor that rounds share their questions can use up more than was allowed. The best candidate
leaves only when some interval misses, so it does so at most as often.

A candidate leaves when its interval of the difference to the leader excludes 0. Ranks alone decide nothing.
"""

from collections.abc import Sequence

from kubedistill_api.decision import Decision, Outcome, RoundScore
from kubedistill_runtime.evaluate.intervals import Estimate
from kubedistill_runtime.evaluate.paired import Student, lead, score_interval

DIGITS = 4
"""Of the figures in a decision, which has to fit into a termination message."""
NAMED = 3
"""Candidates that a sentence names with their figures."""


def pair_confidence(confidence: float, candidates: int, number: int, rounds: int, growth: int) -> float:
    """Confidence of one pair's interval in round `number` of `rounds`, for `candidates` at the beginning."""
    budgets = [growth**r for r in range(rounds)]
    error = (1 - confidence) * budgets[number - 1] / sum(budgets)
    return 1 - error / (candidates * (candidates - 1) / 2)


def leads(students: Sequence[Student], of_pair: float) -> tuple[Student, dict[str, Estimate]]:
    """The student with the highest score, the first among equals, and how far the others are behind it, the closest
    first."""
    leader, *others = sorted(students, key=lambda student: -student.score)
    return leader, {other.candidate: lead(leader, other, of_pair) for other in others}


def decide(
    students: Sequence[Student],
    *,
    candidates: int,
    number: int,
    rounds: int,
    growth: int,
    confidence: float,
    draws: int = 1,
) -> Decision:
    """The decision of round `number`. `students` are those of the candidates that are left, in the manifest's order,
    which decides among equals; `candidates` is how many the procedure began with, `draws` how many corpora each has.

    Raises ValueError without students, or where they were not asked the same.
    """
    if not students:
        raise ValueError("no students: there is nothing to compare")
    leader, behind = leads(students, pair_confidence(confidence, candidates, number, rounds, growth))
    close = [name for name, estimate in behind.items() if estimate.low <= 0]
    outcome: Outcome = "clear" if not close else "tie" if number == rounds else "continue"
    return Decision(
        round=number,
        outcome=outcome,
        leader=leader.candidate,
        survivors=[leader.candidate, *close],
        scores=[
            _entry(student, behind.get(student.candidate), confidence)
            for student in sorted(students, key=lambda s: -s.score)
        ],
        confidence=confidence,
        questions=leader.questions,
        samples=max(leader.samples),
        seeds=leader.seeds,
        draws=draws,
        reason=_reason(outcome, leader.candidate, behind, close),
    )


def _entry(student: Student, behind: Estimate | None, confidence: float) -> RoundScore:
    own = score_interval(student, confidence)
    return RoundScore(
        candidate=student.candidate,
        score=round(own.mean, DIGITS),
        ci=rounded(own),
        behind=round(behind.mean, DIGITS) if behind else None,
        behind_ci=rounded(behind) if behind else None,
    )


def rounded(estimate: Estimate) -> tuple[float, float]:
    """Both ends with the digits that results have."""
    return round(estimate.low, DIGITS), round(estimate.high, DIGITS)


def _reason(outcome: Outcome, leader: str, behind: dict[str, Estimate], close: list[str]) -> str:
    gone = [name for name in behind if name not in close]
    if outcome == "clear":
        return f"{leader} leads {_and([f'{name} by {_figure(behind[name])}' for name in gone], 'others')}"
    parts = []
    if outcome == "tie":
        ahead = _and([f"{_figure(behind[name])} ahead of {name}" for name in close], "others")
        parts.append(f"tie between {_and([leader, *close], 'others')} at this budget: {leader} is {ahead}")
    else:
        near = _and([f"{name} is {_figure(behind[name])} behind" for name in close], "others are close")
        parts.append(f"{leader} leads, not clearly: {near}")
    if gone:
        parts.append(f"clearly behind: {_and([f'{name} by {_figure(behind[name])}' for name in gone], 'others')}")
    return "; ".join(parts)


def _figure(estimate: Estimate) -> str:
    """`0.79 [0.74, 0.84]`; with as many digits as it takes not to show an end on the wrong side of 0."""
    digits = 2
    while digits < DIGITS and any(round(end, digits) == 0 for end in (estimate.low, estimate.high)):
        digits += 1
    return f"{estimate.mean:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _and(parts: list[str], rest: str) -> str:
    """`a, b and c`; of many the first ones."""
    shown = parts if len(parts) <= NAMED else [*parts[: NAMED - 1], f"{len(parts) - NAMED + 1} {rest}"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
