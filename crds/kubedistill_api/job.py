"""DistillationJob: a teacher, a student, questions, and what comes between them."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kubedistill_api.base import API_VERSION, DnsLabel, Model, Rule, Uri, later
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
from kubedistill_api.meta import ObjectMeta
from kubedistill_api.status import JobStatus
from kubedistill_api.training import TrainingSpec

Seconds = Annotated[int, Field(ge=0, le=2**31 - 1)]


class RuntimeRef(Model):
    """The platform team's runtime that the stages run on."""

    kind: Literal["DistillationRuntime", "ClusterDistillationRuntime"] = "ClusterDistillationRuntime"
    """DistillationRuntime lives in the job's namespace, ClusterDistillationRuntime serves all."""
    name: DnsLabel
    """Name of the runtime. `kubedistill run` looks for it in the manifest file, then takes this machine as it is."""


class ProbeRef(Model):
    """A TeacherProbe of the same namespace, whose winner becomes the teacher and whose traces are used again."""

    name: DnsLabel
    """Name of the TeacherProbe."""


class TeacherSpec(Model):
    """The model that is learnt from: exactly one of `model`, `endpoint` and `probeRef`."""

    model: ModelSource | None = None
    """Weights that kubedistill serves itself with vLLM."""
    endpoint: EndpointSource | None = None
    """A model that somebody else serves."""
    probe_ref: ProbeRef | None = None
    """Take the winner of a probe."""
    sampling: TeacherSampling = TeacherSampling()
    """How many responses to draw, and how."""
    engine: EngineSpec = EngineSpec()
    """How vLLM serves `model`."""

    rules: ClassVar = (
        Rule(
            "[has(self.model), has(self.endpoint), has(self.probeRef)].exists_one(given, given)",
            "set exactly one of model, endpoint and probeRef",
        ),
    )

    @model_validator(mode="after")
    def _exactly_one_source(self) -> Self:
        given = [n for n, v in (("model", self.model), ("endpoint", self.endpoint), ("probeRef", self.probe_ref)) if v]
        if len(given) != 1:
            raise ValueError(f"set exactly one of model, endpoint and probeRef (got {', '.join(given) or 'none'})")
        return self


class StudentSpec(ModelSource):
    """The model that is trained."""

    engine: EngineSpec = EngineSpec()
    """How vLLM serves the student in the baseline and evaluation stages."""


def _name(entry: str) -> str:
    """The name of a benchmark in a rule."""
    return f"(has({entry}.name) ? {entry}.name : {entry}.preset)"


class EvaluationSpec(SamplingSpec):
    """How the student is scored before and after training, on the same questions with the same seeds."""

    samples: Annotated[int, Field(ge=1, le=1024)] = 16
    """Responses per benchmark question: avg@samples."""
    max_tokens: Annotated[int, Field(ge=1, le=1048576)] = 32768
    """Longest response in tokens; a response that reaches it counts as truncated and wrong."""
    pass_at: Annotated[list[Annotated[int, Field(ge=1)]], Field(max_length=16)] = []
    """Values of k for pass@k besides 1; each at most `samples`."""
    majority_at: Annotated[list[Annotated[int, Field(ge=1)]], Field(max_length=16)] = later([])
    """Values of k for majority@k, the chance that the most frequent answer of k responses is right; each at most
    `samples`. Benchmarks of domain code have none."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Coverage of the bootstrap intervals."""
    benchmarks: Annotated[list[Benchmark], Field(max_length=64)] = []
    """What to score on. Without any, the job ends with the trained student and no score."""

    rules: ClassVar = (
        Rule("self.passAt.all(k, k <= self.samples)", "passAt needs at least as many samples"),
        Rule(
            # The default of an evaluation leaves it out, as what is written does.
            "!has(self.majorityAt) || self.majorityAt.all(k, k <= self.samples)",
            "majorityAt needs at least as many samples",
        ),
        Rule(
            f"self.benchmarks.all(one, self.benchmarks.exists_one(other, {_name('other')} == {_name('one')}))",
            "benchmark names must differ",
        ),
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, values in (("passAt", self.pass_at), ("majorityAt", self.majority_at)):
            too_big = [k for k in values if k > self.samples]
            if too_big:
                raise ValueError(f"{name} {too_big} needs at least as many samples (got samples: {self.samples})")
        names = [b.name for b in self.benchmarks]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"benchmark names must differ (twice: {', '.join(twice)})")
        return self


