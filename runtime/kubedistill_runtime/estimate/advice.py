"""What in a manifest is allowed but probably not meant, or will be refused by the runtime."""

from collections.abc import Iterator

from kubedistill_api.benchmarks import PRESETS, preset_at
from kubedistill_api.data import ModelSource, QuestionSource
from kubedistill_api.graph import Resource, recipe
from kubedistill_api.job import Recipe
from kubedistill_api.probe import TeacherProbeSpec
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_api.study import DistillationStudy
from kubedistill_runtime.estimate.tokens import PROMPT_TOKENS

MANY_SAMPLES = 4
"""More of each question than a benchmark of thousands is worth."""


def advice(resource: Resource, runtime: RuntimeSpec) -> Iterator[str]:
    """One sentence each, with the fields they speak of."""
    spec = recipe(resource)
    root = "spec.job" if isinstance(resource, DistillationStudy) else "spec"
    if isinstance(spec, Recipe):
        sampling, where = spec.teacher.sampling, f"{root}.teacher.sampling"
    else:
        sampling, where = spec.sampling, f"{root}.sampling"
    limits = runtime.limits
    if limits.max_samples is not None and sampling.samples > limits.max_samples:
        yield f"{where}.samples ({sampling.samples}) is over the runtime's limit of {limits.max_samples}"
    trajectories = spec.curation.diversity.trajectories
    if 1 < sampling.samples < trajectories:
        field = f"{root}.curation.diversity.trajectories"
        yield f"{where}.samples ({sampling.samples}) is less than {field} ({trajectories})"
    stop = sampling.stop_after_verified
    if stop is not None and stop < trajectories:
        yield f"{where}.stopAfterVerified ({stop}) leaves less than {trajectories} traces to choose from"
    longest = min(sampling.max_tokens, spec.curation.quality.max_tokens or sampling.max_tokens)
    length = spec.training.context_length
    if longest + PROMPT_TOKENS > length and longest > length:
        yield (
            f"{root}.training.contextLength ({length}) is less than the longest trace that curation keeps ({longest} "
            "tokens); longer traces are dropped before training"
        )
    yield from _benchmarks(spec, f"{root}.evaluation.benchmarks")
    unpinned = sorted(set(_unpinned(resource)))
    if unpinned:
        yield f"no revision is given for {', '.join(unpinned)}; pin it, so that the same manifest means the same work"


def _benchmarks(spec: Recipe | TeacherProbeSpec, where: str) -> Iterator[str]:
    samples = spec.evaluation.samples
    for number, benchmark in enumerate(spec.evaluation.benchmarks):
        preset = PRESETS.get(preset_at(benchmark.uri, benchmark.subset, benchmark.split) or "")
        if preset and preset.gated and benchmark.token_secret_ref is None:
            yield (
                f"{where}[{number}]: {benchmark.uri} is gated: accept its terms on the hub, and give tokenSecretRef a "
                "token of the account that did"
            )
        if preset and preset.samples == 1 and samples > MANY_SAMPLES and benchmark.limit is None:
            answers = samples * preset.questions
            yield (
                f"{where}[{number}]: {samples} samples of {preset.questions} questions are {answers:,} answers, and "
                "one of each says nearly as much; score it in a job of its own, with evaluation.samples: 1"
            )


def _unpinned(resource: Resource) -> Iterator[str]:
    spec = recipe(resource)
    sources: list[ModelSource | QuestionSource] = [*spec.questions, *spec.evaluation.benchmarks, spec.student]
    teachers = [spec.teacher] if isinstance(spec, Recipe) else spec.candidates
    models = [teacher.model for teacher in teachers]
    for source in [*sources, *(model for model in models if model)]:
        if source.uri.startswith("hf://") and source.revision is None:
            yield source.uri
