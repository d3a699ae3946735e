"""Starts and stops the children of resources."""

import contextlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from kubedistill_api.graph import Resource
from kubedistill_operator import observe
from kubedistill_operator.children import is_of_a_job, owned_by_job, stage_children
from kubedistill_operator.cluster import ApiError, Cluster, Conflict, NotFound
from kubedistill_operator.lost import has_ended
from kubedistill_operator.names import ATTEMPT_LABEL, JOB_NAME_LABEL, SELECTOR, STAGE_LABEL, UID_LABEL, child_name
from kubedistill_operator.observer import Observer
from kubedistill_operator.settle import Settled
from kubedistill_operator.store import Key, Store
from kubedistill_operator.templates import BadTemplate
from kubedistill_operator.workqueue import WorkQueue

log = logging.getLogger(__name__)

SERVICE_KEPT_S = 60.0
"""A Service without a Job may be of one that is being made."""


class Starter:
    """Starts and stops stages; either may be repeated."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        queue: WorkQueue[Key],
        observer: Observer,
        now: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._queue = queue
        self._observer = observer
        self._now = now
        self._claims: dict[tuple[str, str], str] = {}
        """Work that is being started this moment, by namespace and digest: the uid of who starts it."""

    async def start(self, resource: Resource, settled: Settled, stage: str, attempt: int, key: Key) -> None:
        namespace, uid = resource.metadata.namespace, str(resource.metadata.uid)
        digest = settled.graph[stage].digest
        claim = (namespace, digest)
        if self._observer.rival(namespace, digest, uid) or self._claims.get(claim, uid) != uid:
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
            self._observer.made(job["metadata"]["name"])
        except (BadTemplate, ApiError) as error:
            if isinstance(error, ApiError) and error.status not in (400, 403, 422):
                raise
            # Refused as it is, by a quota, a policy or the schema: shown, and tried again after a while.
            self._observer.refused(child_name(resource, stage, attempt), str(error))
            self._queue.add(key)
        finally:
            self._claims.pop(claim, None)

    async def stop(self, resource: Resource, stage: str, attempt: int) -> None:
        name, namespace = child_name(resource, stage, attempt), resource.metadata.namespace
        job = self._store.get("Job", namespace, name)
        if job:
            await self._cluster.delete("Job", namespace, name, {"uid": job["metadata"]["uid"]})

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
        pods = await self._observer.pods(namespace, selector) if earlier else []
        for job in earlier:
            name = job["metadata"]["name"]
            own = [pod for pod in pods if pod["metadata"]["labels"].get(JOB_NAME_LABEL) == name and not has_ended(pod)]
            for pod in own:
                losses = await self._observer.losses([pod], key)
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
