"""The operator put together: store, queue, workers, lists, Lease, and the pages for people and probes."""

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from kubedistill_api.retries import RetryPolicy
from kubedistill_operator.cluster import ApiError, Cluster, Conflict, NotFound, Unavailable
from kubedistill_operator.controller import Controller
from kubedistill_operator.kinds import RESOURCES, RUNTIMES
from kubedistill_operator.lease import Lease
from kubedistill_operator.metrics import Metrics
from kubedistill_operator.names import SELECTOR
from kubedistill_operator.poller import Poller
from kubedistill_operator.recorder import Recorder
from kubedistill_operator.settings import Settings
from kubedistill_operator.signs import CYCLE_S, Signs
from kubedistill_operator.store import CHILDREN, Key, Store, owner_uid
from kubedistill_operator.workqueue import WorkQueue

log = logging.getLogger(__name__)


class App:
    """One operator. `observed` is called by the watches, `run` does everything else."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self.settings = settings
        self.store = Store()
        self.queue: WorkQueue[Key] = WorkQueue()
        self.metrics = Metrics(self.store, self.queue, cluster)
        self.port = 0
        """Of the pages, once they are served."""
        self._cluster = cluster
        self._recorder = Recorder(cluster)
        self._poller = Poller(self.queue.add, settings.progress_seconds)
        policy = RetryPolicy(pending_s=settings.pending_seconds)
        self._controller = Controller(
            cluster, self.store, self.queue, self._recorder, self._poller, self.metrics, policy=policy
        )
        self._lease = Lease(cluster, settings.lease_namespace, settings.lease_name, settings.identity, time.monotonic)
        watches = dict.fromkeys((*RUNTIMES, *RESOURCES, *CHILDREN, "Lease"), len(settings.watched_namespaces) or 1)
        self.signs = Signs(watches | {"ClusterDistillationRuntime": 1})
        self._acts = False

    def observed(self, kind: str, type_: str | None, item: dict[str, Any]) -> None:
        """A watch tells of an object: `type_` is DELETED, or anything else for one that is there."""
        self.signs.heard()
        if kind == "Lease":
            return
        metadata = item["metadata"]
        if self._is_foreign(metadata.get("namespace")):
            return
        if type_ == "DELETED":
            self.store.drop(kind, item)
        elif not self.store.put(kind, item):
            return
        self._look(kind, item)
        self._controller.changed((kind, metadata.get("namespace", ""), metadata["name"]))

    def _is_foreign(self, namespace: str | None) -> bool:
        """Whether it is of a namespace that is watched for its Lease only."""
        served = self.settings.namespaces
        return bool(served and namespace and namespace not in served)

    def _look(self, kind: str, item: dict[str, Any]) -> None:
        """Queues the resource that an object is, or belongs to."""
        metadata = item["metadata"]
        if kind in RESOURCES:
            # What a person asks for is answered before what pods tell: a thousand new jobs do not wait for each other's
            # stages, and `suspend` and `delete` not for theirs.
            asked = metadata.get("generation") != (item.get("status") or {}).get("observedGeneration")
            self.queue.add(Key(kind, metadata["namespace"], metadata["name"]), ahead=asked)
        elif (uid := owner_uid(kind, item)) and (key := self.store.key(uid)):
            self.queue.add(key)

    async def run(self) -> None:
        """Serves the pages, waits for the Lease, then reconciles until it is cancelled. Raises LeaseLost."""
        runner = await self._serve()
        try:
            await self._lease.acquire()
            log.info("this operator acts now: %s", self.settings.identity)
            async with asyncio.TaskGroup() as tasks:
                # First: the list of everything may take longer than the Lease lasts.
                tasks.create_task(self._lease.keep())
                await self.resync()
                self._controller.take_stock()
                for key in self.store.resources():
                    self.queue.add(key)
                self._acts = True
                tasks.create_task(self._resync_for_ever())
                tasks.create_task(self._recorder.run())
                tasks.create_task(self._poller.run())
                for _ in range(self.settings.workers):
                    tasks.create_task(self.queue.work(self._controller.look, self._failed))
        finally:
            self._acts = False
            await asyncio.shield(self._lease.release())
            await runner.cleanup()

    async def resync(self) -> None:
        """Lists everything: the resources first, so that children are never older than what their owners say."""
        for kind in (*RUNTIMES, *RESOURCES, *CHILDREN):
            query = {"labelSelector": SELECTOR} if kind in CHILDREN else {}
            for namespace in self._scopes(kind):
                before = set(self.store.resources())
                differed = await self._list(kind, namespace, query)
                if differed and self._acts:
                    log.info("the watch of %s had missed %d objects", kind, differed)
                    for key in before | set(self.store.resources()):
                        self.queue.add(key)
        for namespace in self._scopes("Service"):
            await self._controller.adopt_services(namespace)

    async def _list(self, kind: str, namespace: str | None, query: dict[str, str]) -> int:
        """Takes a complete list into the store, holding one page of it at a time. Returns how many objects differed."""
        listed: set[tuple[str, str]] = set()
        differed, listed_at = 0, 0
        async for page, version in self._cluster.pages(kind, namespace, **query):
            listed_at = version
            listed |= {(item["metadata"].get("namespace", ""), item["metadata"]["name"]) for item in page}
            differed += sum(self.store.put(kind, item) for item in page)
        return differed + self.store.retain(kind, namespace, listed, listed_at)

    def _scopes(self, kind: str) -> Iterator[str | None]:
        if kind == "ClusterDistillationRuntime" or not self.settings.namespaces:
            yield None
        else:
            yield from self.settings.namespaces

    async def _resync_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.settings.resync_seconds)
            try:
                await self.resync()
            except ApiError as error:
                log.warning("the list of everything failed: %s", error)

    def _failed(self, key: Key, error: Exception) -> None:
        """A look that failed. It comes again by itself."""
        where = {"object": "/".join(key)}
        if isinstance(error, Conflict | NotFound):
            # It changed while it was looked at, or is gone; the watch has told by the next look.
            log.debug("%s changed meanwhile: %s", "/".join(key), error, extra=where)
            return
        self._controller.failed(key)
        self.metrics.failed()
        if isinstance(error, Unavailable):
            log.warning("%s: the API server does not answer: %s", "/".join(key), error, extra=where)
        else:
            log.error("%s: %s", "/".join(key), error, extra=where, exc_info=error)

    async def _serve(self) -> web.AppRunner:
        pages = web.Application()
        pages.router.add_get("/healthz", self._healthz)
        pages.router.add_get("/readyz", self._readyz)
        pages.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(pages, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "0.0.0.0", self.settings.port)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    async def _healthz(self, request: web.Request) -> web.Response:
        """Whether the watches live. Of all of them something is heard all the time, since the Lease is watched too, and
        whoever holds it renews it every few seconds; of each one at least that it begins anew."""
        newest = self.signs.newest()
        if newest > self.settings.silence_seconds:
            return web.Response(status=500, text=f"the watches have told nothing for {newest:.0f} s\n")
        if silent := self.signs.silent(CYCLE_S + self.settings.silence_seconds):
            told = ", ".join(f"{watch} for {seconds:.0f} s" for watch, seconds in sorted(silent.items()))
            return web.Response(status=500, text=f"watches give no sign of life: {told}\n")
        return web.Response(text=f"the watches told something {newest:.1f} s ago\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        """Ready once it could act: holding the Lease is not asked for, because the other one has it."""
        return web.Response(text="acting\n" if self._acts else "waiting for the lease\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
