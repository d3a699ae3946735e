"""What a round of a probe came to: who leads, who leaves, and how sure that is."""

from typing import Literal

from pydantic import Field

from kubedistill_api.base import Model, later

Outcome = Literal["continue", "clear", "tie"]


class RoundScore(Model):
    """One candidate in one round, by the student that it made."""

    candidate: str
    """Name of the candidate."""
    score: float
    """Its student's score, between 0 and 1: the mean over benchmarks, and over training seeds."""
    ci: tuple[float, float]
    """Interval of the score alone; overlapping ones say nothing about a difference."""
    behind: float | None = None
    """The leader's score minus this one, on the same questions with the same seeds; None for the leader."""
    behind_ci: tuple[float, float] | None = None
    """Interval of that difference, wide enough to hold for all pairs of candidates and all rounds together."""


class Decision(Model):
    """The decision of one round."""

    round: int = Field(ge=1)
    """Which round, from 1."""
    outcome: Outcome
    """`continue`: another round is needed; `clear`: the leader is; `tie`: the budget is spent and it is not."""
    leader: str
    """The candidate whose student has the highest score."""
    survivors: list[str]
    """The leader, and those that are not clearly behind it."""
    scores: list[RoundScore]
    """Every candidate of the round, the best first."""
    confidence: float
    """Of the whole procedure: with this probability no interval of any round misses its difference."""
    questions: int
    """Benchmark questions that every student answered."""
    samples: int
    """Answers to each of them by each student."""
    seeds: int = 1
    """Students of each candidate."""
    draws: int = later(1)
    """Corpora that they learnt from: 1, or one for each student."""
    reason: str = ""
    """The decision in words."""

    def scope(self) -> str:
        """What the intervals cover, and what they do not."""
        if self.draws > 1:
            return "The intervals cover other questions and answers, other traces of each teacher and other trainings."
        covered = "other questions, answers and trainings" if self.seeds > 1 else "other questions and answers"
        left = "" if self.seeds > 1 else ", nor another training"
        return (
            f"The intervals cover {covered}. They do not cover another draw of a teacher's traces{left}, which may "
            "differ by more: procedure.redraw draws anew."
        )

    def dismisses(self, candidate: str | None) -> bool:
        """Whether nothing more is to be done for this candidate; for None, whether the procedure has ended."""
        return self.outcome != "continue" or (candidate is not None and candidate not in self.survivors)
