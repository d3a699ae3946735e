"""How far one student is ahead of another on the same questions, for any number of benchmarks and training seeds.

The question is the unit, as in `intervals`. From `MIN_BOOTSTRAP` questions on the interval is Student's t on the
questions' differences: the comparisons of a probe are corrected for their number, and so far out in the tails a
percentile bootstrap has hardly a resample left. Below that, and where nothing varies, `intervals.difference_interval`
has its method for few questions. Benchmarks count alike; their intervals are combined by the distances of their ends
from the middle (MOVER, Zou and Donner 2008), which keeps lopsided intervals lopsided.

With several training seeds a difference D[seed, question] has a part of the seed, one of the question and a rest, as in
an analysis of variance of two crossed random factors. The variances over questions and over seeds are added, with
Satterthwaite's degrees of freedom (1946). Both hold the rest, which an unbiased estimate would subtract once; but with
two or three seeds that estimate is often zero by chance, and then promises too much. Without repeats nothing can be
said about the seed, and nothing is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kubedistill_runtime.evaluate.estimators import Floats
from kubedistill_runtime.evaluate.intervals import (
    MIN_BOOTSTRAP,
    Estimate,
    difference_interval,
    mean_interval,
    student_t,
)


@dataclass(frozen=True)
class Student:
    """The scores of what one candidate taught."""

    candidate: str
    rates: tuple[Floats, ...]
    """Of each benchmark: seeds x questions, the share of right answers."""
    samples: tuple[int, ...]
    """Of each benchmark: answers behind each rate."""

    @property
    def score(self) -> float:
        """Mean over benchmarks of the mean over seeds and questions."""
        return float(np.mean([rates.mean() for rates in self.rates]))

    @property
    def seeds(self) -> int:
        return self.rates[0].shape[0]

    @property
    def questions(self) -> int:
        return sum(rates.shape[1] for rates in self.rates)


def score_interval(student: Student, confidence: float) -> Estimate:
    """The student's score with its interval over questions."""
    parts = [
        mean_interval(rates.mean(axis=0), samples * student.seeds, confidence)
        for rates, samples in zip(student.rates, student.samples, strict=True)
    ]
    return _combined(parts)


def lead(ahead: Student, behind: Student, confidence: float) -> Estimate:
    """Score of `ahead` minus score of `behind`, with its paired interval.

    Raises ValueError where benchmarks, questions, seeds or samples differ in number.
    """
    shapes = [[rates.shape for rates in student.rates] for student in (ahead, behind)]
    if shapes[0] != shapes[1] or ahead.samples != behind.samples:
        raise ValueError(f"{ahead.candidate} and {behind.candidate} were not asked the same: {shapes[0]}, {shapes[1]}")
    pairs = list(zip(ahead.rates, behind.rates, strict=True))
    over_questions = _combined(
        [
            _over_questions(a, b, samples * ahead.seeds, confidence)
            for (a, b), samples in zip(pairs, ahead.samples, strict=True)
        ]
    )
    if ahead.seeds == 1:
        return over_questions
    return _with_seeds(over_questions, [a - b for a, b in pairs], confidence)


def _over_questions(ahead: Floats, behind: Floats, samples: int, confidence: float) -> Estimate:
    """Of one benchmark, by its questions alone."""
    differences = (ahead - behind).mean(axis=0)
    number = len(differences)
    if number < MIN_BOOTSTRAP or samples == 1 or np.ptp(differences) == 0:
        return difference_interval(ahead.mean(axis=0), behind.mean(axis=0), samples, confidence)
    mean = float(differences.mean())
    half = student_t(confidence, number - 1) * float(differences.std(ddof=1)) / number**0.5
    return Estimate(mean, max(-1.0, mean - half), min(1.0, mean + half), "t")


def _combined(parts: Sequence[Estimate]) -> Estimate:
    """Mean of independent estimates."""
    if len(parts) == 1:
        return parts[0]
    mean = float(np.mean([part.mean for part in parts]))
    down = float(np.sqrt(sum((part.mean - part.low) ** 2 for part in parts))) / len(parts)
    up = float(np.sqrt(sum((part.high - part.mean) ** 2 for part in parts))) / len(parts)
    return Estimate(mean, mean - down, mean + up, parts[0].method)


def _with_seeds(estimate: Estimate, differences: Sequence[Floats], confidence: float) -> Estimate:
    """The estimate widened by what the training seeds vary by. `differences` of each benchmark: seeds x questions."""
    seeds = differences[0].shape[0]
    of_seeds = np.mean([d.mean(axis=1) for d in differences], axis=0)
    extra = float(of_seeds.var(ddof=1)) / seeds
    if extra == 0:
        return estimate
    freedom = min(d.shape[1] for d in differences) - 1
    quantile = student_t(confidence, max(1, freedom))
    own = ((estimate.high - estimate.low) / 2 / quantile) ** 2
    if own < 1e-9 * extra:
        # Questions that all differ alike: only the seeds vary.
        half = student_t(confidence, seeds - 1) * extra**0.5
        return Estimate(estimate.mean, max(-1.0, estimate.mean - half), min(1.0, estimate.mean + half), "t")
    together = (own + extra) ** 2 / (own**2 / max(1, freedom) + extra**2 / (seeds - 1))
    wider = student_t(confidence, max(1.0, together)) / quantile * float(np.sqrt((own + extra) / own))
    low = estimate.mean - wider * (estimate.mean - estimate.low)
    high = estimate.mean + wider * (estimate.high - estimate.mean)
    return Estimate(estimate.mean, max(-1.0, low), min(1.0, high), estimate.method)
