"""The table of a study: every variant's score, its difference to what it is compared with, and what it cost.

Which pairs are compared is fixed beforehand, so their intervals are corrected for their number (Bonferroni): with the
study's confidence none of them misses its difference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kubedistill_api.comparison import ArmResult, Comparison
from kubedistill_runtime.evaluate.paired import Student, lead, score_interval
from kubedistill_runtime.evaluate.rounds import DIGITS, rounded


@dataclass(frozen=True)
class Measured:
    """One variant as its stages left it."""

    student: Student
    """`candidate` is the variant's name."""
    against: str | None
    settings: str
    questions: int
    """Mean over the corpora, as the traces are."""
    traces: int
    steps: float
    """Mean over the trainings, as the tokens are."""
    training_tokens: float
    response_tokens: float


def compare(
    measured: Sequence[Measured], *, confidence: float, base: float | None = None, draws: int = 1
) -> Comparison:
    """The table; `draws` is how many corpora each variant has. Raises ValueError where students were not asked the
    same, and without a pair to compare."""
    by_name = {one.student.candidate: one for one in measured}
    comparisons = sum(one.against is not None for one in measured)
    if comparisons == 0:
        raise ValueError("no variant is compared with another")
    of_pair = 1 - (1 - confidence) / comparisons
    arms = [_row(one, by_name[one.against].student if one.against else None, confidence, of_pair) for one in measured]
    first = measured[0].student
    return Comparison(
        arms=arms,
        confidence=confidence,
        comparisons=comparisons,
        benchmark_questions=first.questions,
        samples=max(first.samples),
        seeds=first.seeds,
        draws=draws,
        base=round(base, DIGITS) if base is not None else None,
        front_training=front(arms, lambda arm: arm.training_tokens),
        front_response=front(arms, lambda arm: arm.response_tokens),
    )


def front(arms: Sequence[ArmResult], cost: Callable[[ArmResult], float]) -> list[str]:
    """Names of the variants that no other dominates, the cheapest first: none scores at least as high at no higher a
    cost and is better in one of the two."""

    def dominated(arm: ArmResult) -> bool:
        return any(
            other.score >= arm.score
            and cost(other) <= cost(arm)
            and (other.score > arm.score or cost(other) < cost(arm))
            for other in arms
        )

    return [arm.arm for arm in sorted(arms, key=cost) if not dominated(arm)]


def _row(one: Measured, reference: Student | None, confidence: float, of_pair: float) -> ArmResult:
    own = score_interval(one.student, confidence)
    difference = lead(one.student, reference, of_pair) if reference else None
    return ArmResult(
        arm=one.student.candidate,
        settings=one.settings,
        score=round(own.mean, DIGITS),
        ci=rounded(own),
        against=one.against,
        difference=round(difference.mean, DIGITS) if difference else None,
        difference_ci=rounded(difference) if difference else None,
        questions=one.questions,
        traces=one.traces,
        steps=one.steps,
        training_tokens=one.training_tokens,
        response_tokens=round(one.response_tokens, 1),
    )
