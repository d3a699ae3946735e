"""The stage contract: what an executor gives to a stage, and what the stage leaves.

A stage reads one `StageSpec`, works in the folder `output_uri`, and leaves `result.json` (a `StageResult`) there as
its last act. Running a finished stage again finds the result and exits 0. The spec lies there from the beginning
(`spec.json`); while it runs it keeps `progress.json` (a `Progress`) up to date beside it.
"""

from collections.abc import Iterator
from datetime import datetime
from enum import IntEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from kubedistill_api.base import Model, Uri, later
from kubedistill_api.comparison import Comparison
from kubedistill_api.curation import CurationSpec
from kubedistill_api.data import (
    Benchmark,
    DecontaminationSpec,
    EndpointSource,
    EngineSpec,
    ModelSource,
    QuestionSource,
    SamplingSpec,
    TeacherSampling,
)
from kubedistill_api.decision import Decision
from kubedistill_api.runtime import RoleSpec
from kubedistill_api.status import Artifact, Score, ScoreDelta, Usage
from kubedistill_api.training import TrainingSpec
from kubedistill_api.verification import VerificationSpec

SPEC_FILE = "spec.json"
RESULT_FILE = "result.json"
PROGRESS_FILE = "progress.json"
TERMINATION_MESSAGE_BYTES = 4096

StageKind = Literal["prepare", "sample", "baseline", "curate", "train", "evaluate", "decide", "compare", "report"]

STAGE_VERSIONS: dict[StageKind, int] = {
    "prepare": 1,
    "sample": 2,
    "baseline": 1,
    "curate": 1,
    "train": 1,
    "evaluate": 1,
    "decide": 1,
    "compare": 1,
    "report": 1,
}
"""Raised when the same parameters come to mean another result, so that old results are not taken for it."""

ROLES: dict[StageKind, Literal["sampler", "trainer", "evaluator", "worker"]] = {
    "prepare": "worker",
    "sample": "sampler",
    "baseline": "evaluator",
    "curate": "worker",
    "train": "trainer",
    "evaluate": "evaluator",
    "decide": "worker",
    "compare": "worker",
    "report": "worker",
}
"""Which role of the runtime each stage's pods come from."""


class ExitCode(IntEnum):
    """How a stage ends. The operator's `podFailurePolicy` says the same."""

    DONE = 0
    """The result is there."""
    BAD_INPUT = 65
    """Something the user gave is wrong; trying again cannot help (EX_DATAERR of sysexits.h)."""
    OUT_OF_MEMORY = 71
    """A process of the stage, or its GPU, had no memory left (EX_OSERR of sysexits.h)."""
    TRY_AGAIN = 75
    """Something outside failed and may come back (EX_TEMPFAIL of sysexits.h)."""


class PrepareParams(Model):
    """Load questions and benchmarks, check them, drop duplicates and overlaps."""

    kind: Literal["prepare"] = "prepare"
    """Discriminates the parameters."""
    questions: list[QuestionSource]
    """Where the questions come from."""
    benchmarks: list[Benchmark]
    """What the models are scored on."""
    decontamination: DecontaminationSpec
    """How overlaps with the benchmarks are removed."""
    verification: VerificationSpec
    """How responses are judged."""


class QuestionSubset(Model):
    """A part of the questions: the first ones in an order that a seed decides. A larger part holds a smaller one."""

    share: float = Field(gt=0, lt=1)
    """Share of the questions; at least one is taken."""
    seed: int
    """Decides the order."""


def _is_none(value: object) -> bool:
    return value is None


class SampleParams(Model):
    """Draw and verify the teacher's responses. Needs: prepare; and where there is one, the stage that drew a part of
    them before (role `drawn`)."""

    kind: Literal["sample"] = "sample"
    """Discriminates the parameters."""
    model: ModelSource | None = None
    """The teacher that kubedistill serves."""
    endpoint: EndpointSource | None = None
    """The teacher that somebody else serves."""
    engine: EngineSpec
    """How vLLM serves the model."""
    sampling: TeacherSampling
    """How many responses to draw, and how."""
    verification: VerificationSpec
    """How responses are judged."""
    subset: QuestionSubset | None = Field(default=None, exclude_if=_is_none)
    """Only these questions; None for all."""


