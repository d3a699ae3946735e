"""What the children and results of one stage make of its status. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from kubedistill_api.graph import Node
from kubedistill_api.observed import Cause, Child
from kubedistill_api.retries import (
    RetryPolicy,
    after_disruption,
    after_failure,
    given_back,
    is_stuck,
    next_attempt,
)
from kubedistill_api.stage import StageResult
from kubedistill_api.status import DONE, Artifact, StageStatus

VANISHED = "Vanished"
LINGER = timedelta(seconds=120)
"""A child may take so long to end after its result is there; engines and Ray need seconds to shut down."""


def fresh(node: Node) -> StageStatus:
    """A stage that nothing was done for."""
    return StageStatus(name=node.name, kind=node.kind, digest=node.digest)


def renewed(stage: StageStatus, node: Node) -> StageStatus:
    """The stage with other work to do, or with its work to do again. Attempts go on counting, so that no name of a
    child comes twice."""
    used = stage.state in ("Starting", "Running", "Failed") or (stage.state == "Succeeded" and not stage.reused)
    return fresh(node).model_copy(update={"attempt": stage.attempt + used})


def advance(
    stage: StageStatus,
    node: Node,
    children: Sequence[Child],
    result: StageResult | None,
    root: str,
    now: datetime,
    backoff_limit: int,
    policy: RetryPolicy,
) -> StageStatus:
    """The stage's status after a look at its `children` (oldest first) and at storage.

    Starts nothing. Children older than the status' attempt are history: what they say was counted when the attempt
    went up.
    """
    if stage.digest != node.digest:
        stage = renewed(stage, node)
    if stage.state in (*DONE, "Failed"):
        return stage
    working = any(c.alive and c.digest == node.digest for c in children)
    if result and (not working or now - result.finished > LINGER):
        return _succeeded(stage, node, children, result, root)
    stage = _found_again(stage, children)
    current = [c for c in children if c.attempt >= stage.attempt]
    if stage.state == "Running" and not current:
        message = f"attempt {stage.attempt} is gone without a result; it was deleted by hand, or its machine went away"
        return after_disruption(stage, VANISHED, message, now, policy)
    for child in current:
        if stage.state == "Failed" or child.attempt < stage.attempt:
            break
        stage = _observe(stage, node, child, now, backoff_limit, policy)
    return stage


def guarded(stage: StageStatus, before: StageStatus, node: Node, decide: StageStatus) -> StageStatus:
    """The stage in the light of the decision that it waits for: skipped where it is needless, and not taken for done
    before that is known. `before` is the stage before this look at it."""
    assert node.guard is not None
    decided = decide.state in DONE
    if decide.state == "Skipped" or (decided and decide.decision and decide.decision.dismisses(node.guard.candidate)):
        if stage.state == "Skipped":
            return stage
        idle = stage if stage.state in ("Waiting", "Succeeded") else next_attempt(stage, reason="", message="")
        return fresh(node).model_copy(update={"attempt": idle.attempt, "state": "Skipped", "reason": "NotNeeded"})
    if not decided and stage.state == "Succeeded" and before.state in ("Waiting", "Skipped"):
        return fresh(node).model_copy(update={"attempt": stage.attempt})
    return fresh(node).model_copy(update={"attempt": stage.attempt}) if stage.state == "Skipped" else stage


def _found_again(stage: StageStatus, children: Sequence[Child]) -> StageStatus:
    """A running child that was only out of sight goes on: its next attempt was planned, but not started."""
    if stage.state == "Waiting" and stage.reason == VANISHED and not any(c.attempt >= stage.attempt for c in children):
        for child in children:
            back = child.attempt == stage.attempt - 1 and child.digest == stage.digest
            if back and child.state in ("pending", "running"):
                return stage.model_copy(update={"attempt": child.attempt, "state": "Running", "retry_after": None})
    return stage


def _observe(
    stage: StageStatus, node: Node, child: Child, now: datetime, backoff_limit: int, policy: RetryPolicy
) -> StageStatus:
    stage = stage.model_copy(update={"attempt": child.attempt})
    if child.digest != node.digest:
        return next_attempt(stage, reason="", message="")
    match child.state:
        case "pending" if is_stuck(child, now, policy):
            return given_back(stage, child, now, policy)
        case "pending":
            update: dict[str, object] = {
                "state": "Starting",
                "reason": child.reason,
                "message": child.message,
                "retry_after": None,
            }
            return stage.model_copy(update=update)
        case "running":
            update = {
                "state": "Running",
                "reason": child.reason,
                "message": child.message,
                "retry_after": None,
                "progress": child.progress or stage.progress,
                "started": stage.started or child.started,
            }
            return stage.model_copy(update=update)
        case "stopping":
            # Somebody else told it to end; what it leaves decides.
            return stage.model_copy(update={"state": "Running", "reason": child.reason, "message": child.message})
        case "succeeded":
            # Started again, a finished stage finds its result and ends at once.
            message = f"attempt {child.attempt} ended well, but its result is not there"
            return after_failure(stage, Cause.TRY_AGAIN, message, now, backoff_limit, policy)
        case "failed":
            message = child.message or (f"exit code {child.exit_code}" if child.exit_code is not None else "")
            cause = child.cause or Cause.APPLICATION
            return after_failure(stage, cause, message, now, backoff_limit, policy)


def _succeeded(
    stage: StageStatus, node: Node, children: Sequence[Child], result: StageResult, root: str
) -> StageStatus:
    # A pod is started without a look into storage, and may find the result there.
    begun = [c for c in children if c.digest == node.digest and (c.started or c.state != "pending")]
    first = stage.started or min((c.started for c in begun if c.started), default=None)
    reused = result.finished < first if first else not begun
    return stage.model_copy(
        update={
            "state": "Succeeded",
            "reused": reused,
            "retry_after": None,
            "progress": None,
            "started": result.started if reused else first or result.started,
            "finished": result.finished,
            "reason": "",
            "message": "",
            "artifacts": {name: _placed(artifact, node, root) for name, artifact in result.outputs.items()},
            "metrics": result.metrics,
            "usage": result.cost,
            "decision": result.decision,
        }
    )


def _placed(artifact: Artifact, node: Node, root: str) -> Artifact:
    """The artifact by its full name; results name it within the stage's folder."""
    if not root or "://" in artifact.uri or artifact.uri.startswith("/"):
        return artifact
    return artifact.model_copy(update={"uri": f"{root}/stages/{node.folder}/{artifact.uri}"})
