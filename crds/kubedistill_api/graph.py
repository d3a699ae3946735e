"""`plan`: from a resource to the stages that it takes. Pure.

A stage's digest is made of its parameters, the digests of the stages it needs, the version of its kind, and the
fingerprints of the local files that it names. So it is known before anything runs, and the same work has the same
digest in every job.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kubedistill_api.data import (
    MAX_SEED,
    Benchmark,
    EndpointSource,
    EngineSpec,
    ModelSource,
    SamplingSpec,
)
from kubedistill_api.job import DistillationJob, Recipe
from kubedistill_api.probe import Candidate, ProcedureSpec, TeacherProbe, TeacherProbeSpec
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_api.stage import (
    ROLES,
    STAGE_VERSIONS,
    ArmStages,
    BaselineParams,
    CompareParams,
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
from kubedistill_api.study import Arm, DistillationStudy, arms

Resource = DistillationJob | TeacherProbe | DistillationStudy

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


def recipe(resource: Resource) -> Recipe | TeacherProbeSpec:
    """The part of a spec that says what is made: student, questions, curation, training, evaluation."""
    return resource.spec.job if isinstance(resource, DistillationStudy) else resource.spec


class _Builder:
    """Adds nodes in order and makes their digests.

    With `share`, work that is there under another name is not added again, and a name that stands for other work
    already gets a number.
    """

    def __init__(self, sources: Mapping[str, str], *, share: bool = False) -> None:
        self._sources = sources
        self._share = share
        self._nodes: dict[str, Node] = {}
        self._names: dict[str, str] = {}
        """Of the work that is there, by digest."""

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
        if self._share:
            if digest in self._names:
                return self._names[digest]
            name = next(free for free in _numbered(name) if free not in self._nodes)
            self._names[digest] = name
        self._nodes[name] = Node(name, params, needs, digest, guard)
        return name

    def nodes(self) -> tuple[Node, ...]:
        return tuple(self._nodes.values())


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in itertools.count(2):
        yield f"{name}-{number}"


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
    if isinstance(resource, DistillationStudy):
        return set().union(*(_uris(arm.recipe.model_dump(mode="json", by_alias=True)) for arm in arms(resource.spec)))
    return _uris(resource.spec.model_dump(mode="json", by_alias=True, exclude={"output"}))


def plan(
    resource: Resource,
    *,
    sources: Mapping[str, str] | None = None,
    teacher: Candidate | None = None,
) -> Graph:
    """The stages of a job, a probe or a study.

    `sources` maps a URI to a fingerprint of its content, where the executor can tell; `teacher` is the winner of the
    probe that a job refers to. A job whose probe has no winner yet has no stages: raises LookupError with the probe's
    name.
    """
    builder = _Builder(sources or {}, share=isinstance(resource, DistillationStudy))
    if isinstance(resource, DistillationJob):
        _plan_job(builder, resource, teacher)
    elif isinstance(resource, DistillationStudy):
        _plan_study(builder, resource)
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
    prepare = _prepare(builder, spec)
    baseline = _baseline(builder, prepare, spec)
    sample = _sample(builder, prepare, spec, source, endpoint, engine)
    _student(builder, spec, "", prepare, sample, baseline)
    nodes = {node.name: node.name for node in builder.nodes()}
    builder.add("report", ReportParams(manifest=_manifest(job)), **nodes)


def _sample(
    builder: _Builder,
    prepare: str,
    spec: Recipe,
    source: ModelSource | None,
    endpoint: EndpointSource | None,
    engine: EngineSpec,
) -> str:
    params = SampleParams(
        model=_weights(source),
        endpoint=endpoint,
        engine=engine,
        sampling=spec.teacher.sampling,
        verification=spec.curation.verification,
    )
    return builder.add("sample", params, prepare=prepare)


def _plan_probe(builder: _Builder, probe: TeacherProbe) -> None:
    """Every round of every candidate; which of them are needed is decided on the way."""
    spec, procedure = probe.spec, probe.spec.procedure
    prepare = _prepare(builder, spec)
    baseline = _baseline(builder, prepare, spec)
    before: dict[str, str] = {}
    """The last round's sample stage of each candidate, or of each of its draws."""
    decided: dict[str, str] = {}
    """The last round's decide stage, as a need."""
    for number in range(1, procedure.rounds + 1):
        suffix = f"-r{number}" if procedure.rounds > 1 else ""
        students: dict[str, list[str]] = {}
        for candidate in spec.candidates:
            guard = Guard(decide=next(iter(decided)), candidate=candidate.name) if decided else None
            for end, draw_seed, seeds in _draws_of(spec):
                subset = _subset(procedure, number, draw_seed)
                drawn = {ALREADY_DRAWN: before[candidate.name + end]} if before.get(candidate.name + end) else {}
                params = SampleParams(
                    model=_weights(candidate.model),
                    endpoint=candidate.endpoint,
                    engine=candidate.engine,
                    sampling=spec.sampling.model_copy(update={"seed": draw_seed}),
                    verification=spec.curation.verification,
                    subset=subset,
                )
                name = f"-{candidate.name}{suffix}{end}"
                sample = builder.add(f"sample{name}", params, guard, prepare=prepare, **drawn)
                before[candidate.name + end] = sample
                students.setdefault(candidate.name, []).extend(
                    _student(builder, spec, name, prepare, sample, baseline, seeds=seeds, subset=subset, guard=guard)
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


def _plan_study(builder: _Builder, study: DistillationStudy) -> None:
    """Every variant, from its corpus to its students; what variants have in common is there once."""
    spec = study.spec
    compared = arms(spec)
    by_name = {arm.name: arm for arm in compared}
    rates = any(_wants_rates(arm.recipe) for arm in compared)
    shared: dict[str, tuple[str, str, str | None]] = {}
    """Of each variant: prepare, sample and baseline."""
    for arm in compared:
        teacher = arm.recipe.teacher
        prepare = _prepare(builder, arm.recipe)
        baseline = _baseline(builder, prepare, arm.recipe, rates)
        sample = _sample(builder, prepare, arm.recipe, teacher.model, teacher.endpoint, teacher.engine)
        shared[arm.name] = (prepare, sample, baseline)
    curates: dict[str, str] = {}
    trains: dict[str, list[str]] = {}
    # What others are matched with comes first, since a stage is added after those that it needs.
    for arm in sorted(compared, key=lambda arm: arm.matched is not None):
        prepare, sample, baseline = shared[arm.name]
        matched = by_name[arm.matched] if arm.matched else None
        curates[arm.name] = _corpus(builder, arm, curates, prepare, sample, baseline)
        seeds = spec.seeds or [arm.recipe.training.seed]
        trains[arm.name] = []
        for number, seed in enumerate(seeds, 1):
            needs = {"curate": curates[arm.name]}
            steps = matched is not None and arm.match == "steps"
            if steps and matched:
                needs["matched"] = trains[matched.name][number - 1]
            params = TrainParams(
                model=_weights(arm.recipe.student),
                training=arm.recipe.training.model_copy(update={"seed": seed}),
                match_steps=steps,
            )
            end = f"-s{number}" if len(seeds) > 1 else ""
            trains[arm.name].append(builder.add(f"train-{arm.name}{end}", params, **needs))
    evaluates = _scored(builder, study, compared, trains, shared)
    order = [arm.name for arm in compared]
    stages = {
        arm.name: ArmStages(
            curate=curates[arm.name],
            trains=trains[arm.name],
            evaluate=evaluates[arm.name],
            against=arm.against,
            settings=", ".join(f"{path.rpartition('.')[2]} {value}" for path, value in arm.settings.items()),
        )
        for arm in compared
    }
    needed = [*curates.values(), *itertools.chain(*trains.values()), *evaluates.values()]
    table = CompareParams(arms=stages, order=order, confidence=spec.confidence)
    builder.add("compare", table, **{name: name for name in needed})
    nodes = {node.name: node.name for node in builder.nodes()}
    builder.add("report", ReportParams(manifest=_manifest(study)), **nodes)


def _corpus(
    builder: _Builder, arm: Arm, curates: Mapping[str, str], prepare: str, sample: str, baseline: str | None
) -> str:
    needs = {"prepare": prepare, "sample": sample}
    if baseline:
        needs["baseline"] = baseline
    params = CurateParams(curation=arm.recipe.curation)
    if arm.matched and arm.match != "steps":
        params = params.model_copy(update={"match": arm.match})
        needs["matched"] = curates[arm.matched]
    return builder.add(f"curate-{arm.name}", params, **needs)


def _scored(
    builder: _Builder,
    study: DistillationStudy,
    compared: Sequence[Arm],
    trains: Mapping[str, list[str]],
    shared: Mapping[str, tuple[str, str, str | None]],
) -> dict[str, str]:
    """The evaluate stage of each variant; neighbours with students of the same kind share one, as many as are asked
    for."""
    groups: dict[str, list[Arm]] = {}
    for arm in compared:
        prepare, _, baseline = shared[arm.name]
        same = arm.recipe.student.model_dump_json() + f"{prepare} {baseline}"
        groups.setdefault(same, []).append(arm)
    found: dict[str, str] = {}
    for group in groups.values():
        size = study.spec.variants_per_evaluation
        for start in range(0, len(group), size):
            part = group[start : start + size]
            first = part[0]
            prepare, _, baseline = shared[first.name]
            students = list(dict.fromkeys(train for arm in part for train in trains[arm.name]))
            needs = {"prepare": prepare, **({"baseline": baseline} if baseline else {}), **{t: t for t in students}}
            params = _evaluation(first.recipe, first.recipe.evaluation.samples, students)
            found |= dict.fromkeys((arm.name for arm in part), builder.add(f"evaluate-{first.name}", params, **needs))
    return found


def _draws_of(spec: TeacherProbeSpec) -> list[tuple[str, int, list[int]]]:
    """Each draw of a candidate's traces: the end of its stages' names, its seed, and the seeds of the trainings on it.

    The first one is what a job with this sampling draws, and can take over.
    """
    if not spec.procedure.redraw:
        return [("", spec.sampling.seed, spec.procedure.seeds)]
    first = spec.sampling.seed
    return [(f"-s{n + 1}", (first + n) % (MAX_SEED + 1), [seed]) for n, seed in enumerate(spec.procedure.seeds)]


def _subset(procedure: ProcedureSpec, number: int, seed: int) -> QuestionSubset | None:
    """The questions of a round; None in the last, which has all."""
    if number == procedure.rounds:
        return None
    return QuestionSubset(share=procedure.growth ** float(number - procedure.rounds), seed=seed)


def _prepare(builder: _Builder, spec: Recipe | TeacherProbeSpec) -> str:
    return builder.add(
        "prepare",
        PrepareParams(
            questions=spec.questions,
            benchmarks=spec.evaluation.benchmarks,
            decontamination=spec.decontamination,
            verification=spec.curation.verification,
        ),
    )


def _wants_rates(spec: Recipe | TeacherProbeSpec) -> bool:
    difficulty = spec.curation.difficulty
    return difficulty.max_pass_rate is not None or difficulty.keep_hardest is not None


def _baseline(builder: _Builder, prepare: str, spec: Recipe | TeacherProbeSpec, rates: bool = False) -> str | None:
    """With `rates` pass rates are measured also where this spec does not ask for them."""
    wants_rates = rates or _wants_rates(spec)
    evaluation = _draws(spec.evaluation) if spec.evaluation.benchmarks else None
    if not wants_rates and evaluation is None:
        return None
    return builder.add(
        "baseline",
        BaselineParams(
            model=_weights(spec.student),
            engine=spec.student.engine,
            pass_rate=_draws(spec.curation.difficulty) if wants_rates else None,
            evaluation=evaluation,
            verification=spec.curation.verification,
            harness=_of_harness(spec),
        ),
        prepare=prepare,
    )


def _student(
    builder: _Builder,
    spec: Recipe | TeacherProbeSpec,
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
    measured = {"baseline": baseline} if baseline else {}
    curation = CurateParams(curation=spec.curation, subset=subset)
    curate = builder.add(f"curate{suffix}", curation, guard, prepare=prepare, sample=sample, **measured)
    samples = max(1, math.ceil(spec.evaluation.samples * subset.share)) if subset else spec.evaluation.samples
    evaluation = _evaluation(spec, samples)
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


def _evaluation(spec: Recipe | TeacherProbeSpec, samples: int, students: Sequence[str] = ()) -> EvaluateParams:
    return EvaluateParams(
        engine=spec.student.engine,
        evaluation=_draws(spec.evaluation).model_copy(update={"samples": samples}),
        pass_at=[k for k in spec.evaluation.pass_at if k <= samples],
        majority_at=[k for k in spec.evaluation.majority_at if k <= samples],
        confidence=spec.evaluation.confidence,
        verification=spec.curation.verification,
        students=list(students),
        trust_remote_code=spec.student.trust_remote_code,
        harness=_of_harness(spec),
    )


def _of_harness(spec: Recipe | TeacherProbeSpec) -> list[Benchmark]:
    return [benchmark for benchmark in spec.evaluation.benchmarks if benchmark.harness is not None]


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