class BaselineParams(Model):
    """The student before training: pass rates on the questions, scores on the benchmarks. Needs: prepare."""

    kind: Literal["baseline"] = "baseline"
    """Discriminates the parameters."""
    model: ModelSource
    """The student before training."""
    engine: EngineSpec
    """How vLLM serves the model."""
    pass_rate: SamplingSpec | None
    """Draws for the pass rates; None where no difficulty is asked for."""
    evaluation: SamplingSpec | None
    """Draws on the benchmarks; None where there is none."""
    verification: VerificationSpec
    """How responses are judged."""
    harness: list[Benchmark] = later([])
    """The benchmarks that are tasks of the lm-evaluation-harness."""


class CurateParams(Model):
    """Choose the corpus. Needs: prepare, sample, and baseline where difficulty is asked for; with `match` the curate
    stage whose number is met (role `matched`)."""

    kind: Literal["curate"] = "curate"
    """Discriminates the parameters."""
    curation: CurationSpec
    """Which traces to keep."""
    subset: QuestionSubset | None = Field(default=None, exclude_if=_is_none)
    """Only these questions; None for all."""
    match: Literal["questions", "traces"] | None = Field(default=None, exclude_if=_is_none)
    """Keep at most as many of these as the matched stage did, of questions in an order that the seed decides."""


class TrainParams(Model):
    """Train the student on the corpus. Needs: curate; with `matchSteps` another train stage (role `matched`)."""

    kind: Literal["train"] = "train"
    """Discriminates the parameters."""
    model: ModelSource
    """The student before training."""
    training: TrainingSpec
    """How to train."""
    match_steps: bool = later(False)
    """Take as many optimizer steps as the matched training did, in as many epochs as that needs."""


class EvaluateParams(Model):
    """Score the trained student, or several in turn. Needs: prepare, baseline, and train or those in `students`."""

    kind: Literal["evaluate"] = "evaluate"
    """Discriminates the parameters."""
    engine: EngineSpec
    """How vLLM serves the model."""
    evaluation: SamplingSpec
    """How many responses to draw per benchmark question, and how."""
    pass_at: list[int]
    """Values of k for pass@k."""
    majority_at: list[int] = later([])
    """Values of k for majority@k."""
    confidence: float
    """Coverage of the intervals."""
    verification: VerificationSpec
    """How responses are judged."""
    trust_remote_code: bool = later(False)
    """Run Python code that comes with the student."""
    harness: list[Benchmark] = later([])
    """The benchmarks that are tasks of the lm-evaluation-harness."""
    students: list[str] = later([])
    """Roles of the train stages whose students are scored one after the other by the same engine; they are of one
    architecture. Empty: the one student of role `train`."""


class DecideParams(Model):
    """Compare the students of a probe's round. Needs: their evaluate stages."""

    kind: Literal["decide"] = "decide"
    """Discriminates the parameters."""
    students: dict[str, list[str]]
    """Roles of the evaluate stages of each candidate that the procedure began with, one per training seed. Those of a
    candidate that left in an earlier round are no inputs."""
    round: int
    """Which round, from 1."""
    rounds: int
    """Rounds at most."""
    growth: int
    """How much larger each round is; the rounds' shares of the error that is allowed go by it."""
    confidence: float
    """Of the whole procedure."""
    draws: int = later(1)
    """Corpora of each candidate."""


class ArmStages(Model):
    """The stages that made a variant's students, by their roles."""

    curate: str
    """The stage that chose its corpus; of several the first."""
    curates: list[str] = later([])
    """Where every training has a corpus of its own, the stages that chose them."""
    trains: list[str]
    """Its trainings, one per seed."""
    evaluate: str
    """The stage that scored its students, under the roles of their trainings."""
    against: str | None = None
    """The variant that it is compared with."""
    settings: str = later("")
    """The values of the grid's fields, in words."""

    @property
    def corpora(self) -> list[str]:
        """All stages that chose a corpus of it."""
        return self.curates or [self.curate]


class CompareParams(Model):
    """Compare the variants of a study. Needs: the stages that it names."""

    kind: Literal["compare"] = "compare"
    """Discriminates the parameters."""
    arms: dict[str, ArmStages]
    """The variants by name."""
    order: list[str]
    """Their names in the order of the manifest."""
    confidence: float
    """Of all intervals of differences together."""


class ReportParams(Model):
    """Write the report and the model card. Needs every stage before it."""

    kind: Literal["report"] = "report"
    """Discriminates the parameters."""
    manifest: dict[str, Any]
    """The resource's kind, name and spec as the user wrote them."""


StageParams = Annotated[
    PrepareParams
    | SampleParams
    | BaselineParams
    | CurateParams
    | TrainParams
    | EvaluateParams
    | DecideParams
    | CompareParams
    | ReportParams,
    Field(discriminator="kind"),
]


