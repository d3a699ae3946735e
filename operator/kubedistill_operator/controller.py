"""One look at one resource: read what is known, decide, write the status, act."""

import contextlib
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
from kubedistill_api.observed import Action, Cause, Child, DeleteResource, Hold, Observed, StartStage, StopStage
from kubedistill_api.reconcile import ACTIVE, next_look, reconcile
from kubedistill_api.retries import RetryPolicy
from kubedistill_api.stage import StageResult
from kubedistill_api.status import DONE, JobStatus
from kubedistill_api.turns import Turns
from kubedistill_operator import journal, observe, rivals
from kubedistill_operator.children import is_of_a_job, owned_by_job, stage_children, storage_root
from kubedistill_operator.cluster import ApiError, Cluster, Conflict, NotFound
from kubedistill_operator.kinds import MODELS, RUNTIMES
from kubedistill_operator.lost import Loss, has_ended, is_suspect, loss
from kubedistill_operator.metrics import Metrics
from kubedistill_operator.names import ATTEMPT_LABEL, JOB_NAME_LABEL, SELECTOR, STAGE_LABEL, UID_LABEL, child_name
from kubedistill_operator.nodes import Nodes
from kubedistill_operator.places import Ledger, runtime_place
from kubedistill_operator.poller import Poller, Target
from kubedistill_operator.recorder import Recorder
from kubedistill_operator.settle import Place, Settled, Settler, Waiting, as_settled, departure
from kubedistill_operator.store import Key, Store
from kubedistill_operator.templates import PORT, BadTemplate
from kubedistill_operator.workqueue import WorkQueue

log = logging.getLogger(__name__)

