"""What a resource is refused for before anything starts, which its own schema cannot see. Pure."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from kubedistill_api.data import EndpointSource, ModelSource
from kubedistill_api.graph import Resource, recipe, source_uris
from kubedistill_api.job import DistillationJob, Recipe, TeacherSpec
from kubedistill_api.probe import Candidate, TeacherProbeSpec
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_api.stage import ROLES
from kubedistill_api.study import DistillationStudy, arms

DEFAULT_RUNTIME = "default"


def refusals(resource: Resource, runtime: RuntimeSpec) -> list[str]:
    """Everything that is wrong, each with its field and what would be right."""
    return [*_paths(resource), *_limits(resource, runtime), *_sources(resource, runtime)]


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
    for role in sorted(set(ROLES.values())):
        gpus = getattr(runtime, role).gpus
        if limits.max_gpus is not None and gpus > limits.max_gpus:
            yield (
                f"the runtime's spec.{role}: replicas times gpusPerReplica is {gpus}, and its spec.limits.maxGpus "
                f"allows a stage at most {limits.max_gpus}; take another runtime, or have one of the two changed"
            )
    deadline = resource.spec.active_deadline_seconds
    if limits.max_active_deadline_seconds is not None and (deadline or 0) > limits.max_active_deadline_seconds:
        yield (
            f"spec.activeDeadlineSeconds: {deadline} is more than the runtime allows; "
            f"at most {limits.max_active_deadline_seconds}"
        )


def _recipes(resource: Resource) -> Iterator[tuple[str, Recipe | TeacherProbeSpec]]:
    """What the resource makes, and the field that says so; of a study every variant."""
    if isinstance(resource, DistillationStudy):
        yield from ((f"spec.job ({arm.name})", arm.recipe) for arm in arms(resource.spec))
    else:
        yield "spec", recipe(resource)


def _wanted(resource: Resource) -> Iterator[tuple[str, int]]:
    """Fields that ask for samples, and how many."""
    for where, spec in _recipes(resource):
        if isinstance(spec, Recipe):
            yield f"{where}.teacher.sampling.samples", spec.teacher.sampling.samples
        else:
            yield f"{where}.sampling.samples", spec.sampling.samples
        if spec.evaluation.benchmarks:
            yield f"{where}.evaluation.samples", spec.evaluation.samples
        yield f"{where}.curation.difficulty.samples", spec.curation.difficulty.samples


def _sources(resource: Resource, runtime: RuntimeSpec) -> Iterator[str]:
    for where, spec in _recipes(resource):
        yield from _model(f"{where}.student", spec.student, runtime)
        if judge := spec.curation.verification.judge:
            yield from _endpoint(f"{where}.curation.verification.judge.endpoint", judge.endpoint, runtime)
        if isinstance(spec, Recipe):
            yield from teacher_refusals(f"{where}.teacher", spec.teacher, runtime)
        else:
            for number, candidate in enumerate(spec.candidates):
                yield from teacher_refusals(f"{where}.candidates[{number}]", candidate, runtime)


def teacher_refusals(field: str, teacher: TeacherSpec | Candidate, runtime: RuntimeSpec) -> Iterator[str]:
    """What is wrong with a teacher that `field` names."""
    if teacher.model:
        yield from _model(f"{field}.model", teacher.model, runtime)
    if teacher.endpoint:
        yield from _endpoint(f"{field}.endpoint", teacher.endpoint, runtime)


def _model(field: str, model: ModelSource, runtime: RuntimeSpec) -> Iterator[str]:
    allowed = runtime.limits.allowed_models
    if allowed is not None and not any(_begins(model.uri, pattern) for pattern in allowed):
        yield f"{field}.uri: the runtime does not allow {model.uri}; it allows {_told(allowed)}"


def _endpoint(field: str, endpoint: EndpointSource, runtime: RuntimeSpec) -> Iterator[str]:
    allowed = runtime.limits.allowed_endpoint_hosts
    if allowed is None:
        return
    host = _host(endpoint.url)
    if host is None:
        yield f"{field}.url: {endpoint.url} hides its host; write http(s)://HOST:PORT/PATH without a user"
    elif not any(_ends(host, pattern) for pattern in allowed):
        yield f"{field}.url: the runtime does not allow the host {host}; it allows {_told(allowed)}"


def _host(url: str) -> str | None:
    """The host's name; None where two readers of the URL could take it for different ones."""
    if "\\" in url or "@" in url:
        return None
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _begins(uri: str, pattern: str) -> bool:
    """A path with `..` in it may end anywhere, whatever it begins with."""
    if not pattern.endswith("*"):
        return uri == pattern
    return uri.startswith(pattern[:-1]) and ".." not in uri.split("/")


def _ends(text: str, pattern: str) -> bool:
    return text.endswith(pattern[1:]) if pattern.startswith("*") else text == pattern


def _told(allowed: Sequence[str]) -> str:
    return ", ".join(allowed) or "none"


def with_deadline(resource: Resource, runtime: RuntimeSpec) -> Resource:
    """The resource with the runtime's deadline where it gives none."""
    limit = runtime.limits.max_active_deadline_seconds
    if limit is None or resource.spec.active_deadline_seconds is not None:
        return resource
    spec = resource.spec.model_copy(update={"active_deadline_seconds": limit})
    return resource.model_copy(update={"spec": spec})