class Guard(Model):
    """What decides whether a stage is needed at all."""

    decide: str
    """Name of the decide stage."""
    candidate: str | None = None
    """Not needed when this candidate left; for None, when the procedure ended."""


class StageSpec(Model):
    """What one stage is to do."""

    version: Literal["v1alpha1"] = "v1alpha1"
    """Version of this contract."""
    resource: str
    """The resource it belongs to, as `kind/namespace/name`."""
    stage: str
    """Name of the stage in the plan."""
    digest: str
    """Content address: parameters, the needs' digests and the stage's version. Names the output folder."""
    params: StageParams
    """What to do."""
    inputs: dict[str, str] = {}
    """Output folders of the stages it needs, by the role they play (`prepare`, `sample`, ...)."""
    guards: dict[str, Guard] = {}
    """Inputs that are there only where a decision says so, by role; the decide stages are inputs by their names."""
    output_uri: str
    """Folder to work in."""
    role: RoleSpec = RoleSpec()
    """Pods, processes and GPUs. Not part of the digest: the same work on other machines is the same work."""
    attempt: int = 0
    """Which start this is; for logs and names only. `KUBEDISTILL_ATTEMPT` overrides it, so that all attempts share a
    spec."""
    deliver_to: Uri | None = None
    """Where the report stage puts the student, the report, the card and the corpus, once its result is there. Not part
    of the digest: the same work delivered elsewhere is the same work."""


class StageResult(Model):
    """What one stage made."""

    version: Literal["v1alpha1"] = "v1alpha1"
    """Version of this contract."""
    stage: str
    """Name of the stage in the plan."""
    kind: StageKind
    """What it does."""
    digest: str
    """The spec's digest."""
    inputs: dict[str, dict[str, Artifact]] = {}
    """Lineage: the artifacts it read, by the role of the stage that made them."""
    outputs: dict[str, Artifact] = {}
    """The artifacts it made, by name."""
    metrics: dict[str, float | int | str | None] = {}
    """Its figures; small."""
    scores: list[Score] = []
    """Scores of the evaluate stage."""
    deltas: list[ScoreDelta] = []
    """Differences to the base, of the evaluate stage."""
    decision: Decision | None = None
    """Of the decide stage."""
    comparison: Comparison | None = None
    """Of the compare stage."""
    usage: Usage = Usage()
    """What it cost over all attempts that are known."""
    versions: dict[str, str] = {}
    """Versions of kubedistill and of the engines."""
    started: datetime
    """Start of the attempt that finished."""
    finished: datetime
    """End."""

    @property
    def cost(self) -> Usage:
        """What it cost, with the size of what it made."""
        return self.usage.model_copy(update={"stored_bytes": sum(made.bytes for made in self.outputs.values())})

    def termination_message(self) -> str:
        """The result as JSON of at most 4 KiB: what does not fit is left out, what the job's status shows last."""
        result = self
        for update in (
            *_FIRST_WITHOUT,
            *self._shorter_tables(),
            *_WITHOUT,
            {"deltas": _averages(self.deltas), "scores": _averages(self.scores)},
        ):
            if result._fits():
                return result._compact()
            result = result.model_copy(update=update)
        while not result._fits() and (result.deltas or result.scores):
            part = "deltas" if len(result.deltas) >= len(result.scores) else "scores"
            result = result.model_copy(update={part: getattr(result, part)[:-1]})
        return result._compact()

    def _shorter_tables(self) -> Iterator[dict[str, Any]]:
        """A study's table with a row less each time. What else its stage says is short, and all of it stays."""
        if self.comparison:
            for rows in range(len(self.comparison.arms) - 1, 0, -1):
                yield {"comparison": self.comparison.shortened(rows)}

    def _compact(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True)

    def _fits(self) -> bool:
        return len(self._compact().encode()) <= TERMINATION_MESSAGE_BYTES


_FIRST_WITHOUT: tuple[dict[str, Any], ...] = ({"inputs": {}}, {"versions": {}})
_WITHOUT: tuple[dict[str, Any], ...] = (
    {"usage": Usage()},
    {"metrics": {}},
    {"outputs": {}},
)
"""What a result too long for a termination message is freed of, in this order."""

_Entry = TypeVar("_Entry", Score, ScoreDelta)


def _averages(entries: list[_Entry]) -> list[_Entry]:
    """Those of avg@k, which candidates are compared by."""
    return [entry for entry in entries if entry.metric.startswith("avg@")]
