"""What is there for one look: Jobs and pods as the watches told them, read live where that decides something."""

import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from kubedistill_api.graph import Graph, Resource
from kubedistill_api.observed import Child, Observed
from kubedistill_api.stage import StageResult
from kubedistill_api.status import DONE, JobStatus
from kubedistill_operator import observe, rivals
from kubedistill_operator.children import storage_root
from kubedistill_operator.cluster import Cluster
from kubedistill_operator.lost import Loss, has_ended, is_suspect, loss
from kubedistill_operator.names import JOB_NAME_LABEL, STAGE_LABEL, child_name
from kubedistill_operator.nodes import Nodes
from kubedistill_operator.poller import Poller, Target
from kubedistill_operator.settle import Place, Settled
from kubedistill_operator.store import Key, Store
from kubedistill_operator.templates import PORT
from kubedistill_operator.workqueue import WorkQueue

TROUBLE_AFTER_S = 5.0
"""A Job without all of its pods is asked for the reason after so long, and as often."""
REFUSED_AGAIN_S = 30.0
RIVAL_LOOK_S = 30.0
"""Another resource's Job that is waited for is looked at so often."""
TROUBLE_SHARE = 0.1
"""Of the time, at most, the API server is asked for such reasons: for each it reads all Events of the namespace, which
took nearly all of its time where a thousand Jobs waited for their pods."""
NODE_LOOK_S = 15.0
"""A pod that does not end is looked at so often."""


class Observer:
    """Observes for looks; `wait` has a resource looked at again when something changes."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        queue: WorkQueue[Key],
        poller: Poller,
        wait: Callable[[Place, Key], None],
        now: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._queue = queue
        self._poller = poller
        self._wait = wait
        self._now = now
        self._nodes = Nodes(cluster)
        self._troubles: dict[str, tuple[float, str]] = {}
        """What keeps a child from having pods, by its name, and when that was asked for."""
        self._may_ask = 0.0

    def refused(self, name: str, why: str) -> None:
        """A child could not be made as it is, by a quota, a policy or the schema."""
        self._troubles[name] = (time.monotonic(), why)

    def made(self, name: str) -> None:
        """A child was made."""
        self._troubles.pop(name, None)

    async def observe(
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
            losses = await self.losses(pods, key)
            child = observe.child(job, pods, digests.get(stage, ""), self._poller.progress(name), trouble, losses)
            if child.state in ("succeeded", "failed") and _is_news(status, child) and not observe.have_ended(pods):
                # The watch of pods is behind that of Jobs, and how a pod ended decides what to do.
                pods = await self.pods(job["metadata"]["namespace"], f"{JOB_NAME_LABEL}={name}")
                child = observe.child(job, pods, digests.get(stage, ""), None, losses=await self.losses(pods, key))
            children.append(child)
            self._follow(child, name, pods, key)
            ended = child.state in ("succeeded", "failed")
            if ended and (result := observe.result(pods)):
                results[result.digest] = result
        children += self._waiting(resource, status, graph, children, key)
        root = storage_root(settled.runtime, resource.metadata.namespace) if settled else ""
        return Observed(tuple(children), results, root=root)

    async def pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """Pods, read live."""
        pods, _ = await self._cluster.list_all("Pod", namespace, labelSelector=selector)
        for pod in pods:
            self._store.put("Pod", pod)
        return pods

    async def losses(self, pods: list[dict[str, Any]], key: Key) -> list[Loss]:
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
            if other := self.rival(namespace, stage.digest, uid):
                self._wait(("Job", namespace, other[0]["metadata"]["name"]), key)
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

    def rival(self, namespace: str, digest: str, uid: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
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
        began = time.monotonic()
        if age.total_seconds() > TROUBLE_AFTER_S and began - asked > TROUBLE_AFTER_S and began >= self._may_ask:
            self._may_ask = math.inf
            try:
                trouble = await self._complaint(job)
            finally:
                self._may_ask = time.monotonic() + (time.monotonic() - began) / TROUBLE_SHARE
            self._troubles[name] = (time.monotonic(), trouble)
        self._queue.add_after(key, TROUBLE_AFTER_S + 1)
        return trouble

    async def _complaint(self, job: dict[str, Any]) -> str:
        """The newest Event of the Job controller that it could not make a pod of a Job; empty where there is none."""
        selector = f"involvedObject.uid={job['metadata']['uid']},reason=FailedCreate"
        events, _ = await self._cluster.list_all("Event", job["metadata"]["namespace"], fieldSelector=selector)
        found = [(str(e.get("lastTimestamp") or e.get("eventTime")), str(e.get("message"))) for e in events]
        return max(found, default=("", ""))[1]


def _is_news(status: JobStatus, child: Child) -> bool:
    """Whether the child's end has not been taken into account yet."""
    for stage in status.stages:
        if stage.name == child.stage:
            return stage.state not in (*DONE, "Failed") and child.attempt >= stage.attempt
    return True
