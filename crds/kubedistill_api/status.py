"""What a resource reports about itself. Conditions and reasons follow the Kubernetes API conventions."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from kubedistill_api.base import Model

Phase = Literal["Pending", "Running", "Suspended", "Complete", "Failed"]
StageState = Literal["Waiting", "Starting", "Running", "Succeeded", "Failed"]
ConditionType = Literal["Complete", "Failed", "Suspended", "Progressing"]


class Condition(Model):
    """One aspect of the resource's state."""

    type: ConditionType
    """Which aspect."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: str = Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024)
    """One CamelCase word for programs."""
    message: str = Field(default="", max_length=32768)
    """A sentence for people: what happened, where, what to do."""
    last_transition_time: datetime
    """When `status` last changed."""
    observed_generation: int = Field(default=0, ge=0)
    """The spec's generation that this speaks of."""


class Progress(Model):
    """How far a stage is."""

    done: float = 0
    """Units finished."""
    total: float | None = None
    """Units in all, where known."""
    unit: str = "items"
    """What is counted: questions, traces, steps."""
    rate: float | None = None
    """Units per second of late."""
    eta_seconds: float | None = None
    """Seconds to the end at this rate."""
    message: str = ""
    """What is being done."""


class Artifact(Model):
    """Something that a stage made."""

    uri: str
    """Where it lies."""
    digest: str
    """`sha256:` of the content."""
    bytes: int = 0
    """Size."""
    rows: int | None = None
    """Rows, for a table."""


class StageStatus(Model):
    """One stage of the job."""

    name: str
    """Name of the stage, unique in the job."""
    kind: str
    """What the stage does."""
    digest: str
    """Content address of its work; equal work is done once."""
    state: StageState = "Waiting"
    """Where it stands."""
    attempt: int = Field(default=0, ge=0)
    """Starts so far, minus one for the running one: attempt 0 is the first."""
    failures: int = Field(default=0, ge=0)
    """Application errors so far; counted against `backoffLimit`."""
    reused: bool = False
    """The result was there before the job asked for it."""
    retry_after: datetime | None = None
    """Not started again before this moment."""
    progress: Progress | None = None
    """How far it is."""
    started: datetime | None = None
    """First start."""
    finished: datetime | None = None
    """End."""
    reason: str = ""
    """Why it waits or failed; one CamelCase word."""
    message: str = ""
    """The same in a sentence."""
    artifacts: dict[str, Artifact] = {}
    """What it made, by name."""
    metrics: dict[str, float | int | str | None] = {}
    """Its figures."""


class CorpusStatus(Model):
    """The funnel from questions to the corpus."""

    questions: int = 0
    """Questions after duplicates and overlaps with benchmarks are gone."""
    sampled: int = 0
    """Traces drawn."""
    well_formed: int = 0
    """Traces that passed the quality checks."""
    correct: int = 0
    """Traces that were verified besides."""
    hard: int = 0
    """Traces of hard questions besides."""
    kept: int = 0
    """Traces in the corpus."""


class Score(Model):
    """One model on one benchmark."""

    benchmark: str
    """Name of the benchmark."""
    model: Literal["base", "student"]
    """Before or after training."""
    metric: str
    """`avg@k` or `pass@k`."""
    n: int
    """Questions."""
    mean: float
    """Score between 0 and 1."""
    ci: tuple[float, float]
    """Bootstrap interval over questions."""


class ScoreDelta(Model):
    """Student minus base on the same questions."""

    benchmark: str
    """Name of the benchmark."""
    metric: str
    """`avg@k` or `pass@k`."""
    mean: float
    """Difference of the scores."""
    ci: tuple[float, float]
    """Paired bootstrap interval over questions."""


class Usage(Model):
    """What it cost."""

    gpu_seconds: float = 0
    """GPUs times seconds."""
    cpu_seconds: float = 0
    """CPU time of all processes."""
    prompt_tokens: int = 0
    """Tokens read by the engines."""
    completion_tokens: int = 0
    """Tokens drawn by the engines."""
    training_tokens: int = 0
    """Tokens trained on, counted once per epoch."""


class ResultStatus(Model):
    """What came out."""

    model_uri: str | None = None
    """The trained student."""
    report_uri: str | None = None
    """The report."""


class JobStatus(Model):
    """State of a DistillationJob or a TeacherProbe."""

    observed_generation: int = 0
    """The spec's generation that this status speaks of."""
    phase: Phase = "Pending"
    """One word, derived from the conditions."""
    conditions: list[Condition] = []
    """Complete, Failed, Suspended, Progressing."""
    stages: list[StageStatus] = []
    """The stages in the order of the plan."""
    corpus: CorpusStatus | None = None
    """The funnel, once curated."""
    scores: list[Score] = []
    """Scores, once evaluated."""
    deltas: list[ScoreDelta] = []
    """Differences to the base, once evaluated."""
    usage: Usage = Usage()
    """Cost so far."""
    result: ResultStatus | None = None
    """What came out, once complete."""
    start_time: datetime | None = None
    """When the first stage was started."""
    completion_time: datetime | None = None
    """When the job ended."""
    active_seconds: float = 0
    """Time active so far, suspensions left out, up to `activeSince`."""
    active_since: datetime | None = None
    """Start of the running active period."""
