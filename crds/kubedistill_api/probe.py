"""TeacherProbe: which of several teachers makes the best student."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kubedistill_api.base import API_VERSION, DnsLabel, Model, Rule
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
from kubedistill_api.seeds import SEED_RULES, Seed, check_seeds
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

    rules: ClassVar = (Rule("has(self.model) != has(self.endpoint)", "set exactly one of model and endpoint"),)

    @model_validator(mode="after")
    def _exactly_one_source(self) -> Self:
        if (self.model is None) == (self.endpoint is None):
            raise ValueError(
                f"candidate {self.name}: set exactly one of model and endpoint "
                f"(got {'both' if self.model else 'neither'})"
            )
        return self


class ProcedureSpec(Model):
    """In how many rounds the candidates are compared, and how sure the answer has to be.

    In a round before the last, candidates answer a part of the questions and their students are sampled less often; a
    candidate that is clearly behind leaves, and when only one is left the procedure ends (successive halving, but by
    intervals and not by rank).
    """

    rounds: Annotated[int, Field(ge=1, le=5)] = 1
    """Rounds at most. The last one has the whole budget. Default 1: everybody is compared on everything."""
    growth: Annotated[int, Field(ge=2, le=10)] = 3
    """A round has so many times the questions and samples of the one before it. Default 3."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Probability with which no interval that the procedure shows misses its difference, over all pairs of candidates
    and all rounds; so also a bound for how often the best candidate leaves. Default 0.95."""
    seeds: Annotated[list[Seed], Field(max_length=16)] = []
    """Seeds of the training: a student is trained with each, and their spread widens the intervals. Default: one
    student with `training.seed`, so that the intervals speak of questions and samples only."""
    redraw: bool = False
    """With each of `seeds`, traces are drawn anew too, and in a round before the last questions. Then the intervals
    speak of the teachers; otherwise of the one corpus that each of them drew. Every seed costs a sampling;
    three are the least, five are better. Default false."""

    @model_validator(mode="after")
    def _seeds(self) -> Self:
        check_seeds(self.seeds, redraw=self.redraw)
        return self

    rules: ClassVar = SEED_RULES


MAX_STUDENTS = 96
"""Students of a plan: each takes several stages, and all of them have to fit into one object of the API server."""


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
    procedure: ProcedureSpec = ProcedureSpec()
    """Rounds, confidence and repeats of the comparison."""
    suspend: bool = False
    """True stops the pods and keeps what is done."""
    priority_class_name: str | None = None
    """PriorityClass of the pods."""
    active_deadline_seconds: Seconds | None = None
    """Fail the probe when it has been active for so long; time suspended, in a queue, or waiting for a place
    on the runtime does not count."""
    backoff_limit: Annotated[int, Field(ge=0, le=100)] = 3
    """Application errors that each stage may have before the probe fails."""
    ttl_seconds_after_finished: Seconds | None = None
    """Delete the resource so long after its end."""

    rules: ClassVar = (
        Rule("self.evaluation.benchmarks.size() > 0", "evaluation.benchmarks needs at least one: the scores decide"),
        Rule(
            "self.candidates.size() * self.procedure.rounds * "
            f"(self.procedure.seeds.size() > 1 ? self.procedure.seeds.size() : 1) <= {MAX_STUDENTS}",
            f"candidates x procedure.rounds x procedure.seeds may be {MAX_STUDENTS} at most",
        ),
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [c.name for c in self.candidates]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"candidate names must differ (twice: {', '.join(twice)})")
        if not self.evaluation.benchmarks:
            raise ValueError("evaluation.benchmarks needs at least one entry: the students' scores decide")
        students = len(names) * self.procedure.rounds * max(1, len(self.procedure.seeds))
        if students > MAX_STUDENTS:
            raise ValueError(
                f"procedure: {len(names)} candidates x {self.procedure.rounds} rounds x "
                f"{max(1, len(self.procedure.seeds))} seeds are {students} students, {MAX_STUDENTS} at most; use fewer "
                "rounds or seeds, or split the candidates over two probes"
            )
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
