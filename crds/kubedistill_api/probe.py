"""TeacherProbe: which of several teachers makes the best student."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kubedistill_api.base import API_VERSION, DnsLabel, Model
from kubedistill_api.curation import CurationSpec
from kubedistill_api.data import (
    DecontaminationSpec,
    EndpointSource,
    EngineSpec,
    ModelSource,
    QuestionSource,
    TeacherSampling,
)
from kubedistill_api.job import EvaluationSpec, RuntimeRef, Seconds, StudentSpec
from kubedistill_api.meta import ObjectMeta
from kubedistill_api.status import JobStatus
from kubedistill_api.training import TrainingSpec


class Candidate(Model):
    """One teacher in the comparison."""

    name: Annotated[DnsLabel, Field(max_length=20)]
    """Name in the results and in the names of the stages; at most 20 characters."""
    model: ModelSource | None = None
    """Weights that kubedistill serves itself with vLLM."""
    endpoint: EndpointSource | None = None
    """A model that somebody else serves."""
    engine: EngineSpec = EngineSpec()
    """How vLLM serves `model`."""

    @model_validator(mode="after")
    def _exactly_one_source(self) -> Self:
        if (self.model is None) == (self.endpoint is None):
            raise ValueError(
                f"candidate {self.name}: set exactly one of model and endpoint "
                f"(got {'both' if self.model else 'neither'})"
            )
        return self


class TeacherProbeSpec(Model):
    """Every candidate answers the same questions; a student is trained on each corpus; the best student decides."""

    runtime_ref: RuntimeRef | None = None
    """Which runtime the pods come from."""
    candidates: Annotated[list[Candidate], Field(min_length=2, max_length=16)]
    """The teachers to compare."""
    student: StudentSpec
    """The model that is trained on each corpus."""
    questions: Annotated[list[QuestionSource], Field(min_length=1, max_length=64)]
    """Where the questions come from."""
    decontamination: DecontaminationSpec = DecontaminationSpec()
    """Removal of questions that overlap with the benchmarks."""
    sampling: TeacherSampling = TeacherSampling(samples=1)
    """One response per question, as in the paper's smoke test, unless told otherwise."""
    curation: CurationSpec = CurationSpec()
    """Which traces are trained on."""
    training: TrainingSpec = TrainingSpec()
    """How each student is trained."""
    evaluation: EvaluationSpec
    """How the students are scored; needs at least one benchmark."""
    suspend: bool = False
    """True stops the pods and keeps what is done."""
    priority_class_name: str | None = None
    """PriorityClass of the pods."""
    active_deadline_seconds: Seconds | None = None
    """Fail the probe when it has been active for so long; time suspended does not count."""
    backoff_limit: Annotated[int, Field(ge=0, le=100)] = 3
    """Application errors that each stage may have before the probe fails."""
    ttl_seconds_after_finished: Seconds | None = None
    """Delete the resource so long after its end."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [c.name for c in self.candidates]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"candidate names must differ (twice: {', '.join(twice)})")
        if not self.evaluation.benchmarks:
            raise ValueError("evaluation.benchmarks needs at least one entry: the students' scores decide")
        return self


class TeacherProbe(Model):
    """Finds the teacher that makes the best student."""

    api_version: Literal["kubedistill.io/v1alpha1"] = API_VERSION
    """Version of this schema."""
    kind: Literal["TeacherProbe"] = "TeacherProbe"
    """Kind of this resource."""
    metadata: ObjectMeta
    """Name, namespace, labels."""
    spec: TeacherProbeSpec
    """What is wanted."""
    status: JobStatus | None = None
    """What is. Written by the operator only."""
