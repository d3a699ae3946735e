"""What a resource is refused for before anything starts, which its own schema cannot see. Pure."""

from collections.abc import Iterator

from kubedistill_api.graph import Resource, recipe, source_uris
from kubedistill_api.job import DistillationJob, Recipe
from kubedistill_api.probe import TeacherProbeSpec
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_api.study import DistillationStudy, arms

DEFAULT_RUNTIME = "default"


def refusals(resource: Resource, runtime: RuntimeSpec) -> list[str]:
    """Everything that is wrong, each with its field and what would be right."""
    return [*_paths(resource), *_limits(resource, runtime)]


def _paths(resource: Resource) -> Iterator[str]:
    uris = set(source_uris(resource))
    if isinstance(resource, DistillationJob) and resource.spec.output:
        uris.add(resource.spec.output.uri)
    for uri in sorted(uris):
        if "://" not in uri:
            yield f"uri {uri}: a path of your machine is not in the pods; use pvc://CLAIM/PATH, hf://, s3:// or gs://"


def _limits(resource: Resource, runtime: RuntimeSpec) -> Iterator[str]:
    limits = runtime.limits
    for name, samples in _wanted(resource):
        if limits.max_samples is not None and samples > limits.max_samples:
            yield f"{name}: {samples} is more than the runtime allows; at most {limits.max_samples}"
    deadline = resource.spec.active_deadline_seconds
    if limits.max_active_deadline_seconds is not None and (deadline or 0) > limits.max_active_deadline_seconds:
        yield (
            f"spec.activeDeadlineSeconds: {deadline} is more than the runtime allows; "
            f"at most {limits.max_active_deadline_seconds}"
        )


def _wanted(resource: Resource) -> Iterator[tuple[str, int]]:
    """Fields that ask for samples, and how many; of a study those of every variant."""
    specs: list[tuple[str, Recipe | TeacherProbeSpec]] = [("spec", recipe(resource))]
    if isinstance(resource, DistillationStudy):
        specs = [(f"spec.job ({arm.name})", arm.recipe) for arm in arms(resource.spec)]
    for where, spec in specs:
        if isinstance(spec, Recipe):
            yield f"{where}.teacher.sampling.samples", spec.teacher.sampling.samples
        else:
            yield f"{where}.sampling.samples", spec.sampling.samples
        if spec.evaluation.benchmarks:
            yield f"{where}.evaluation.samples", spec.evaluation.samples
        yield f"{where}.curation.difficulty.samples", spec.curation.difficulty.samples


def with_deadline(resource: Resource, runtime: RuntimeSpec) -> Resource:
    """The resource with the runtime's deadline where it gives none."""
    limit = runtime.limits.max_active_deadline_seconds
    if limit is None or resource.spec.active_deadline_seconds is not None:
        return resource
    spec = resource.spec.model_copy(update={"active_deadline_seconds": limit})
    return resource.model_copy(update={"spec": spec})
