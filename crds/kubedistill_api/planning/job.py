"""The stages of a job."""

from kubedistill_api.data import EndpointSource, ModelSource
from kubedistill_api.graph import Builder
from kubedistill_api.job import DistillationJob
from kubedistill_api.planning.stages import add_baseline, add_prepare, add_report, add_sample, add_student
from kubedistill_api.probe import Candidate


def plan_job(builder: Builder, job: DistillationJob, winner: Candidate | None) -> None:
    spec = job.spec
    source: ModelSource | None = spec.teacher.model
    endpoint: EndpointSource | None = spec.teacher.endpoint
    engine = spec.teacher.engine
    if spec.teacher.probe_ref:
        if winner is None:
            raise LookupError(spec.teacher.probe_ref.name)
        source, endpoint, engine = winner.model, winner.endpoint, winner.engine
    prepare = add_prepare(builder, spec)
    baseline = add_baseline(builder, prepare, spec)
    sample = add_sample(builder, prepare, spec, source, endpoint, engine)
    add_student(builder, spec, "", prepare, sample, baseline)
    add_report(builder, job)
