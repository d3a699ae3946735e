"""What the stages' figures make of the job's status: corpus, scores, cost, result. Pure."""

from kubedistill_api.comparison import Comparison
from kubedistill_api.graph import Graph, Resource
from kubedistill_api.job import DistillationJob
from kubedistill_api.observed import Observed
from kubedistill_api.stage import StageResult
from kubedistill_api.status import CorpusStatus, JobStatus, ResultStatus, StageStatus, Usage


def with_outcome(
    status: JobStatus, before: JobStatus, resource: Resource, graph: Graph, observed: Observed
) -> JobStatus:
    """The status with what its succeeded stages made. The stages of a probe and a study come more than once, so
    they have no corpus and no scores of their own; a study has its comparison."""
    update: dict[str, object] = {"usage": _usage(status, before, observed)}
    if isinstance(resource, DistillationJob):
        by_kind = {stage.kind: stage for stage in status.stages if stage.state == "Succeeded"}
        if "curate" in by_kind:
            update["corpus"] = _corpus(by_kind["curate"])
        evaluation = observed.results.get(by_kind["evaluate"].digest) if "evaluate" in by_kind else None
        if evaluation:
            update["scores"], update["deltas"] = evaluation.scores, evaluation.deltas
        elif "evaluate" not in by_kind:
            update["scores"], update["deltas"] = [], []
        update["result"] = _result(resource, by_kind)
    if compared := _compared(status, observed):
        update["comparison"], update["findings"] = compared, compared.sentences()
    return status.model_copy(update=update)


def _compared(status: JobStatus, observed: Observed) -> Comparison | None:
    """A study's table, when it is there to be seen; once seen, the status keeps it."""
    done = [stage for stage in status.stages if stage.kind == "compare" and stage.state == "Succeeded"]
    found: list[StageResult | None] = [observed.results.get(stage.digest) for stage in done]
    return next((result.comparison for result in found if result and result.comparison), None)


def _usage(status: JobStatus, before: JobStatus, observed: Observed) -> Usage:
    """The cost so far: each stage adds its own once, when it succeeds. What was reused cost this job nothing."""
    done_before = {(s.name, s.digest) for s in before.stages if s.state == "Succeeded"}
    total = before.usage.model_dump()
    for stage in status.stages:
        result = observed.results.get(stage.digest)
        if stage.state == "Succeeded" and not stage.reused and result and (stage.name, stage.digest) not in done_before:
            for name, value in result.cost.model_dump().items():
                total[name] += value
    return Usage.model_validate(total)


def _corpus(curate: StageStatus) -> CorpusStatus:
    """The funnel; a figure that the stage does not give is 0."""
    figures = {name: curate.metrics.get(name) for name in CorpusStatus.model_fields}
    return CorpusStatus(**{name: int(value) for name, value in figures.items() if isinstance(value, int | float)})


def _result(job: DistillationJob, by_kind: dict[str, StageStatus]) -> ResultStatus | None:
    def uri(kind: str, artifact: str, file: str) -> str | None:
        stage = by_kind.get(kind)
        if stage is None or artifact not in stage.artifacts:
            return None
        return f"{job.spec.output.uri.rstrip('/')}/{file}" if job.spec.output else stage.artifacts[artifact].uri

    if "report" not in by_kind:
        return None
    return ResultStatus(model_uri=uri("train", "model", "model"), report_uri=uri("report", "report", "report.html"))
