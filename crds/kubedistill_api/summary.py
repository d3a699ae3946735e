"""A status in a few words. Pure."""

from kubedistill_api.conditions import find, is_finished
from kubedistill_api.graph import Graph, Resource
from kubedistill_api.job import DistillationJob
from kubedistill_api.observed import Observed
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.standings import with_standings
from kubedistill_api.status import DONE, JobStatus, Progress, Summary

SHOWN = 40
"""Characters of a teacher's name in `kubectl get`."""


def with_summary(status: JobStatus, resource: Resource, graph: Graph, observed: Observed) -> JobStatus:
    """The status with its summary and, for a probe, its standings."""
    update: dict[str, object] = {}
    if isinstance(resource, TeacherProbe):
        status = with_standings(status, resource, graph, observed)
    update["summary"] = Summary(
        stage=_stage(status),
        progress=_progress(status),
        teacher=_teacher(status, resource, graph),
        score=_score(status),
        reason=_reason(status),
    )
    return status.model_copy(update=update)


def _stage(status: JobStatus) -> str:
    failed = [s.name for s in status.stages if s.state == "Failed"]
    active = [s.name for s in status.stages if s.state in ("Starting", "Running")]
    if failed or active:
        return ", ".join(failed or active)
    if is_finished(status):
        return ""
    return next((s.name for s in status.stages if s.state == "Waiting"), "")


def _progress(status: JobStatus) -> str:
    """Of the first running stage, else the stages that are done."""
    for stage in status.stages:
        if stage.state == "Running" and stage.progress:
            return _told(stage.progress)
    done = sum(stage.state in DONE for stage in status.stages)
    return f"{done}/{len(status.stages)} stages" if status.stages else ""


def _told(progress: Progress) -> str:
    if progress.total:
        return f"{progress.done:g}/{progress.total:g} {progress.unit}"
    return f"{progress.done:g} {progress.unit}"


def _teacher(status: JobStatus, resource: Resource, graph: Graph) -> str:
    if isinstance(resource, TeacherProbe):
        return status.winner or f"{len(resource.spec.candidates)} candidates"
    for node in graph.nodes:
        if node.params.kind == "sample":
            name = node.params.model.uri if node.params.model else node.params.endpoint.model  # type: ignore[union-attr]
            return name.rstrip("/").rpartition("://")[2][-SHOWN:]
    return _asked(resource)


def _asked(resource: Resource) -> str:
    ref = resource.spec.teacher.probe_ref if isinstance(resource, DistillationJob) else None
    return f"by probe {ref.name}" if ref else ""


def _score(status: JobStatus) -> str:
    """The first benchmark's score in per cent, and the gain; of a study the best variant's."""
    if status.comparison:
        return f"{100 * status.comparison.best.score:.1f} ({status.comparison.best.arm})"
    if status.standings:
        return f"{100 * status.standings[0].score:.1f}"
    student = next((s for s in status.scores if s.model == "student"), None)
    if student is None:
        return ""
    gain = next((d for d in status.deltas if (d.benchmark, d.metric) == (student.benchmark, student.metric)), None)
    return f"{100 * student.mean:.1f}" + (f" ({100 * gain.mean:+.1f})" if gain else "")


def _reason(status: JobStatus) -> str:
    failed = find(status.conditions, "Failed")
    if failed and failed.status == "True":
        return failed.reason
    if is_finished(status) and status.outcome and status.outcome.outcome == "tie":
        return "Tie"
    progressing = find(status.conditions, "Progressing")
    if is_finished(status) or progressing is None or progressing.reason.startswith("Stages"):
        return ""
    return progressing.reason
