"""`plan`: from a resource to the stages that it takes. Pure."""

from collections.abc import Mapping

from kubedistill_api.graph import Builder, Graph, Resource
from kubedistill_api.job import DistillationJob
from kubedistill_api.planning.job import plan_job
from kubedistill_api.planning.probe import plan_probe
from kubedistill_api.planning.study import plan_study
from kubedistill_api.probe import Candidate
from kubedistill_api.study import DistillationStudy


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
    builder = Builder(sources or {}, share=isinstance(resource, DistillationStudy))
    if isinstance(resource, DistillationJob):
        plan_job(builder, resource, teacher)
    elif isinstance(resource, DistillationStudy):
        plan_study(builder, resource)
    else:
        plan_probe(builder, resource)
    meta = resource.metadata
    return Graph(f"{resource.kind}/{meta.namespace}/{meta.name}", builder.nodes())