class OutputSpec(Model):
    """Where the student goes."""

    uri: Uri
    """Folder that receives `model/`, `report.html`, `README.md` (the model card) and `corpus.parquet`."""


class Recipe(Model):
    """What makes a student: questions, a teacher, and what comes between them."""

    questions: Annotated[list[QuestionSource], Field(min_length=1, max_length=64)]
    """Where the questions come from."""
    decontamination: DecontaminationSpec = DecontaminationSpec()
    """Removal of questions that overlap with the benchmarks."""
    teacher: TeacherSpec
    """The model that is learnt from."""
    student: StudentSpec
    """The model that is trained."""
    curation: CurationSpec = CurationSpec()
    """Which traces are trained on."""
    training: TrainingSpec = TrainingSpec()
    """How the student is trained."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """How the student is scored."""

    rules: ClassVar = (
        Rule(
            "!has(self.teacher.engine.maxModelLen) || "
            "self.teacher.sampling.maxTokens < self.teacher.engine.maxModelLen",
            "teacher.sampling.maxTokens leaves no room for a prompt in teacher.engine.maxModelLen",
        ),
        Rule(
            "!has(self.student.engine.maxModelLen) || self.evaluation.maxTokens < self.student.engine.maxModelLen",
            "evaluation.maxTokens leaves no room for a prompt in student.engine.maxModelLen",
        ),
    )

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        length = self.teacher.engine.max_model_len
        if length is not None and self.teacher.sampling.max_tokens >= length:
            raise ValueError(
                f"teacher.sampling.maxTokens ({self.teacher.sampling.max_tokens}) leaves no room for a prompt in "
                f"teacher.engine.maxModelLen ({length}); lower maxTokens or raise maxModelLen"
            )
        length = self.student.engine.max_model_len
        if length is not None and self.evaluation.max_tokens >= length:
            raise ValueError(
                f"evaluation.maxTokens ({self.evaluation.max_tokens}) leaves no room for a prompt in "
                f"student.engine.maxModelLen ({length}); lower maxTokens or raise maxModelLen"
            )
        return self


class DistillationJobSpec(Recipe):
    """What to distil, from whom, into whom."""

    runtime_ref: RuntimeRef | None = None
    """Which runtime the pods come from. `kubedistill run` works without."""
    output: OutputSpec | None = None
    """Where the student goes. Default: it stays in the job's storage."""
    suspend: bool = False
    """True stops the pods and keeps what is done; false goes on from there. May be changed at any time."""
    priority_class_name: str | None = None
    """PriorityClass of the pods."""
    active_deadline_seconds: Seconds | None = None
    """Fail the job when it has been active for so long; time suspended, in a queue, or waiting for a place
    on the runtime does not count."""
    backoff_limit: Annotated[int, Field(ge=0, le=100)] = 3
    """Application errors that each stage may have before the job fails. Preemption and node loss are free."""
    ttl_seconds_after_finished: Seconds | None = None
    """Delete the resource so long after its end. The output stays."""


class DistillationJob(Model):
    """Distils a teacher's reasoning into a student with as few traces as it takes."""

    api_version: Literal["kubedistill.io/v1alpha1"] = API_VERSION
    """Version of this schema."""
    kind: Literal["DistillationJob"] = "DistillationJob"
    """Kind of this resource."""
    metadata: ObjectMeta
    """Name, namespace, labels."""
    spec: DistillationJobSpec
    """What is wanted."""
    status: JobStatus | None = None
    """What is. Written by the operator only."""
