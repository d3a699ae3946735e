"""`plan`: from a resource to the stages that it takes. Pure.

A stage's digest is made of its parameters, the digests of the stages it needs, the version of its kind, and the
fingerprints of the local files that it names. So it is known before anything runs, and the same work has the same
digest in every job.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kubedistill_api.data import (
    Benchmark,
    DecontaminationSpec,
    EndpointSource,
    ModelSource,
    QuestionSource,
    SamplingSpec,
)
from kubedistill_api.job import DistillationJob
from kubedistill_api.probe import Candidate, TeacherProbe
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_api.stage import (
    ROLES,
    STAGE_VERSIONS,
    BaselineParams,
    CurateParams,
    DecideParams,
    EvaluateParams,
    Guard,
    PrepareParams,
    QuestionSubset,
    ReportParams,
    SampleParams,
    StageKind,
    StageParams,
    StageSpec,
    TrainParams,
)

Resource = DistillationJob | TeacherProbe


RUN_FIELDS = {
    "active_deadline_seconds",
    "backoff_limit",
    "output",
    "priority_class_name",
    "runtime_ref",
    "suspend",
    "ttl_seconds_after_finished",
}
"""Fields of a spec that say how a resource is run and not what it makes."""

ALREADY_DRAWN = "drawn"
"""Role of a need that saves work and does not change what is made, so it is no part of the digest: traces are the same
whether they are drawn or taken over."""


@dataclass(frozen=True)
class Node:
    """One stage of a plan."""

    name: str
    """Unique in the plan; a DNS label."""
    params: StageParams
    needs: Mapping[str, str]
    """Stages it reads from, as role -> name."""
    digest: str
    guard: Guard | None = None
    """The decision that it waits for, and that may make it needless."""

    @property
    def kind(self) -> StageKind:
        return self.params.kind

    @property
    def folder(self) -> str:
        """Name of its output folder, the same for equal work."""
        return f"{self.kind}-{self.digest[:16]}"


@dataclass(frozen=True)
class Graph:
    """The stages of a resource in an order in which they can run."""

    resource: str
    """`kind/namespace/name`."""
    nodes: tuple[Node, ...]

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def stage_spec(self, name: str, root: str, runtime: RuntimeSpec, attempt: int = 0) -> StageSpec:
        """What the executor gives to the stage; `root` is the namespace's storage URI."""
        node = self[name]
        return StageSpec(
            resource=self.resource,
            stage=name,
            digest=node.digest,
            params=node.params,
            inputs={role: f"{root}/stages/{self[need].folder}" for role, need in node.needs.items()},
            guards={
                role: guard
                for role, need in node.needs.items()
                if (guard := self[need].guard) and guard.decide in node.needs
            },
            output_uri=f"{root}/stages/{node.folder}",
            role=getattr(runtime, ROLES[node.kind]),
            attempt=attempt,
        )


