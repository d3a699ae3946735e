"""One line in the log for each attempt that begins to run, and one for each that ends. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from kubedistill_api.observed import QUEUED, Child
from kubedistill_api.status import JobStatus, StageStatus

Line = dict[str, object]


def lines(before: JobStatus, after: JobStatus, children: Sequence[Child], now: datetime) -> Iterator[Line]:
    """What happened to attempts between two statuses: `event` (start, end), `stage`, `attempt`, `pod`, and at the end
    `outcome`, `reason` and `seconds`, those that its Job was active."""
    known = {stage.name: stage for stage in before.stages}
    found = {(child.stage, child.attempt): child for child in children}
    for stage in after.stages:
        was = known.get(stage.name)
        attempt = was.attempt if was else stage.attempt
        ran = was is not None and was.state == "Running"
        goes_on = stage.state == "Running" and (not ran or stage.attempt == attempt)
        outcome = _outcome(was, stage)
        if outcome and not goes_on and not (stage.state == "Succeeded" and stage.reused):
            yield _line("end", stage, attempt, found) | {
                "outcome": outcome,
                "reason": stage.reason,
                "seconds": _seconds(found.get((stage.name, attempt)), stage, now),
            }
        if stage.state == "Running" and (not ran or stage.attempt != attempt):
            yield _line("start", stage, stage.attempt, found)


def _outcome(was: StageStatus | None, stage: StageStatus) -> str:
    """How the attempt ended; empty where none did."""
    state = was.state if was else "Waiting"
    if stage.state in ("Succeeded", "Failed") and state != stage.state:
        return stage.state
    if was and state in ("Starting", "Running") and stage.attempt > was.attempt:
        return "Retried" if stage.retry_after else "Stopped"
    if state == "Running" and stage.state == "Starting" and stage.reason == QUEUED:
        return "Stopped"
    return ""


def _line(event: str, stage: StageStatus, attempt: int, children: dict[tuple[str, int], Child]) -> Line:
    child = children.get((stage.name, attempt))
    return {"event": event, "stage": stage.name, "attempt": attempt, "pod": child.pod if child else None}


def _seconds(child: Child | None, stage: StageStatus, now: datetime) -> float | None:
    since = child.started if child and child.started else stage.started
    until = stage.finished if stage.state == "Succeeded" and stage.finished else now
    return round((until - since).total_seconds(), 1) if since else None
