"""`reconcile`: from what is wanted and what is, to what to do next. Pure and level-triggered.

The caller reads the resource with its status, then the children, then the results; writes the new status, on the
condition that it is still the one that was read; and only then acts. A crash between any two of these steps costs
nothing: the next look finds the same state or a later one and goes on from there. The same function drives pods
and the processes of `kubedistill run`.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal

from kubedistill_api.advance import LINGER, advance, fresh, guarded
from kubedistill_api.conditions import holds, is_finished, phase, put
from kubedistill_api.graph import Graph, Node, Resource
from kubedistill_api.observed import QUEUED, Action, Child, DeleteResource, Hold, Observed, StartStage, StopStage
from kubedistill_api.outcome import with_outcome
from kubedistill_api.retries import RetryPolicy, next_attempt
from kubedistill_api.standings import completed
from kubedistill_api.status import DONE, JobStatus, StageStatus
from kubedistill_api.summary import with_summary
from kubedistill_api.turns import Claim, Turns

Verdict = tuple[Literal["Complete", "Failed"], str, str]
ACTIVE = ("Starting", "Running")
DEFAULT_POLICY = RetryPolicy()
WAITING_FOR_PLACE = "WaitingForPlace"


def reconcile(
    resource: Resource,
    graph: Graph,
    status: JobStatus | None,
    observed: Observed,
    now: datetime,
    *,
    slots: int | None = None,
    turns: Turns | None = None,
    hold: Hold | None = None,
    policy: RetryPolicy = DEFAULT_POLICY,
) -> tuple[JobStatus, tuple[Action, ...]]:
    """The status that follows from `observed`, and the actions to take.

    `slots` bounds the stages of this resource that run at once, `turns` those of all who share its runtime; None is no
    bound. With a `hold` nothing is started, and the graph may be empty. A finished job starts nothing ever again. The
    status equals the given one when nothing changed.
    """
    before = status or JobStatus()
    if resource.metadata.deletion_timestamp:
        return before, ()
    if is_finished(before):
        stops = tuple(StopStage(c.stage, c.attempt) for c in _stoppable(observed))
        return before, (*stops, *_expired(resource, before, now))
    after = before.model_copy(
        update={
            "observed_generation": resource.metadata.generation,
            "stages": _looked_at(resource, graph, before, observed, now, policy),
        }
    )
    after = with_outcome(_clocked(resource, after, now), before, resource, graph, observed)
    generation = resource.metadata.generation
    if verdict := _verdict(resource, after, hold, now):
        after = _ended(after, verdict, now, generation)
        actions: tuple[Action, ...] = ()
    elif resource.spec.suspend:
        after = after.model_copy(update={"stages": _halted(after.stages, "Suspended")})
        actions = ()
    elif hold:
        after = after.model_copy(update={"stages": [_unclaimed(stage) for stage in after.stages]})
        actions = ()
    else:
        stages, actions = _scheduled(graph, after.stages, observed, now, slots, turns, policy)
        after = after.model_copy(update={"stages": stages})
        if actions and after.start_time is None:
            after = after.model_copy(update={"start_time": now})
    if not is_finished(after):
        after = _described(after, resource.spec.suspend, hold, now, generation)
    after = with_summary(after.model_copy(update={"phase": phase(after)}), resource, graph, observed)
    return after, (*_stops(after, observed), *actions)


def next_look(
    resource: Resource, status: JobStatus, now: datetime, policy: RetryPolicy = DEFAULT_POLICY
) -> timedelta | None:
    """How long until time alone changes something; None when it never does."""
    moments: list[datetime] = []
    if is_finished(status):
        ttl = resource.spec.ttl_seconds_after_finished
        if ttl is not None and status.completion_time:
            moments.append(status.completion_time + timedelta(seconds=ttl))
    elif not resource.spec.suspend:
        waiting = [s for s in status.stages if s.state == "Waiting" and s.retry_after]
        moments += [s.retry_after for s in waiting if s.retry_after and not policy.is_due(s, now)]
        moments += [now + min(LINGER, timedelta(seconds=policy.pending_s)) for s in status.stages if s.state in ACTIVE]
        deadline = resource.spec.active_deadline_seconds
        if deadline is not None and status.active_since:
            moments.append(status.active_since + timedelta(seconds=deadline - status.active_seconds))
    return max(min(moments) - now, timedelta()) if moments else None


def _looked_at(
    resource: Resource, graph: Graph, before: JobStatus, observed: Observed, now: datetime, policy: RetryPolicy
) -> list[StageStatus]:
    known = {stage.name: stage for stage in before.stages}
    looked_at: dict[str, StageStatus] = {}
    for node in graph.nodes:
        old = known.get(node.name) or fresh(node)
        stage = advance(
            old,
            node,
            observed.of(node.name),
            observed.results.get(node.digest),
            observed.root,
            now,
            resource.spec.backoff_limit,
            policy,
        )
        if stage.state != "Waiting" and stage.waiting_since:
            stage = stage.model_copy(update={"waiting_since": None})
        looked_at[node.name] = guarded(stage, old, node, looked_at[node.guard.decide]) if node.guard else stage
    return list(looked_at.values())


def _clocked(resource: Resource, status: JobStatus, now: datetime) -> JobStatus:
    """The status with its active period begun or ended."""
    since = status.active_since
    if resource.spec.suspend or _only_waits(status.stages):
        return _stopped_clock(status, now)
    if since is None or since > now:  # a clock that jumped back must not stretch the deadline by the jump
        return status.model_copy(update={"active_since": now})
    return status


def _only_waits(stages: Sequence[StageStatus]) -> bool:
    """Whether all that was started is in a queue, or nothing was for want of a place on the runtime."""
    active = [stage for stage in stages if stage.state in ACTIVE]
    if not active:
        return any(stage.waiting_since for stage in stages)
    return all(stage.state == "Starting" and stage.reason == QUEUED for stage in active)


def _stopped_clock(status: JobStatus, now: datetime) -> JobStatus:
    return status.model_copy(update={"active_seconds": _active_seconds(status, now), "active_since": None})


def _active_seconds(status: JobStatus, now: datetime) -> float:
    running = (now - status.active_since).total_seconds() if status.active_since else 0.0
    return status.active_seconds + max(0.0, running)


def _verdict(resource: Resource, status: JobStatus, hold: Hold | None, now: datetime) -> Verdict | None:
    """The final condition as (type, reason, message); None while the job goes on."""
    if status.stages and all(stage.state in DONE for stage in status.stages):
        reused = sum(stage.reused for stage in status.stages)
        skipped = sum(stage.state == "Skipped" for stage in status.stages)
        what = f"{len(status.stages) - skipped} stages succeeded" + (f", {reused} of them reused" if reused else "")
        return "Complete", *completed(status, what + (f"; {skipped} were not needed" if skipped else ""))
    for stage in status.stages:
        if stage.state == "Failed":
            return "Failed", stage.reason, f"stage {stage.name}: {stage.message or stage.reason}"
    if hold and hold.final:
        return "Failed", hold.reason, hold.message
    deadline = resource.spec.active_deadline_seconds
    if deadline is not None and not resource.spec.suspend and _active_seconds(status, now) >= deadline:
        unfinished = ", ".join(stage.name for stage in status.stages if stage.state not in DONE)
        message = f"active for activeDeadlineSeconds: {deadline}; not finished: {unfinished}"
        return "Failed", "DeadlineExceeded", message
    return None


def _ended(status: JobStatus, verdict: Verdict, now: datetime, generation: int) -> JobStatus:
    kind, reason, message = verdict
    conditions = status.conditions
    if holds(conditions, "Suspended"):
        conditions = put(conditions, "Suspended", "False", reason, "", now, generation)
    conditions = put(conditions, "Progressing", "False", reason, message, now, generation)
    return _stopped_clock(status, now).model_copy(
        update={
            "conditions": put(conditions, kind, "True", reason, message, now, generation),
            "stages": _halted(status.stages, "JobFailed"),
            "completion_time": now,
        }
    )


def _halted(stages: Sequence[StageStatus], reason: str) -> list[StageStatus]:
    """Stages that run go back to waiting, under a new attempt, so that the stopped one is history. None asks for a
    place any more."""
    return [next_attempt(s, reason=reason, message="") if s.state in ACTIVE else _unclaimed(s) for s in stages]


def _unclaimed(stage: StageStatus) -> StageStatus:
    """The stage without a claim: who does not take its turn must not stand in the line."""
    if stage.waiting_since is None:
        return stage
    return stage.model_copy(update={"waiting_since": None, "reason": "", "message": ""})


def _scheduled(
    graph: Graph,
    stages: Sequence[StageStatus],
    observed: Observed,
    now: datetime,
    slots: int | None,
    turns: Turns | None,
    policy: RetryPolicy,
) -> tuple[list[StageStatus], tuple[Action, ...]]:
    """The stages with those begun that are ready, in the order of the plan, and their starts.

    A stage that is Starting without a child is started again by the same name: the first time may have been lost.
    """
    by_name = {stage.name: stage for stage in stages}
    alive = {child.stage: child for child in observed.alive()}
    busy = alive.keys() | {stage.name for stage in stages if stage.state in ACTIVE}
    present = {(child.stage, child.attempt) for child in observed.children}
    starts: list[Action] = []
    refused: list[Claim] = []
    for node in graph.nodes:
        stage = by_name[node.name]
        if stage.state == "Waiting":
            full = slots is not None and len(busy) >= slots
            stage = _begun(stage, node, by_name, alive.get(node.name), full, now, policy)
            if turns and stage.state == "Starting":
                claim = Claim(by_name[node.name].waiting_since or now, turns.namespace, turns.who, node.name)
                if refusal := turns.refusal(len(busy), refused, claim):
                    stage = _claiming(by_name[node.name], claim, refusal)
                    refused.append(claim)
            by_name[node.name] = stage
        if stage.state == "Starting":
            busy.add(node.name)
            if node.name not in alive and (node.name, stage.attempt) not in present:
                starts.append(StartStage(node.name, stage.attempt))
    return [by_name[node.name] for node in graph.nodes], tuple(starts)


def _begun(
    stage: StageStatus,
    node: Node,
    by_name: dict[str, StageStatus],
    stopping: Child | None,
    full: bool,
    now: datetime,
    policy: RetryPolicy,
) -> StageStatus:
    """A waiting stage as Starting, or with what it waits for but a place on its runtime."""
    stage = _unclaimed(stage)
    needs = [*node.needs.values(), *([node.guard.decide] if node.guard else [])]
    missing = list(dict.fromkeys(need for need in needs if by_name[need].state not in DONE))
    if not policy.is_due(stage, now):
        return stage
    update: dict[str, object]
    if missing:
        update = {"reason": "WaitingForStages", "message": f"waits for {', '.join(missing)}"}
    elif stopping and stopping.state == "stopping" and stopping.reason:
        update = {"reason": stopping.reason, "message": stopping.message}
    elif stopping:
        update = {"reason": "Stopping", "message": "waits for an earlier attempt to end"}
    elif full:
        update = {"reason": "WaitingForSlot", "message": "waits for another stage to end"}
    else:
        update = {"state": "Starting", "reason": "", "message": "", "retry_after": None}
    return stage.model_copy(update=update)


def _claiming(stage: StageStatus, claim: Claim, refusal: str) -> StageStatus:
    update = {"reason": WAITING_FOR_PLACE, "message": refusal, "waiting_since": claim.since, "retry_after": None}
    return stage.model_copy(update=update)


def _described(status: JobStatus, suspend: bool, hold: Hold | None, now: datetime, generation: int) -> JobStatus:
    """The conditions of a job that has not ended."""
    conditions = status.conditions
    if suspend:
        conditions = put(conditions, "Suspended", "True", "Suspended", "spec.suspend is true", now, generation)
        conditions = put(conditions, "Progressing", "False", "Suspended", "spec.suspend is true", now, generation)
        return status.model_copy(update={"conditions": conditions})
    if holds(conditions, "Suspended"):
        conditions = put(conditions, "Suspended", "False", "Resumed", "", now, generation)
    if hold:
        conditions = put(conditions, "Progressing", "False", hold.reason, hold.message, now, generation)
        return status.model_copy(update={"conditions": conditions})
    reason, message = _doing(status.stages)
    conditions = put(conditions, "Progressing", "True", reason, message, now, generation)
    return status.model_copy(update={"conditions": conditions})


def _doing(stages: Sequence[StageStatus]) -> tuple[str, str]:
    """Reason and message of the Progressing condition."""
    running = [s.name for s in stages if s.state == "Running"]
    pending = [s for s in stages if s.state == "Starting"]
    for stage in stages:
        if stage.state == "Running" and stage.reason:
            return stage.reason, f"{stage.name}: {stage.message or stage.reason}"
    if running:
        return "StagesRunning", f"running: {', '.join(running)}"
    for stage in pending:
        if stage.reason:
            return stage.reason, f"{stage.name}: {stage.message or stage.reason}"
    if pending:
        return "StagesStarting", f"starting: {', '.join(s.name for s in pending)}"
    for stage in stages:
        if stage.retry_after:
            return "RetryScheduled", f"{stage.name} is tried again: {stage.reason}: {stage.message}"
    for stage in stages:
        if stage.state == "Waiting" and stage.reason not in ("", "Stopping", "WaitingForStages", "WaitingForSlot"):
            return stage.reason, f"{stage.name}: {stage.message}"
    return "StagesWaiting", "waiting for stopped stages to end"


def _stops(status: JobStatus, observed: Observed) -> Iterator[StopStage]:
    """A child may live only while its stage is active under the same attempt."""
    active = {(stage.name, stage.attempt) for stage in status.stages if stage.state in ACTIVE}
    for child in _stoppable(observed):
        if child.remains or (child.stage, child.attempt) not in active:
            yield StopStage(child.stage, child.attempt)


def _stoppable(observed: Observed) -> Iterator[Child]:
    """Children that are there and were not told to end."""
    yield from (child for child in observed.alive() if child.state != "stopping")
    yield from (child for child in observed.children if child.remains)


def _expired(resource: Resource, status: JobStatus, now: datetime) -> Iterator[DeleteResource]:
    ttl = resource.spec.ttl_seconds_after_finished
    if ttl is not None and status.completion_time and now >= status.completion_time + timedelta(seconds=ttl):
        yield DeleteResource()
