"""Everything that the page and the card say, as plain data."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kubedistill_api.benchmarks import Published
from kubedistill_api.comparison import Comparison
from kubedistill_api.decision import Decision, RoundScore
from kubedistill_api.stage import StageResult
from kubedistill_api.status import Score, ScoreDelta

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stage:
    """One stage that led here."""

    role: str
    """Its name for the report: `train`, or `train-CANDIDATE` of a probe."""
    result: StageResult
    parameters: dict[str, Any] | None
    """What it was asked to do; None where its spec was not left beside the result."""

    @property
    def seconds(self) -> float:
        """Wall-clock time of the attempt that finished."""
        return (self.result.finished - self.result.started).total_seconds()


@dataclass(frozen=True)
class Fate:
    """How many ended at one point, for one reason."""

    stage: str
    reason: str
    example: str
    """The sentence that one of them was given."""
    count: int


@dataclass(frozen=True)
class Funnel:
    """From questions to the corpus."""

    traces: tuple[tuple[str, int], ...]
    """Label and number left, from the first step to the last."""
    questions: tuple[tuple[str, int], ...]
    """The same in questions with at least one such trace."""
    trace_fates: tuple[Fate, ...]
    question_fates: tuple[Fate, ...]


@dataclass(frozen=True)
class PassRates:
    """How often the student solved the questions before training, by what became of the question."""

    samples: int
    hard: Ints
    """Questions by number of right responses, 0..samples: those that stayed."""
    easy: Ints
    """Dropped because the student solves them."""
    unsolved: Ints
    """Dropped before difficulty was looked at: the teacher has no usable trace."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of the teacher's responses."""

    drawn: Ints
    kept: Ints

    @property
    def median(self) -> float | None:
        """Of all that were drawn."""
        return float(np.median(self.drawn)) if len(self.drawn) else None


@dataclass(frozen=True)
class Training:
    """The curve of one training."""

    rows: tuple[dict[str, float], ...]
    """One per optimiser step: step, epoch, loss, learning_rate, tokens, seconds, ..."""

    @property
    def window(self) -> int:
        """Steps that a loss is averaged over: batches differ by more than one step teaches."""
        return max(1, len(self.rows) // 20)

    @property
    def first_loss(self) -> float:
        """Mean over the first window."""
        return float(np.mean([row["loss"] for row in self.rows[: self.window]]))

    @property
    def last_loss(self) -> float:
        """Mean over the last window."""
        return float(np.mean([row["loss"] for row in self.rows[-self.window :]]))


@dataclass(frozen=True)
class Spread:
    """How a figure is spread over the response tokens of a corpus, in nats."""

    mean: float
    std: float
    quantiles: dict[int, float]
    """By per cent."""
    width: float
    """Of a bin of the histogram, which begins at 0."""
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Covariates:
    """What a corpus is to the student before training, and how far training moved the student."""

    label: str
    """The candidate or the variant; empty for a job."""
    score: float | None
    """Of the students made of it, between 0 and 1."""
    traces: int
    tokens: int
    """Response tokens that were measured."""
    mean_tokens: float
    """Of a response."""
    nll: Spread
    """Negative log-likelihood of each token."""
    entropy: Spread
    """Of the student's distribution at each token's place."""
    shift: float
    """Of the hidden states, along the two main axes of the base's."""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark, before and after."""

    name: str
    questions: int
    samples: int
    scores: tuple[Score, ...]
    deltas: tuple[ScoreDelta, ...]
    intervals: dict[str, str]
    """How the interval of each metric was made: `bootstrap` or `score`."""
    base: dict[str, float] | None
    """truncatedShare, meanTokens, errors."""
    student: dict[str, float]
    per_question: tuple[tuple[str, float | None, float], ...]
    """Question id, share of right answers of the base and of the student."""
    tokens: dict[str, Ints]
    """Tokens of the answers, by `base` and `student`."""
    texts: dict[str, str]
    """Beginning of every question, by id."""

    def score(self, model: str, metric: str) -> Score | None:
        return next((s for s in self.scores if s.model == model and s.metric == metric), None)

    def delta(self, metric: str) -> ScoreDelta | None:
        return next((d for d in self.deltas if d.metric == metric), None)

    @property
    def metrics(self) -> tuple[str, ...]:
        """avg@k first."""
        return tuple(s.metric for s in self.scores if s.model == "student")

    @property
    def metric(self) -> str:
        """The one that decides."""
        return self.metrics[0]


@dataclass(frozen=True)
class Copied:
    """A score that somebody else published."""

    benchmark: str
    who: Literal["student", "teacher"]
    """What the model is here; the student before training."""
    published: Published


@dataclass(frozen=True)
class Track:
    """One way from a teacher to a student. A job has one, a probe one per candidate."""

    name: str
    """Of the candidate; empty for a job."""
    teacher: str
    funnel: Funnel | None
    lengths: Lengths | None
    verified_share: float | None
    """Share of the teacher's responses that are correct."""
    training: Training | None
    benchmarks: tuple[Benchmark, ...]
    confidence: float

    @property
    def label(self) -> str:
        return self.name or self.teacher


@dataclass(frozen=True)
class Excerpt:
    """One question with responses to read."""

    group: str
    """Benchmark of an answer; empty for traces."""
    question_id: str
    question: str
    gold: str
    facts: dict[str, float | None]
    """`passRate` of a training question; `base` and `student` shares of a benchmark's."""
    note: str
    """What became of the question."""
    responses: tuple[dict[str, Any], ...]
    """index, who, correct, error, kept, stage, reason, note, tokens, truncated, method, text, cut."""


@dataclass(frozen=True)
class Excerpts:
    """A sample of what was drawn."""

    entries: tuple[Excerpt, ...]
    questions: int
    """Questions in all, of which `entries` are a sample."""
    responses: int
    """Responses in all."""

    @property
    def shown(self) -> int:
        """Responses among the entries."""
        return sum(len(entry.responses) for entry in self.entries)


@dataclass(frozen=True)
class Report:
    """One finished resource."""

    kind: str
    namespace: str
    name: str
    manifest: dict[str, Any]
    student: str
    finished: datetime
    """End of the last stage before the report; the report's own time would make equal inputs differ."""
    stages: tuple[Stage, ...]
    prepared: dict[str, float | int | str | None]
    """Figures of the prepare stage."""
    prepare_fates: tuple[Fate, ...]
    pass_rates: PassRates | None
    tracks: tuple[Track, ...]
    traces: Excerpts | None
    answers: Excerpts | None
    decisions: tuple[Decision, ...] = ()
    """Of a probe's rounds, in their order."""
    comparison: Comparison | None = None
    """A study's table."""
    copied: tuple[Copied, ...] = ()
    """What is published of the models."""
    covariates: tuple[Covariates, ...] = ()
    """Of each candidate's last corpus, of each variant's, or of the job's; the highest score first."""

    @property
    def placed(self) -> dict[str, tuple[RoundScore, Decision]]:
        """Each candidate's last comparison, and the round's decision: those still in the running first, then the last
        to leave."""
        found: dict[str, tuple[RoundScore, Decision]] = {}
        for decision in reversed(self.decisions):
            for entry in decision.scores:
                found.setdefault(entry.candidate, (entry, decision))
        return found

    @property
    def is_probe(self) -> bool:
        return self.kind == "TeacherProbe"

    @property
    def is_study(self) -> bool:
        return self.kind == "DistillationStudy"

    @property
    def evaluated(self) -> tuple[Track, ...]:
        return tuple(track for track in self.tracks if track.benchmarks)