TROUBLE_AFTER_S = 5.0
"""A Job without all of its pods is asked for the reason after so long, and as often."""
REFUSED_AGAIN_S = 30.0
SERVICE_KEPT_S = 60.0
"""A Service without a Job may be of one that is being made."""
RIVAL_LOOK_S = 30.0
"""Another resource's Job that is waited for is looked at so often."""
NODE_LOOK_S = 15.0
"""A pod that does not end is looked at so often."""
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
        self._nodes = Nodes(cluster)
        self._ledger = Ledger(store)
        self._waiters: dict[Place, set[Key]] = {}
        self._claims: dict[tuple[str, str], str] = {}
        """Work that is being started this moment, by namespace and digest: the uid of who starts it."""
        self._troubles: dict[str, tuple[float, str]] = {}
        """What keeps a child from having pods, by its name, and when that was asked for."""

    def changed(self, place: Place) -> None:
        """Something that resources may wait for changed."""
        for key in self._waiters.pop(place, ()):
            self._queue.add(key)
        if place[0] in RUNTIMES:
            self._ledger.changed(place)
            self._wake()

    def take_stock(self) -> None:
        """Before the first look, once everything is listed."""
        self._ledger.take_stock()

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
                    self._waiters.setdefault(decided.place, set()).add(key)
            else:
                settled, hold = decided, departure(resource, decided)
                resource = as_settled(resource, settled)
                if settled.caution and not status.stages:
                    self._recorder.warn(item, "TeacherTied", settled.caution)
        graph = settled.graph if settled else Graph("", ())
        observed = await self._observe(resource, status, graph, settled, key)
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

    async def _observe(
        self, resource: Resource, status: JobStatus, graph: Graph, settled: Settled | None, key: Key
    ) -> Observed:
        uid = str(resource.metadata.uid)
        digests = {node.name: node.digest for node in graph.nodes}
        pods_by_job = self._store.pods_by_job(uid)
        children: list[Child] = []
        results: dict[str, StageResult] = {}
        for job in list(self._store.children(uid, "Job")):
            name, stage = job["metadata"]["name"], job["metadata"]["labels"][STAGE_LABEL]
            pods = pods_by_job.get(name, [])
            trouble = await self._trouble(job, pods, key)
            losses = await self._losses(pods, key)
            child = observe.child(job, pods, digests.get(stage, ""), self._poller.progress(name), trouble, losses)
            if child.state in ("succeeded", "failed") and _is_news(status, child) and not observe.have_ended(pods):
                # The watch of pods is behind that of Jobs, and how a pod ended decides what to do.
                pods = await self._pods(job["metadata"]["namespace"], f"{JOB_NAME_LABEL}={name}")
                child = observe.child(job, pods, digests.get(stage, ""), None, losses=await self._losses(pods, key))
            children.append(child)
            self._follow(child, name, pods, key)
            ended = child.state in ("succeeded", "failed")
            if ended and (result := observe.result(pods)):
                results[result.digest] = result
        children += self._waiting(resource, status, graph, children, key)
        root = storage_root(settled.runtime, resource.metadata.namespace) if settled else ""
        return Observed(tuple(children), results, root=root)

    async def _pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """Pods, read live."""
        pods, _ = await self._cluster.list_all("Pod", namespace, labelSelector=selector)
        for pod in pods:
            self._store.put("Pod", pod)
        return pods

    async def _losses(self, pods: list[dict[str, Any]], key: Key) -> list[Loss]:
        """Of the pods that should have ended or whose nodes are away, the lost ones first."""
        found: list[Loss] = []
        for pod in pods:
            one = None
            if is_suspect(pod, self._now()):
                one = loss(pod, await self._nodes.get(pod["spec"]["nodeName"]), self._now())
                found += [one] if one else []
            waited_for = pod["metadata"].get("deletionTimestamp") and not has_ended(pod)
            if not one.lost if one else waited_for:
                # Nobody tells when its time is over.
                self._queue.add_after(key, NODE_LOOK_S)
        return sorted(found, key=lambda one: not one.lost)

    def _follow(self, child: Child, name: str, pods: list[dict[str, Any]], key: Key) -> None:
        """Asks a running child for its progress, and no other."""
        first = observe.first_pod(pods)
        address = first["status"].get("podIP") if first else None
        if child.state == "running" and address:
            self._poller.follow(name, Target(f"http://{address}:{PORT}/progress", key))
        else:
            self._poller.leave(name)

    def _waiting(
        self, resource: Resource, status: JobStatus, graph: Graph, children: list[Child], key: Key
    ) -> list[Child]:
        """Stages about to start that have no child yet because another resource does their work, or because the API
        server refused it."""
        namespace, uid = resource.metadata.namespace, str(resource.metadata.uid)
        present = {(child.stage, child.attempt) for child in children}
        found = []
        for stage in status.stages:
            if stage.state != "Starting" or (stage.name, stage.attempt) in present:
                continue
            name = child_name(resource, stage.name, stage.attempt)
            asked, trouble = self._troubles.get(name, (0.0, ""))
            if other := self._rival(namespace, stage.digest, uid):
                self._waiters.setdefault(("Job", namespace, other[0]["metadata"]["name"]), set()).add(key)
                self._queue.add_after(key, RIVAL_LOOK_S)
                reason, message = "WaitingForOtherJob", rivals.told(*other)
            elif trouble and time.monotonic() - asked < REFUSED_AGAIN_S:
                quota = "exceeded quota" in trouble
                reason, message = ("QuotaExceeded" if quota else "JobRejected"), trouble
                self._queue.add_after(key, REFUSED_AGAIN_S)
            else:
                continue
            found.append(Child(stage.name, stage.attempt, stage.digest, "pending", reason=reason, message=message))
        return found

    def _rival(self, namespace: str, digest: str, uid: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """Another resource's Job that is at this work, or is waited for yet, with its pods."""
        now = self._now()
        for job, pods in self._store.doing(namespace, digest, uid):
            until = rivals.waited_until(job, pods)
            if until is None or now < until:
                return job, pods
        return None

    async def _trouble(self, job: dict[str, Any], pods: list[dict[str, Any]], key: Key) -> str:
        """The newest complaint of the Job controller about a Job that should have more pods than it has."""
        status, name = job.get("status", {}), job["metadata"]["name"]
        complete = len(pods) >= int(job["spec"].get("parallelism", 1))
        if (
            complete
            or status.get("conditions")
            or job["spec"].get("suspend")
            or job["metadata"].get("deletionTimestamp")
        ):
            self._troubles.pop(name, None)
            return ""
        asked, trouble = self._troubles.get(name, (0.0, ""))
        age = self._now() - datetime.fromisoformat(job["metadata"]["creationTimestamp"])
        if age.total_seconds() > TROUBLE_AFTER_S and time.monotonic() - asked > TROUBLE_AFTER_S:
            selector = f"involvedObject.uid={job['metadata']['uid']},reason=FailedCreate"
            events, _ = await self._cluster.list_all("Event", job["metadata"]["namespace"], fieldSelector=selector)
            found = [(str(e.get("lastTimestamp") or e.get("eventTime")), str(e.get("message"))) for e in events]
            trouble = max(found, default=("", ""))[1]
            self._troubles[name] = (time.monotonic(), trouble)
        self._queue.add_after(key, TROUBLE_AFTER_S + 1)
        return trouble

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
        return self._store.get(item["kind"], metadata["namespace"], metadata["name"]) or item

    async def _act(
        self, action: Action, resource: Resource, settled: Settled | None, item: dict[str, Any], key: Key
    ) -> None:
        match action:
            case StartStage(stage, attempt):
                assert settled is not None
                await self._start(resource, settled, stage, attempt, key)
            case StopStage(stage, attempt):
                await self._stop(resource, stage, attempt)
            case DeleteResource():
                metadata = item["metadata"]
                wanted = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
                await self._cluster.delete(item["kind"], metadata["namespace"], metadata["name"], wanted)

    async def _start(self, resource: Resource, settled: Settled, stage: str, attempt: int, key: Key) -> None:
        namespace, uid = resource.metadata.namespace, str(resource.metadata.uid)
        digest = settled.graph[stage].digest
        claim = (namespace, digest)
        if self._rival(namespace, digest, uid) or self._claims.get(claim, uid) != uid:
            self._queue.add_after(key, 1.0)
            return
        self._claims[claim] = uid
        try:
            if attempt and (other := await self._other_lives(namespace, uid, stage, attempt, key)):
                log.debug("%s %s of %s waits: %s", stage, attempt, "/".join(key), other)
                self._queue.add_after(key, 1.0)
                return
            job, service = stage_children(resource, settled.graph, settled.runtime, stage, attempt)
            there = await self._create(service, uid) if service else None
            started = await self._create(job, uid)
            self._store.put("Job", started)
            if there and not is_of_a_job(there):
                await self._cluster.replace(owned_by_job(there, started))
            self._troubles.pop(job["metadata"]["name"], None)
        except (BadTemplate, ApiError) as error:
            if isinstance(error, ApiError) and error.status not in (400, 403, 422):
                raise
            # Refused as it is, by a quota, a policy or the schema: shown, and tried again after a while.
            self._troubles[child_name(resource, stage, attempt)] = (time.monotonic(), str(error))
            self._queue.add(key)
        finally:
            self._claims.pop(claim, None)

    async def adopt_services(self, namespace: str | None) -> None:
        """Gives Services to their Jobs where an operator died before it could, and removes those that have none."""
        services, _ = await self._cluster.list_all("Service", namespace, labelSelector=SELECTOR)
        for service in services:
            metadata = service["metadata"]
            age = self._now() - datetime.fromisoformat(metadata["creationTimestamp"])
            if is_of_a_job(service) or STAGE_LABEL not in metadata["labels"] or age.total_seconds() < SERVICE_KEPT_S:
                continue
            job = self._store.get("Job", metadata["namespace"], metadata["name"])
            with contextlib.suppress(Conflict, NotFound):
                if job:
                    await self._cluster.replace(owned_by_job(service, job))
                else:
                    wanted = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
                    await self._cluster.delete("Service", metadata["namespace"], metadata["name"], wanted)

    async def _other_lives(self, namespace: str, uid: str, stage: str, attempt: int, key: Key) -> str:
        """Who of the stage lives, upon a live look, so that this attempt must not begin: an earlier attempt, or a
        later one that exists already. Empty when nobody does; pods that are lost count for nobody."""
        selector = f"{UID_LABEL}={uid},{STAGE_LABEL}={stage}"
        earlier: list[dict[str, Any]] = []
        for job in (await self._cluster.list_all("Job", namespace, labelSelector=selector))[0]:
            self._store.put("Job", job)
            number = int(job["metadata"]["labels"][ATTEMPT_LABEL])
            if number > attempt:
                return f"attempt {number} exists already"
            if number < attempt and observe.child(job, (), "", None).alive:
                earlier.append(job)
        pods = await self._pods(namespace, selector) if earlier else []
        for job in earlier:
            name = job["metadata"]["name"]
            own = [pod for pod in pods if pod["metadata"]["labels"].get(JOB_NAME_LABEL) == name and not has_ended(pod)]
            for pod in own:
                losses = await self._losses([pod], key)
                if not losses or not losses[0].lost:
                    return losses[0].message if losses else f"pod {pod['metadata']['name']} has not ended"
            if not own and not job["metadata"].get("deletionTimestamp"):
                return f"Job {name} has not ended"
        return ""

    async def _create(self, manifest: dict[str, Any], uid: str) -> dict[str, Any]:
        """The object, made now or found. Raises Conflict where somebody else's has its name."""
        try:
            return await self._cluster.create(manifest)
        except Conflict:
            metadata = manifest["metadata"]
            there = await self._cluster.get(manifest["kind"], metadata["namespace"], metadata["name"])
            if there["metadata"].get("labels", {}).get(UID_LABEL) != uid:
                raise
            return there

    async def _stop(self, resource: Resource, stage: str, attempt: int) -> None:
        name, namespace = child_name(resource, stage, attempt), resource.metadata.namespace
        job = self._store.get("Job", namespace, name)
        if job:
            await self._cluster.delete("Job", namespace, name, {"uid": job["metadata"]["uid"]})

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


def _is_news(status: JobStatus, child: Child) -> bool:
    """Whether the child's end has not been taken into account yet."""
    for stage in status.stages:
        if stage.name == child.stage:
            return stage.state not in (*DONE, "Failed") and child.attempt >= stage.attempt
    return True


def parse(item: dict[str, Any]) -> tuple[Resource | str, JobStatus]:
    """The resource, or what is wrong with it, and its status."""
    status = JobStatus.model_validate(item.get("status") or {})
    wanted = {name: item[name] for name in ("kind", "metadata", "spec") if name in item}
    try:
        return MODELS[item["kind"]].model_validate_json(json.dumps(wanted), strict=True), status
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}", status