class _Builder:
    """Adds nodes in order and makes their digests."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources
        self._nodes: dict[str, Node] = {}

    def add(self, name: str, params: StageParams, guard: Guard | None = None, /, **needs: str) -> str:
        dumped = params.model_dump(mode="json", by_alias=True)
        if isinstance(params, ReportParams):
            # Two jobs that differ in their name alone still have a report each.
            uris: set[str] = set()
        else:
            uris = _uris(dumped)
        content = {
            "params": dumped,
            "needs": {role: self._nodes[need].digest for role, need in needs.items() if role != ALREADY_DRAWN},
            "version": STAGE_VERSIONS[params.kind],
            "sources": {uri: self._sources[uri] for uri in sorted(uris) if uri in self._sources},
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        self._nodes[name] = Node(name, params, needs, digest, guard)
        return name

    def nodes(self) -> tuple[Node, ...]:
        return tuple(self._nodes.values())


def _uris(value: object) -> set[str]:
    """Every string under a key `uri`, at any depth."""
    if isinstance(value, dict):
        own = {value["uri"]} if isinstance(value.get("uri"), str) else set()
        return own.union(*map(_uris, value.values()))
    if isinstance(value, list):
        return set().union(*map(_uris, value))
    return set()


def source_uris(resource: Resource) -> set[str]:
    """The URIs that a resource reads from."""
    return _uris(resource.spec.model_dump(mode="json", by_alias=True, exclude={"output"}))


def plan(
    resource: Resource,
    *,
    sources: Mapping[str, str] | None = None,
    teacher: Candidate | None = None,
) -> Graph:
    """The stages of a job or a probe.

    `sources` maps a URI to a fingerprint of its content, where the executor can tell; `teacher` is the winner of the
    probe that a job refers to. A job whose probe has no winner yet has no stages: raises LookupError with the probe's
    name.
    """
    builder = _Builder(sources or {})
    if isinstance(resource, DistillationJob):
        _plan_job(builder, resource, teacher)
    else:
        _plan_probe(builder, resource)
    meta = resource.metadata
    return Graph(f"{resource.kind}/{meta.namespace}/{meta.name}", builder.nodes())


def _plan_job(builder: _Builder, job: DistillationJob, winner: Candidate | None) -> None:
    spec = job.spec
    source: ModelSource | None = spec.teacher.model
    endpoint: EndpointSource | None = spec.teacher.endpoint
    engine = spec.teacher.engine
    if spec.teacher.probe_ref:
        if winner is None:
            raise LookupError(spec.teacher.probe_ref.name)
        source, endpoint, engine = winner.model, winner.endpoint, winner.engine
    verification = spec.curation.verification
    prepare = _prepare(builder, spec.questions, spec.evaluation.benchmarks, spec.decontamination, job)
    baseline = _baseline(builder, prepare, job)
    sample = builder.add(
        "sample",
        SampleParams(
            model=_weights(source),
            endpoint=endpoint,
            engine=engine,
            sampling=spec.teacher.sampling,
            verification=verification,
        ),
        prepare=prepare,
    )
    _student(builder, job, "", prepare, sample, baseline)
    nodes = {node.name: node.name for node in builder.nodes()}
    builder.add("report", ReportParams(manifest=_manifest(job)), **nodes)


def _plan_probe(builder: _Builder, probe: TeacherProbe) -> None:
    """Every round of every candidate; which of them are needed is decided on the way."""
    spec, procedure = probe.spec, probe.spec.procedure
    prepare = _prepare(builder, spec.questions, spec.evaluation.benchmarks, spec.decontamination, probe)
    baseline = _baseline(builder, prepare, probe)
    before: dict[str, str] = {}
    """The last round's sample stage of each candidate."""
    decided: dict[str, str] = {}
    """The last round's decide stage, as a need."""
    for number in range(1, procedure.rounds + 1):
        suffix = f"-r{number}" if procedure.rounds > 1 else ""
        subset = _subset(probe, number)
        students: dict[str, list[str]] = {}
        for candidate in spec.candidates:
            guard = Guard(decide=next(iter(decided)), candidate=candidate.name) if decided else None
            drawn = {ALREADY_DRAWN: before[candidate.name]} if before.get(candidate.name) else {}
            params = SampleParams(
                model=_weights(candidate.model),
                endpoint=candidate.endpoint,
                engine=candidate.engine,
                sampling=spec.sampling,
                verification=spec.curation.verification,
                subset=subset,
            )
            name = f"-{candidate.name}{suffix}"
            sample = builder.add(f"sample{name}", params, guard, prepare=prepare, **drawn)
            before[candidate.name] = sample
            students[candidate.name] = _student(
                builder, probe, name, prepare, sample, baseline, seeds=procedure.seeds, subset=subset, guard=guard
            )
        compared = DecideParams(
            students=students,
            round=number,
            rounds=procedure.rounds,
            growth=procedure.growth,
            confidence=procedure.confidence,
        )
        guard = Guard(decide=next(iter(decided))) if decided else None
        evaluations = {role: role for roles in students.values() for role in roles}
        decide = builder.add(f"decide{suffix}", compared, guard, **evaluations, **decided)
        decided = {decide: decide}
    nodes = {node.name: node.name for node in builder.nodes()}
    builder.add("report", ReportParams(manifest=_manifest(probe)), **nodes)


