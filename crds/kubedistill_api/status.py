"""What a resource reports about itself. Conditions and reasons follow the Kubernetes API conventions."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from kubedistill_api.base import Model, later
from kubedistill_api.comparison import Comparison
from kubedistill_api.decision import Decision, Outcome

Phase = Literal["Pending", "Running", "Suspended", "Complete", "Failed"]
StageState = Literal["Waiting", "Starting", "Running", "Succeeded", "Skipped", "Failed"]
DONE: tuple[StageState, ...] = ("Succeeded", "Skipped")
"""Nothing more is to be done for a stage in one of these. Skipped: a decision made it needless."""
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
    waiting_since: datetime | None = None
    """Since when it could start, but for a place on its runtime."""
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
    usage: "Usage | None" = None
    """What it cost, whoever paid for it."""
    decision: Decision | None = None
    """Of a decide stage."""


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
    """`avg@k`, `pass@k` or `majority@k`."""
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
    """`avg@k`, `pass@k` or `majority@k`."""
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
    """Tokens read by the engines. Of an endpoint, those that its server counts."""
    completion_tokens: int = 0
    """Tokens drawn by the engines. Of an endpoint, those that its server counts."""
    training_tokens: int = 0
    """Tokens trained on, counted once per epoch."""
    stored_bytes: int = 0
    """Size of what it made; what was deleted since counts too."""


class ResultStatus(Model):
    """What came out."""

    model_uri: str | None = None
    """The trained student."""
    report_uri: str | None = None
    """The report."""


class Standing(Model):
    """One candidate of a probe, by the student that it made."""

    candidate: str
    """Name of the candidate."""
    score: float
    """Mean over the benchmarks of the student's avg@k in its last round, between 0 and 1."""
    ci: tuple[float, float] | None = None
    """Interval of the score alone."""
    delta: float | None = None
    """Mean gain of the student over its base, where the base was asked the same."""
    behind: float | None = None
    """The leader's score minus this one, in the last round that both were in; None for the leader."""
    behind_ci: tuple[float, float] | None = None
    """Interval of that difference; it holds for all pairs of candidates and all rounds together."""
    left_round: int | None = None
    """Round after which it left, being clearly behind."""
    teacher_accuracy: float | None = None
    """Share of the teacher's own traces that were verified."""
    trace_tokens: float | None = None
    """Mean length of its traces in tokens."""
    corpus_entropy: float | None = later(None)
    """Mean entropy, in nats, of the untrained student's distribution at each response token of its last corpus."""
    corpus_nll: float | None = later(None)
    """Mean negative log-likelihood of those tokens to the untrained student, in nats."""
    usage: Usage = Usage()
    """What its stages cost, whoever paid for them; work that several candidates share is left out."""


class ProbeOutcome(Model):
    """What a probe came to."""

    outcome: Outcome
    """`clear`: the winner is; `tie`: it is only the best estimate; `continue`: a round is still to come."""
    round: int
    """Round of the last decision."""
    tied: list[str] = []
    """With a tie: the candidates that cannot be told apart at this budget, the leader first."""
    reason: str
    """The same in words."""


class RuntimeStatus(Model):
    """The runtime as it was when the job began; later changes of it do not touch the job."""

    kind: str
    """DistillationRuntime or ClusterDistillationRuntime."""
    name: str
    """Name."""
    digest: str
    """`sha256:` of its spec."""


class Summary(Model):
    """The state in a few words, for `kubectl get`."""

    stage: str = ""
    """Stages under way, or the one that failed."""
    progress: str = ""
    """How far the first of them is."""
    teacher: str = ""
    """Who is learnt from; for a probe the winner."""
    score: str = ""
    """The student on the first benchmark, and its gain over the base."""
    reason: str = ""
    """Why it does not go on."""


class JobStatus(Model):
    """State of a DistillationJob, a TeacherProbe or a DistillationStudy."""

    observed_generation: int = 0
    """The spec's generation that this status speaks of."""
    phase: Phase = "Pending"
    """One word, derived from the conditions."""
    summary: Summary = Summary()
    """The state in a few words, for `kubectl get`."""
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
    runtime: RuntimeStatus | None = None
    """The runtime as it was when the job began."""
    standings: list[Standing] = []
    """A probe's candidates, the best first."""
    winner: str | None = None
    """A probe's winner; with a tie the best estimate."""
    outcome: ProbeOutcome | None = None
    """What a probe's rounds decided so far, and how sure that is."""
    comparison: Comparison | None = None
    """A study's table, once compared."""
    findings: list[str] = []
    """A study's comparisons in words, one sentence each."""
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
