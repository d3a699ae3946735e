"""Conditions by the Kubernetes API conventions: one per type, `lastTransitionTime` moves with `status` only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from kubedistill_api.status import Condition, ConditionType, JobStatus, Phase


def find(conditions: Sequence[Condition], kind: ConditionType) -> Condition | None:
    return next((c for c in conditions if c.type == kind), None)


def holds(conditions: Sequence[Condition], kind: ConditionType) -> bool:
    """Whether the condition is there and True."""
    condition = find(conditions, kind)
    return condition is not None and condition.status == "True"


def put(
    conditions: Sequence[Condition],
    kind: ConditionType,
    status: Literal["True", "False", "Unknown"],
    reason: str,
    message: str,
    now: datetime,
    generation: int,
) -> list[Condition]:
    """The conditions with this one added, or replaced in its place."""
    before = find(conditions, kind)
    since = before.last_transition_time if before and before.status == status else now
    after = Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=since,
        observed_generation=generation,
    )
    if before is None:
        return [*conditions, after]
    return [after if c.type == kind else c for c in conditions]


def is_finished(status: JobStatus | None) -> bool:
    """Whether the job has ended, for good."""
    return status is not None and any(holds(status.conditions, kind) for kind in ("Complete", "Failed"))


def phase(status: JobStatus) -> Phase:
    """One word for the conditions and stages."""
    if holds(status.conditions, "Complete"):
        return "Complete"
    if holds(status.conditions, "Failed"):
        return "Failed"
    if holds(status.conditions, "Suspended"):
        return "Suspended"
    begun = any(s.state != "Waiting" or s.attempt > 0 for s in status.stages)
    return "Running" if begun else "Pending"
