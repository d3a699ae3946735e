"""The stages that a job, a probe and a study have in common, added to a plan."""

import math
from collections.abc import Sequence

from kubedistill_api.data import MAX_SEED, Benchmark, EndpointSource, EngineSpec, ModelSource, SamplingSpec
from kubedistill_api.graph import RUN_FIELDS, Builder, Resource
from kubedistill_api.job import Recipe
from kubedistill_api.probe import TeacherProbeSpec
from kubedistill_api.stage import (
    BaselineParams,
    CurateParams,
    EvaluateParams,
    Guard,
    PrepareParams,
    QuestionSubset,
    ReportParams,
    SampleParams,
    TrainParams,
)


def add_prepare(builder: Builder, spec: Recipe | TeacherProbeSpec) -> str:
    return builder.add(
        "prepare",
        PrepareParams(
            questions=spec.questions,
            benchmarks=spec.evaluation.benchmarks,
            decontamination=spec.decontamination,
            verification=spec.curation.verification,
        ),
    )


def wants_rates(spec: Recipe | TeacherProbeSpec) -> bool:
    difficulty = spec.curation.difficulty
    return difficulty.max_pass_rate is not None or difficulty.keep_hardest is not None


def add_baseline(builder: Builder, prepare: str, spec: Recipe | TeacherProbeSpec, rates: bool = False) -> str | None:
    """With `rates` pass rates are measured also where this spec does not ask for them."""
    measured = rates or wants_rates(spec)
    evaluation = _draws(spec.evaluation) if spec.evaluation.benchmarks else None
    if not measured and evaluation is None:
        return None
    return builder.add(
        "baseline",
        BaselineParams(
            model=weights(spec.student),
            engine=spec.student.engine,
            pass_rate=_draws(spec.curation.difficulty) if measured else None,
            evaluation=evaluation,
            verification=spec.curation.verification,
            harness=_of_harness(spec),
        ),
        prepare=prepare,
    )


def add_sample(
    builder: Builder,
    prepare: str,
    spec: Recipe,
    source: ModelSource | None,
    endpoint: EndpointSource | None,
    engine: EngineSpec,
) -> str:
    params = SampleParams(
        model=weights(source),
        endpoint=endpoint,
        engine=engine,
        sampling=spec.teacher.sampling,
        verification=spec.curation.verification,
    )
    return builder.add("sample", params, prepare=prepare)


def add_student(
    builder: Builder,
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
    evaluation = evaluation_params(spec, samples)
    # The base was asked as often as `evaluation.samples` says; with fewer samples there is nothing to compare with.
    base = {} if subset else measured
    evaluations = []
    for end, seed in zip(ends(len(seeds)), seeds or [spec.training.seed], strict=True):
        training = spec.training.model_copy(update={"seed": seed})
        train = builder.add(
            f"train{suffix}{end}", TrainParams(model=weights(spec.student), training=training), guard, curate=curate
        )
        if spec.evaluation.benchmarks:
            needs = {"prepare": prepare, "train": train, **base}
            evaluations.append(builder.add(f"evaluate{suffix}{end}", evaluation, guard, **needs))
    return evaluations


def evaluation_params(spec: Recipe | TeacherProbeSpec, samples: int, students: Sequence[str] = ()) -> EvaluateParams:
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


def ends(number: int) -> list[str]:
    """What the names of so many draws or trainings end with; of a single one with nothing."""
    return [f"-s{n}" for n in range(1, number + 1)] if number > 1 else [""]


def following(seed: int, number: int) -> int:
    """The seed of the draw `number`, counted from 0; that one is `seed` itself."""
    return (seed + number) % (MAX_SEED + 1)


def add_report(builder: Builder, resource: Resource) -> None:
    """About all stages that are there."""
    nodes = {node.name: node.name for node in builder.nodes()}
    builder.add("report", ReportParams(manifest=_manifest(resource)), **nodes)


def _of_harness(spec: Recipe | TeacherProbeSpec) -> list[Benchmark]:
    return [benchmark for benchmark in spec.evaluation.benchmarks if benchmark.harness is not None]


def _draws(spec: SamplingSpec) -> SamplingSpec:
    """The part of an evaluation or a difficulty that decides what is drawn."""
    return SamplingSpec.model_validate({name: getattr(spec, name) for name in SamplingSpec.model_fields})


def weights(model: ModelSource | None) -> ModelSource | None:
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
