"""How wide an interval will be, before anything is drawn: what more samples buy, and what only more questions do.

A score is the mean over n questions of the share of right answers among k. Its variance has two parts:

    between questions   V = rho m (1 - m)           the spread of the questions' own pass rates, mean m
    within questions    W = (1 - rho) m (1 - m)     the chance of each answer
    of the score        (V + W/k) / n

and that of the paired difference of two models of like spread, whose pass rates correlate by r over the questions:

    of the difference   2 ((1 - r) V + W/k) / n

Samples make W/k small and leave V as it is, so with n questions no number of them gets below a width. The half-width is
Student's t with n - 1 degrees of freedom times the root. Simulation against the intervals that are really made:
docs/statistics.md, and a test.
"""

import math
from dataclasses import dataclass

from kubedistill_runtime.evaluate.intervals import student_t


@dataclass(frozen=True)
class Spread:
    """What is assumed of the questions' pass rates. Shares, from 0 to 1."""

    mean: float = 0.7
    """The score. At 0.5 half-widths are at their widest, 9 % more than at 0.7; towards 1 they shrink."""
    between: float = 0.6
    """rho: the questions' part in the variance of single answers. With it the mean of 16 answers to each of 30
    questions has a sampling error of 1.3 points; the README of Light-R1 says that such means wander by 2 to 3."""
    alike: float = 0.8
    """r: correlation of the pass rates of the two models that are compared, over the questions. The students that
    docs/statistics.md simulates have 0.8."""

    def questions_part(self, *, paired: bool) -> float:
        """Variance that is left of one question when it is asked without end."""
        variance = self.between * self.mean * (1 - self.mean)
        return 2 * (1 - self.alike) * variance if paired else variance

    def answers_part(self, *, paired: bool) -> float:
        """Variance that one answer adds."""
        variance = (1 - self.between) * self.mean * (1 - self.mean)
        return 2 * variance if paired else variance


def half_width(
    questions: int, samples: float, confidence: float, *, paired: bool = False, spread: Spread | None = None
) -> float:
    """Expected half-width of the interval of a score, or of a paired difference. `samples` may be infinite.

    Raises ValueError for fewer than two questions: nothing can be said of their spread.
    """
    spread = spread or Spread()
    variance = spread.questions_part(paired=paired) + spread.answers_part(paired=paired) / samples
    return _quantile(questions, confidence) * math.sqrt(variance / questions)


def samples_for(
    wanted: float, questions: int, confidence: float, *, paired: bool = False, spread: Spread | None = None
) -> int | None:
    """Fewest samples per question whose interval is expected to have at most the half-width `wanted`.

    None where no number of samples has: the questions' own spread remains.
    """
    spread = spread or Spread()
    allowed = questions * (wanted / _quantile(questions, confidence)) ** 2
    room = allowed - spread.questions_part(paired=paired)
    if room <= 0:
        return None
    return max(1, math.ceil(spread.answers_part(paired=paired) / room * (1 - 1e-12)))


def questions_for(
    wanted: float, samples: int, confidence: float, *, paired: bool = False, spread: Spread | None = None
) -> int:
    """Fewest questions, of so many samples each, whose interval is expected to have at most the half-width `wanted`."""
    low, high = 1, 2
    while half_width(high, samples, confidence, paired=paired, spread=spread) > wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        wide = half_width(middle, samples, confidence, paired=paired, spread=spread) > wanted
        low, high = (middle, high) if wide else (low, middle)
    return high


def _quantile(questions: int, confidence: float) -> float:
    if questions < 2:
        raise ValueError(f"the spread of questions needs at least two of them (got {questions})")
    return student_t(confidence, questions - 1)
