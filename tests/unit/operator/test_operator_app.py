"""The operator put together: whom it serves, and what its pages say."""

import asyncio
import weakref
from collections import Counter
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from kubedistill_operator.app import App
from kubedistill_operator.cluster import ApiError, Cluster, Conflict, Unavailable
from kubedistill_operator.settings import Settings
from kubedistill_operator.store import Key

Object = dict[str, Any]
Pages = AsyncIterator[tuple[list[Object], int]]


class Idle(Cluster):
    """An API server with nothing on it, and a Lease that somebody else holds or nobody."""

    def __init__(self, holder: str = "") -> None:
        self.writes: Counter[str] = Counter()
        self.lease = {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": holder}}

    async def get(self, kind: str, namespace: str | None, name: str) -> Object:
        return self.lease

    async def replace(self, item: Object) -> Object:
        self.lease = item
        return item

    async def pages(self, kind: str, namespace: str | None = None, **query: str) -> Pages:
        yield [], 1


def job(namespace: str) -> Object:
    metadata = {"name": "demo", "namespace": namespace, "uid": f"uid-{namespace}", "resourceVersion": "1"}
    return {"kind": "DistillationJob", "metadata": metadata, "spec": {}}


def test_what_lies_in_the_namespace_of_the_lease_alone_is_not_served() -> None:
    app = App(Idle(), Settings(namespaces=("team-a",), lease_namespace="system"))
    app.observed("DistillationJob", "ADDED", job("system"))
    app.observed("DistillationJob", "ADDED", job("team-a"))
    app.observed("ClusterDistillationRuntime", "ADDED", {"metadata": {"name": "default", "uid": "u"}})
    assert app.store.resources() == [Key("DistillationJob", "team-a", "demo")]
    assert app.store.get("ClusterDistillationRuntime", "", "default")


def test_what_a_person_asks_for_is_looked_at_before_what_pods_tell() -> None:
    app = App(Idle(), Settings())
    for n, (name, status) in enumerate((("seen", {"observedGeneration": 1}), ("asked", {}), ("new", {})), 1):
        item = job("team-a") | {"status": status}
        item["metadata"] |= {"name": name, "uid": name, "resourceVersion": str(n), "generation": 1}
        app.observed("DistillationJob", "ADDED", item)
    looked: list[str] = []

    async def some() -> None:
        done = asyncio.Event()

        async def look(key: Key) -> None:
            looked.append(key.name)
            if key.name == "seen":
                done.set()

        worker = asyncio.create_task(app.queue.work(look, lambda key, error: None))
        await done.wait()
        worker.cancel()

    asyncio.run(some())
    assert looked == ["asked", "new", "seen"]


async def pages(app: App) -> SimpleNamespace:
    """Status and text of each page, once they are served."""
    while not app.port:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    found = {}
    async with aiohttp.ClientSession() as session:
        for name in ("healthz", "readyz", "metrics"):
            async with session.get(f"http://127.0.0.1:{app.port}/{name}") as answer:
                found[name] = SimpleNamespace(status=answer.status, text=await answer.text())
    return SimpleNamespace(**found)


async def test_the_pages_tell_an_operator_that_acts_from_one_that_waits() -> None:
    for holder, told in (("", "acting"), ("another", "waiting for the lease")):
        app = App(Idle(holder), Settings(port=0, identity="one"))
        running = asyncio.create_task(app.run())
        shown = await pages(app)
        while holder == "" and told not in shown.readyz.text:
            shown = await pages(app)
        assert (shown.healthz.status, shown.readyz.status) == (200, 200)
        assert told in shown.readyz.text
        assert "kubedistill_queue_depth 0.0" in shown.metrics.text
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_watches_that_are_silent_for_too_long_fail_the_probe() -> None:
    app = App(Idle("another"), Settings(port=0, identity="one", silence_seconds=0.05))
    running = asyncio.create_task(app.run())
    await asyncio.sleep(0.2)
    assert (await pages(app)).healthz.status == 500
    app.settings = Settings(port=0, silence_seconds=60)
    app.observed("Lease", "MODIFIED", {})
    assert (await pages(app)).healthz.status == 200
    running.cancel()


@pytest.mark.parametrize(
    ("error", "counted"),
    [(Conflict(409, "", ""), 0), (Unavailable(503, "", "no"), 1), (ApiError(403, "Forbidden", "no"), 1)],
)
def test_looks_that_fail_are_counted_but_not_those_that_met_a_change(error: ApiError, counted: int) -> None:
    app = App(Idle(), Settings())
    app._failed(Key("DistillationJob", "team-a", "demo"), error)
    assert app.metrics.registry.get_sample_value("kubedistill_reconcile_errors_total") == counted


class Weighed(dict):  # type: ignore[type-arg]
    """An object as the API server gives it; unlike a plain one it can be told when it is let go."""

    __hash__ = object.__hash__  # type: ignore[assignment]


class Paged(Idle):
    """An API server that gives one Job a page, and looks whether the pages before are held."""

    def __init__(self, pages: int) -> None:
        super().__init__()
        self.left = pages
        self.given: weakref.WeakSet[Weighed] = weakref.WeakSet()
        self.most = 0

    async def _request(self, method: str, target: str, query: Any = None, body: Any = None) -> Object:
        if not target.endswith("/jobs"):
            return {"items": [], "metadata": {"resourceVersion": "9"}}
        self.left -= 1
        one = Weighed(metadata={**job("team-a")["metadata"], "name": f"j{self.left}", "uid": f"{self.left}"}, spec={})
        self.given.add(one)
        self.most = max(self.most, len(self.given))
        more = {"continue": "more"} if self.left else {}
        return {"items": [one], "metadata": {"resourceVersion": "9", **more}}

    pages = Cluster.pages  # type: ignore[assignment]


async def test_a_list_of_everything_is_held_page_by_page() -> None:
    cluster = Paged(5)
    app = App(cluster, Settings())
    old = {**job("team-a")["metadata"], "name": "old", "uid": "old", "labels": {}}
    app.observed("Job", "ADDED", {"metadata": old, "spec": {}})
    await app.resync()
    assert cluster.left == 0
    assert cluster.most <= 2, "pages that were taken in are held"
    assert app.store.get("Job", "team-a", "j0")
    assert app.store.get("Job", "team-a", "old") is None