def _subset(probe: TeacherProbe, number: int) -> QuestionSubset | None:
    """The questions of a round; None in the last, which has all."""
    procedure = probe.spec.procedure
    if number == procedure.rounds:
        return None
    return QuestionSubset(share=procedure.growth ** float(number - procedure.rounds), seed=probe.spec.sampling.seed)


def _prepare(
    builder: _Builder,
    questions: list[QuestionSource],
    benchmarks: list[Benchmark],
    decontamination: DecontaminationSpec,
    resource: Resource,
) -> str:
    return builder.add(
        "prepare",
        PrepareParams(
            questions=questions,
            benchmarks=benchmarks,
            decontamination=decontamination,
            verification=resource.spec.curation.verification,
        ),
    )


def _baseline(builder: _Builder, prepare: str, resource: Resource) -> str | None:
    spec = resource.spec
    difficulty = spec.curation.difficulty
    wants_rates = difficulty.max_pass_rate is not None or difficulty.keep_hardest is not None
    evaluation = _draws(spec.evaluation) if spec.evaluation.benchmarks else None
    if not wants_rates and evaluation is None:
        return None
    return builder.add(
        "baseline",
        BaselineParams(
            model=_weights(spec.student),
            engine=spec.student.engine,
            pass_rate=_draws(difficulty) if wants_rates else None,
            evaluation=evaluation,
            verification=spec.curation.verification,
        ),
        prepare=prepare,
    )


def _student(
    builder: _Builder,
    resource: Resource,
    suffix: str,
    prepare: str,
    sample: str,
    baseline: str | None,
    *,
    seeds: Sequence[int] = (),
    subset: QuestionSubset | None = None,
    guard: Guard | None = None,
) -> list[str]:
    """Curate one corpus, train on it with each of `seeds` and evaluate; returns the evaluate stages.

    On a `subset` the students are sampled less often in proportion, at least once.
    """
    spec = resource.spec
    measured = {"baseline": baseline} if baseline else {}
    curation = CurateParams(curation=spec.curation, subset=subset)
    curate = builder.add(f"curate{suffix}", curation, guard, prepare=prepare, sample=sample, **measured)
    samples = max(1, math.ceil(spec.evaluation.samples * subset.share)) if subset else spec.evaluation.samples
    evaluation = EvaluateParams(
        engine=spec.student.engine,
        evaluation=_draws(spec.evaluation).model_copy(update={"samples": samples}),
        pass_at=[k for k in spec.evaluation.pass_at if k <= samples],
        majority_at=[k for k in spec.evaluation.majority_at if k <= samples],
        confidence=spec.evaluation.confidence,
        verification=spec.curation.verification,
        trust_remote_code=spec.student.trust_remote_code,
    )
    # The base was asked as often as `evaluation.samples` says; with fewer samples there is nothing to compare with.
    base = {} if subset else measured
    evaluations = []
    for number, seed in enumerate(seeds or [spec.training.seed], 1):
        end = f"{suffix}-s{number}" if len(seeds) > 1 else suffix
        training = spec.training.model_copy(update={"seed": seed})
        train = builder.add(
            f"train{end}", TrainParams(model=_weights(spec.student), training=training), guard, curate=curate
        )
        if spec.evaluation.benchmarks:
            needs = {"prepare": prepare, "train": train, **base}
            evaluations.append(builder.add(f"evaluate{end}", evaluation, guard, **needs))
    return evaluations


def _draws(spec: SamplingSpec) -> SamplingSpec:
    """The part of an evaluation or a difficulty that decides what is drawn."""
    return SamplingSpec.model_validate({name: getattr(spec, name) for name in SamplingSpec.model_fields})


def _weights(model: ModelSource | None) -> ModelSource | None:
    """The model without how it is served."""
    if model is None:
        return None
    return ModelSource.model_validate({name: getattr(model, name) for name in ModelSource.model_fields})


def _manifest(resource: Resource) -> dict[str, object]:
    """What the report is about; without how it is run, which may change without changing the report."""
    meta = resource.metadata
    manifest = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": meta.name, "namespace": meta.namespace},
    }
    spec = resource.spec.model_dump(mode="json", by_alias=True, exclude=RUN_FIELDS, exclude_unset=True)
    return manifest | {"spec": spec}
