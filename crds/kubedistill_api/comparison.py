"""What a study came to: every variant's score and cost, and the differences to the reference. Pure."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from kubedistill_api.base import Model, later

Finding = Literal["better", "worse", "unclear"]
WORDS: Mapping[Finding, str] = {"better": "better", "worse": "worse", "unclear": "not told apart"}


class ArmResult(Model):
    """One variant of a study, by the students that it made."""

    arm: str
    """Name of the variant; with a grid and the number of the combination."""
    settings: str = later("")
    """The values of the grid's fields, where there is a grid."""
    score: float
    """Mean over benchmarks of the students' avg@k, over questions and training seeds, between 0 and 1."""
    ci: tuple[float, float]
    """Interval of the score alone; overlapping ones say nothing about a difference."""
    against: str | None = None
    """What it is compared with; None for the reference."""
    difference: float | None = None
    """Its score minus the one that it is compared with, on the same questions with the same seeds."""
    difference_ci: tuple[float, float] | None = None
    """Interval of that difference, wide enough to hold for all comparisons of the study together."""
    questions: int
    """Questions that were trained on; the mean, where every training has a corpus of its own."""
    traces: int
    """Traces that were trained on, likewise."""
    steps: float
    """Optimizer steps of one training."""
    training_tokens: float
    """Tokens of one training, counted once per epoch."""
    response_tokens: float
    """Mean length of the students' answers to the benchmarks, in tokens."""

    @property
    def finding(self) -> Finding | None:
        """What the interval allows to say; None for the reference."""
        if self.difference_ci is None:
            return None
        low, high = self.difference_ci
        return "better" if low > 0 else "worse" if high < 0 else "unclear"


class Comparison(Model):
    """The table of a study."""

    arms: list[ArmResult]
    """Every variant, in the order of the manifest; in a status those that there is room for."""
    omitted: dict[Finding, int] = later({})
    """Variants without a row here, by what was found of them. The report has a row for every one."""
    confidence: float
    """Of all intervals of differences together, and of each score's interval alone."""
    comparisons: int
    """Differences that are looked at; their intervals are corrected for so many."""
    benchmark_questions: int
    """Questions that every student answered."""
    samples: int
    """Answers to each of them by each student."""
    seeds: int
    """Students trained in each variant."""
    draws: int = later(1)
    """Draws of the traces that these learnt from: 1, or one for each student."""
    base: float | None = None
    """Score of the student before training."""
    front_training: list[str]
    """Variants than which no other scores at least as high for at most as many training tokens, by the means; the
    cheapest first."""
    front_response: list[str]
    """The same by the mean length of the students' answers."""

    @property
    def best(self) -> ArmResult:
        """The highest score, the first among equals."""
        return max(self.arms, key=lambda arm: arm.score)

    def summary(self) -> str:
        """`1 better, 3 worse, 6 not told apart`, of the variants against what they are compared with."""
        counts = Counter(arm.finding for arm in self.arms if arm.finding) + Counter(self.omitted)
        references = ", ".join(arm.arm for arm in self.arms if arm.against is None)
        return f"against {references}: {_counted(counts)}"

    def sentences(self) -> list[str]:
        """One for each comparison: what this study could see, in points of per cent. One more for those left out."""
        more = sum(self.omitted.values())
        return [
            *(_sentence(arm) for arm in self.arms if arm.against is not None),
            *([f"and {more} more in the report: {_counted(self.omitted)}"] if more else []),
        ]

    def shortened(self, rows: int) -> "Comparison":
        """With so many rows at most, but at least the reference and the highest score; then come those on a front, then
        the higher scores. What was found of the others is counted."""
        fronts = {*self.front_training, *self.front_response}
        best = self.best
        ranked = sorted(
            self.arms,
            key=lambda arm: (arm.against is not None and arm is not best, arm.arm not in fronts, -arm.score),
        )
        least = sum(arm.against is None or arm is best for arm in self.arms)
        kept = {arm.arm for arm in ranked[: max(rows, least)]}
        left = Counter(arm.finding for arm in self.arms if arm.finding and arm.arm not in kept)
        return self.model_copy(
            update={
                "arms": [arm for arm in self.arms if arm.arm in kept],
                "omitted": dict(left),
                "front_training": [name for name in self.front_training if name in kept],
                "front_response": [name for name in self.front_response if name in kept],
            }
        )


def _counted(counts: Mapping[Finding, int]) -> str:
    return ", ".join(f"{counts[key]} {word}" for key, word in WORDS.items() if counts.get(key))


def _sentence(arm: ArmResult) -> str:
    assert arm.difference is not None
    assert arm.difference_ci is not None
    low, high = (points(end) for end in arm.difference_ci)
    by = f"by {points(abs(arm.difference), sign=False)} points [{low}, {high}]"
    match arm.finding:
        case "better":
            return f"{arm.arm} is better than {arm.against} {by}"
        case "worse":
            return f"{arm.arm} is worse than {arm.against} {by}"
    reach = max(map(abs, arm.difference_ci))
    return (
        f"{arm.arm} and {arm.against}: no difference that this study could see "
        f"({points(arm.difference)} [{low}, {high}]; one of {points(reach, sign=False)} points is not ruled out)"
    )


def points(value: float, *, sign: bool = True) -> str:
    """In per cent; with as many digits as it takes not to show an end on the wrong side of 0."""
    digits = 1
    while value and digits < 3 and round(100 * value, digits) == 0:
        digits += 1
    return f"{100 * value:{'+' if sign else ''}.{digits}f}"
