"""One look at one resource: read what is known, decide, write the status, act."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from kubedistill_api.base import API_VERSION
from kubedistill_api.conditions import is_finished
from kubedistill_api.graph import Graph, Resource
from kubedistill_api.observed import Action, Cause, DeleteResource, Hold, Observed, StartStage, StopStage
from kubedistill_api.reconcile import ACTIVE, next_look, reconcile
from kubedistill_api.retries import RetryPolicy
from kubedistill_api.status import JobStatus
from kubedistill_api.turns import Turns
from kubedistill_operator import journal
from kubedistill_operator.cluster import Cluster, NotFound
from kubedistill_operator.kinds import MODELS, RUNTIMES
from kubedistill_operator.metrics import Metrics
from kubedistill_operator.names import child_name
from kubedistill_operator.observer import Observer
from kubedistill_operator.places import Ledger, runtime_place
from kubedistill_operator.poller import Poller
from kubedistill_operator.recorder import Recorder
from kubedistill_operator.settle import Place, Settled, Settler, Waiting, as_settled, departure
from kubedistill_operator.starter import Starter
from kubedistill_operator.store import Key, Store
from kubedistill_operator.workqueue import WorkQueue

log = logging.getLogger(__name__)

PLACE_LOOK_S = 30.0
"""Who waits for a place is woken when it is its turn, and looks this often how many are before it; less often where
many wait."""
ROOMLESS = (Cause.UNSCHEDULABLE, Cause.QUOTA)
"""Reasons of a child for which the cluster has no room."""


class Controller:
    """Reconciles resources. Any number of workers may call `look`, each with another key."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        queue: WorkQueue[Key],
        recorder: Recorder,
        poller: Poller,
        metrics: Metrics,
        *,
        policy: RetryPolicy | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._queue = queue
        self._recorder = recorder
        self._poller = poller
        self._metrics = metrics
        self._policy = policy or RetryPolicy()
        self._now = now
        self._settler = Settler(cluster, store)
        self._ledger = Ledger(store)
        self._waiters: dict[Place, set[Key]] = {}
        self._observer = Observer(cluster, store, queue, poller, self._wait, lambda: self._now())
        self._starter = Starter(cluster, store, queue, self._observer, lambda: self._now())

    def changed(self, place: Place) -> None:
        """Something that resources may wait for changed."""
        for key in self._waiters.pop(place, ()):
            self._queue.add(key)
        if place[0] in RUNTIMES:
            self._ledger.changed(place)
            self._wake()

    def _wait(self, place: Place, key: Key) -> None:
        """Has a resource looked at again when something changes."""
        self._waiters.setdefault(place, set()).add(key)

    def take_stock(self) -> None:
        """Before the first look, once everything is listed."""
        self._ledger.take_stock()

    async def adopt_services(self, namespace: str | None) -> None:
        """Gives Services to their Jobs, and removes those that have none."""
        await self._starter.adopt_services(namespace)

    def failed(self, key: Key) -> None:
        """A look failed."""
        self._ledger.withdraw(key)
        self._wake()

    async def look(self, key: Key) -> None:
        """Reconciles one resource. Raises what the API server refuses; the same look again is always safe."""
        try:
            await self._look(key)
        finally:
            self._wake()

    def _wake(self) -> None:
        """Queues those whose turn it has become to take a place on their runtime."""
        for key in self._ledger.next():
            self._queue.add(key)

    async def _look(self, key: Key) -> None:
        started = time.monotonic()
        item = self._store.get(*key)
        if item is None:
            self._queue.forget(key)
            self._poller.leave_all(key)
            self._ledger.forget(key)
            return
        resource, status = parse(item)
        if isinstance(resource, str):
            self._ledger.withdraw(key)
            await self._refuse(item, status, resource)
            return
        uid = str(resource.metadata.uid)
        if resource.metadata.deletion_timestamp:
            self._ledger.withdraw(key)
            self._settler.forget(uid)
            self._poller.leave_all(key)
            return
        settled: Settled | None = None
        hold: Hold | None = None
        if not is_finished(status):
            decided = await self._settler.settle(resource)
            if isinstance(decided, Waiting):
                hold = decided.hold
                if decided.place:
                    self._wait(decided.place, key)
            else:
                settled, hold = decided, departure(resource, decided)
                resource = as_settled(resource, settled)
                if settled.caution and not status.stages:
                    self._recorder.warn(item, "TeacherTied", settled.caution)
        graph = settled.graph if settled else Graph("", ())
        observed = await self._observer.observe(resource, status, graph, settled, key)
        now = self._now()
        # From here to `seen` nothing else runs: what is free now is free when it is taken.
        slots = settled.runtime.limits.max_parallel_stages if settled else None
        turns = self._turns(key, settled) if settled else None
        observed = _with_wanted(observed, status, turns) if turns else observed
        after, actions = reconcile(
            resource, graph, status, observed, now, slots=slots, turns=turns, hold=hold, policy=self._policy
        )
        if settled:
            after = after.model_copy(update={"runtime": settled.runtime_status})
        self._ledger.seen(key, after, {child.stage for child in observed.alive()})
        if after != status:
            item = await self._write(item, after)
            self._recorder.record(item, status, after, observed.children)
            for line in journal.lines(status, after, observed.children, now):
                child = child_name(resource, str(line["stage"]), int(str(line["attempt"])))
                text = " ".join(f"{name}={value}" for name, value in line.items() if value not in (None, ""))
                log.info("%s", text, extra={"object": "/".join(key), "fields": {**line, "child": child}})
            self._metrics.changed(key, status, after)
        for action in actions:
            await self._act(action, resource, settled, item, key)
        if is_finished(after):
            self._settler.forget(uid)
        delay = next_look(resource, after, now, self._policy)
        if delay is not None:
            self._queue.add_after(key, delay.total_seconds())
        if settled and any(stage.waiting_since for stage in after.stages):
            self._queue.add_after(key, max(PLACE_LOOK_S, self._ledger.asking(_runtime_of(key, settled))))
        self._metrics.reconciled(time.monotonic() - started)

    def _turns(self, key: Key, settled: Settled) -> Turns | None:
        return self._ledger.turns(key, _runtime_of(key, settled), settled.runtime.limits)

    async def _write(self, item: dict[str, Any], status: JobStatus) -> dict[str, Any]:
        """The status, on the condition that the resource is still the one that was looked at."""
        metadata = item["metadata"]
        body = {
            "apiVersion": API_VERSION,
            "kind": item["kind"],
            "metadata": {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")},
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        try:
            written = await self._cluster.apply(body, "/status")
        except NotFound:
            self._store.drop(item["kind"], item)
            raise
        self._store.put(item["kind"], written)
        # The watch tells nothing new of it.
        self.changed((item["kind"], metadata["namespace"], metadata["name"]))
        return written

    async def _act(
        self, action: Action, resource: Resource, settled: Settled | None, item: dict[str, Any], key: Key
    ) -> None:
        match action:
            case StartStage(stage, attempt):
                assert settled is not None
                await self._starter.start(resource, settled, stage, attempt, key)
            case StopStage(stage, attempt):
                await self._starter.stop(resource, stage, attempt)
            case DeleteResource():
                metadata = item["metadata"]
                wanted = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
                await self._cluster.delete(item["kind"], metadata["namespace"], metadata["name"], wanted)

    async def _refuse(self, item: dict[str, Any], status: JobStatus, problem: str) -> None:
        """A resource that its schema took, but the models do not: an older or newer version of the CRD."""
        hold = Hold("InvalidSpec", problem)
        if status.summary.reason != hold.reason:
            log.error("%s %s/%s: %s", item["kind"], item["metadata"]["namespace"], item["metadata"]["name"], problem)
            summary = status.summary.model_copy(update={"reason": hold.reason})
            after = status.model_copy(update={"summary": summary})
            self._recorder.warn(item, hold.reason, problem)
            await self._write(item, after)


def _runtime_of(key: Key, settled: Settled) -> Place:
    return runtime_place(key, settled.runtime_status.kind, settled.runtime_status.name)


def _with_wanted(observed: Observed, status: JobStatus, turns: Turns) -> Observed:
    """With children marked that find no room, while others wait for their places."""
    roomless = [child for child in observed.children if child.state == "pending" and child.reason in ROOMLESS]
    active = {stage.name for stage in status.stages if stage.state in ACTIVE}
    if not roomless or not turns.wanted(len(active.union(child.stage for child in observed.alive()))):
        return observed
    children = (replace(child, wanted=child in roomless) for child in observed.children)
    return replace(observed, children=tuple(children))


def parse(item: dict[str, Any]) -> tuple[Resource | str, JobStatus]:
    """The resource, or what is wrong with it, and its status."""
    status = JobStatus.model_validate(item.get("status") or {})
    wanted = {name: item[name] for name in ("kind", "metadata", "spec") if name in item}
    try:
        return MODELS[item["kind"]].model_validate_json(json.dumps(wanted), strict=True), status
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}", status
