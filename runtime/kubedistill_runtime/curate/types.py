"""What curation takes and gives: traces, pass rates, fates, the funnel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Trace:
    """One response of the teacher with its verdict, keyed by (question_id, sample_index)."""

    question_id: str
    sample_index: int
    response_token_ids: Sequence[int]
    """As the teacher's tokenizer gave them, without the prompt's."""
    response: str
    finish_reason: str
    """As vLLM and the OpenAI API name it: `stop`, `length`, ..."""
    correct: bool
    method: str = ""
    """What judged the answer."""
    error: str = ""
    """Why there is no verdict, where the judge failed; `correct` is False then."""
    response_tokens: int | None = None
    """As the teacher's tokenizer counts them, where that is known."""
    surplus: bool = False
    """Drawn beyond the samples that count (see `stopAfterVerified`): kept on record, never in the corpus."""

    @property
    def length(self) -> int:
        """Tokens of the response; where nobody has counted them, the units that it is compared by."""
        return len(self.response_token_ids) if self.response_tokens is None else self.response_tokens

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """A stored record; fields that curation has no use for are passed over."""
        return cls(
            question_id=record["question_id"],
            sample_index=record["sample_index"],
            response_token_ids=record["response_token_ids"],
            response=record["response"],
            finish_reason=record["finish_reason"],
            correct=bool(record["correct"]),
            method=record.get("method") or "",
            error=record.get("error") or "",
            response_tokens=record.get("response_tokens"),
            surplus=bool(record.get("surplus")),
        )


@dataclass(frozen=True, slots=True)
class PassRate:
    """How often the student solved a question."""

    solved: int
    samples: int

    def __post_init__(self) -> None:
        if not 0 <= self.solved <= self.samples:
            raise ValueError(f"solved must lie between 0 and samples, got {self.solved} of {self.samples}")

    @property
    def rate(self) -> float | None:
        """Share between 0 and 1; None without samples."""
        return self.solved / self.samples if self.samples else None


class Stage(StrEnum):
    """Where a trace or a question ended."""

    SAMPLING = "sampling"
    QUALITY = "quality"
    CORRECTNESS = "correctness"
    DIFFICULTY = "difficulty"
    DIVERSITY = "diversity"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was kept or dropped: a word for machines, a sentence for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class TraceFate:
    """What became of one trace."""

    question_id: str
    sample_index: int
    stage: Stage
    reason: Reason

    @property
    def kept(self) -> bool:
        return self.stage is Stage.KEPT


@dataclass(frozen=True, slots=True)
class Selection:
    """Which traces of one question were selected."""

    chosen: tuple[int, ...]
    """Sample indices, ascending."""
    exact: bool = True
    """False where a greedy choice stood in for the best one."""
    min_distance: float | None = None
    """Smallest distance between two of the chosen, in the unit and normalisation of the spec; None where no
    distance was needed."""
    mean_distance: float | None = None
    """Mean over the pairs of the chosen."""
    measured: int = 0
    """Pairs whose distance was worked out in full."""


@dataclass(frozen=True, slots=True)
class QuestionFate:
    """What became of one question."""

    question_id: str
    stage: Stage
    reason: Reason
    pass_rate: float | None
    """The student's, between 0 and 1; None where it was not measured."""
    selection: Selection | None
    """None for a question that was dropped."""

    @property
    def kept(self) -> bool:
        return self.stage is Stage.KEPT


@dataclass(frozen=True, slots=True)
class Counts:
    """How many got through each stage; never growing from left to right."""

    sampled: int
    well_formed: int
    correct: int
    hard: int
    kept: int


@dataclass(frozen=True, slots=True)
class Funnel:
    """From questions to the corpus."""

    questions: int
    """Questions asked."""
    surplus: int
    """Traces on record that do not count; not in `traces.sampled`."""
    traces: Counts
    of_questions: Counts
    """Questions with at least one trace that got through the stage."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of curation: one fate per question and per trace, both in ascending order of their keys."""

    questions: tuple[QuestionFate, ...]
    traces: tuple[TraceFate, ...]
    funnel: Funnel

    @property
    def kept(self) -> tuple[tuple[str, int], ...]:
        """(question_id, sample_index) of the corpus, ascending."""
        return tuple((fate.question_id, fate.sample_index) for fate in self.traces if fate.kept)
