"""Kubernetes Events for what happens to a resource, so that `kubectl describe` tells its story."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import aiohttp

from kubedistill_api.base import API_VERSION
from kubedistill_api.conditions import find, holds
from kubedistill_api.observed import QUEUED, Child
from kubedistill_api.status import JobStatus, StageStatus
from kubedistill_operator.cluster import ApiError, Cluster

log = logging.getLogger(__name__)

COMPONENT = "kubedistill-operator"
LANES = 8
"""Writers side by side. The events of one resource share one, and so keep their order."""
WAITING = 2_500
"""Events that wait in a lane; more are dropped, because they must never hold up the work."""
MESSAGE = 1000


class Happening(NamedTuple):
    """One event."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def happenings(before: JobStatus, after: JobStatus, children: Sequence[Child] = ()) -> Iterator[Happening]:
    """What is worth telling between two statuses, each thing once; `children` tell the pods. Pure."""
    known = {stage.name: stage for stage in before.stages}
    pods = {(child.stage, child.attempt): child.pod for child in children if child.pod}
    for stage in after.stages:
        earlier = known.get(stage.name)
        # The attempt before has ended where the number went up.
        pod = pods.get((stage.name, earlier.attempt if earlier else stage.attempt)) or pods.get(
            (stage.name, stage.attempt)
        )
        yield from _stage(earlier, stage, pod)
    for kind in ("Complete", "Failed", "Suspended"):
        condition = find(after.conditions, kind)
        if condition and holds(after.conditions, kind) != holds(before.conditions, kind):
            ended = condition.status == "True"
            name = kind if ended else "Resumed"
            if ended or kind == "Suspended":
                type_: Literal["Normal", "Warning"] = "Warning" if kind == "Failed" else "Normal"
                yield Happening(type_, name, condition.message or condition.reason)
    was, now = find(before.conditions, "Progressing"), find(after.conditions, "Progressing")
    held = now and now.status == "False" and not holds(after.conditions, "Suspended")
    finished = holds(after.conditions, "Complete") or holds(after.conditions, "Failed")
    if now and held and not finished and (was is None or was.reason != now.reason):
        yield Happening("Warning", now.reason, now.message)


def _stage(before: StageStatus | None, after: StageStatus, pod: str | None) -> Iterator[Happening]:
    state = before.state if before else "Waiting"
    where = f" (pod {pod})" if pod else ""
    logs = f"; see kubectl logs {pod}" if pod else ""
    if after.state == "Succeeded" and state != "Succeeded":
        how = "its result was there already" if after.reused else "done"
        yield Happening("Normal", "StageSucceeded", f"{after.name}: {how}{'' if after.reused else where}")
    elif after.state == "Failed" and state != "Failed":
        yield Happening("Warning", "StageFailed", f"{after.name}: {after.reason}: {after.message}{logs}")
    elif after.state == "Running" and (state != "Running" or (before and before.attempt != after.attempt)):
        yield Happening("Normal", "StageRunning", f"{after.name}: attempt {after.attempt} runs{where}")
    elif after.state == "Running" and after.reason and before and before.reason != after.reason:
        yield Happening("Warning", after.reason, f"{after.name}: {after.message or after.reason}")
    elif after.retry_after and (before is None or before.retry_after != after.retry_after):
        when = after.retry_after.astimezone(UTC).strftime("%H:%M:%S UTC")
        said = f"{after.name}: {after.reason}: {after.message}; it is tried again at {when}{logs}"
        yield Happening("Warning", "StageRetry", said)
    elif after.state == "Starting" and after.reason == QUEUED and before and before.reason != QUEUED:
        if state == "Running":
            yield Happening("Warning", "EvictedByQueue", f"{after.name}: its pods were told to end; {after.message}")
        else:
            yield Happening("Normal", QUEUED, f"{after.name}: {after.message}")
    elif after.state == "Starting" and after.reason and _trouble(before) != _trouble(after):
        yield Happening("Warning", after.reason, f"{after.name}: {after.message or after.reason}")


def _trouble(stage: StageStatus | None) -> str:
    """The reason, the same for both that a kubelet gives by turns for an image that cannot be pulled."""
    reason = stage.reason if stage else ""
    return "ImagePullBackOff" if reason == "ErrImagePull" else reason


class Recorder:
    """Writes events in the background."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lanes = [asyncio.Queue[dict[str, Any]](WAITING) for _ in range(LANES)]

    def record(self, item: dict[str, Any], before: JobStatus, after: JobStatus, children: Sequence[Child] = ()) -> None:
        for one in happenings(before, after, children):
            self._put(item, one)

    def warn(self, item: dict[str, Any], reason: str, message: str) -> None:
        self._put(item, Happening("Warning", reason, message))

    def _put(self, item: dict[str, Any], one: Happening) -> None:
        lane = self._lanes[hash(item["metadata"]["uid"]) % LANES]
        try:
            lane.put_nowait(event(item, one, datetime.now(UTC)))
        except asyncio.QueueFull:
            log.warning("too many events wait; dropped: %s", one.message)

    async def run(self) -> None:
        """Writes for ever. An event that cannot be written is lost: it is a courtesy, not a record."""
        async with asyncio.TaskGroup() as writers:
            for lane in self._lanes:
                writers.create_task(self._write(lane))

    async def _write(self, lane: asyncio.Queue[dict[str, Any]]) -> None:
        while True:
            item = await lane.get()
            try:
                await self._cluster.create(item)
            except (ApiError, aiohttp.ClientError) as error:
                log.debug("event not written: %s", error)


def event(item: dict[str, Any], one: Happening, now: datetime) -> dict[str, Any]:
    """The manifest of an Event about a resource."""
    metadata = item["metadata"]
    when = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{uuid4().hex[:16]}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": item["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": one.type,
        "reason": one.reason,
        "message": one.message[:MESSAGE],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": when,
        "lastTimestamp": when,
        "count": 1,
    }
