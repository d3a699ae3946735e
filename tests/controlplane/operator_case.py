"""An operator, a namespace and the nodes' player around one test."""

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kubedistill_api.base import API_VERSION
from kubedistill_operator.__main__ import operate
from kubedistill_operator.app import App
from kubedistill_operator.cluster import Cluster, NotFound
from kubedistill_operator.kinds import RESOURCES
from kubedistill_operator.names import UID_LABEL
from kubedistill_operator.settings import Settings
from tests.cluster.processes import PATIENCE_S
from tests.controlplane.player import Player, playing

Object = dict[str, Any]
Result = TypeVar("Result")

LOOK_S = 0.1

RUNTIME: Object = {
    "image": "registry.invalid/kubedistill:test",
    "storage": {"uri": "pvc://data/kubedistill"},
}


def runtime(name: str = "runtime", **spec: object) -> Object:
    """A DistillationRuntime."""
    return {
        "apiVersion": API_VERSION,
        "kind": "DistillationRuntime",
        "metadata": {"name": name},
        "spec": RUNTIME | spec,
    }


def job(name: str = "demo", **spec: object) -> Object:
    """A DistillationJob of seven stages."""
    own: Object = {
        "runtimeRef": {"kind": "DistillationRuntime", "name": "runtime"},
        "questions": [{"uri": "embedded://questions/train.jsonl"}],
        "teacher": {"model": {"uri": "embedded://models/careless-teacher"}, "sampling": {"maxTokens": 128}},
        "student": {"uri": "embedded://models/student"},
        "curation": {"difficulty": {"maxPassRate": 0.5, "maxTokens": 128}},
        "evaluation": {"benchmarks": [{"name": "b", "uri": "embedded://questions/benchmark.jsonl"}], "samples": 2},
    }
    return {"apiVersion": API_VERSION, "kind": "DistillationJob", "metadata": {"name": name}, "spec": own | spec}


def probe(name: str = "probe", **spec: object) -> Object:
    """A TeacherProbe of three candidates, whose last one wins with the player's figures."""
    own = job()["spec"]
    own.pop("teacher")
    own["candidates"] = [
        {"name": name, "model": {"uri": f"embedded://models/{name}"}} for name in ("careless-teacher", "a", "terse")
    ]
    own["sampling"] = {"samples": 1, "maxTokens": 128}
    return {"apiVersion": API_VERSION, "kind": "TeacherProbe", "metadata": {"name": name}, "spec": own | spec}


def study(name: str = "study", **spec: object) -> Object:
    """A DistillationStudy of three variants, each trained twice."""
    own = job()["spec"]
    own = {
        "runtimeRef": own.pop("runtimeRef"),
        "job": own,
        "ladder": ["all", "right", "right-hard"],
        "reference": "right",
        "seeds": [0, 1],
    }
    return {"apiVersion": API_VERSION, "kind": "DistillationStudy", "metadata": {"name": name}, "spec": own | spec}


@dataclass
class Case:
    """One namespace of a control plane with what plays in it."""

    cluster: Cluster
    namespace: str
    player: Player
    kubeconfig: str

    async def create(self, *items: Object) -> None:
        for item in items:
            await self.cluster.create({**item, "metadata": {**item["metadata"], "namespace": self.namespace}})

    async def get(self, kind: str, name: str) -> Object:
        return await self.cluster.get(kind, self.namespace, name)

    async def all(self, kind: str) -> list[Object]:
        return (await self.cluster.list_all(kind, self.namespace))[0]

    async def patch(self, kind: str, name: str, change: Object) -> None:
        """A change of the spec, as a tenant makes it."""
        item = await self.get(kind, name)
        item["spec"] |= change
        await self.cluster.replace({**item, "kind": kind})

    async def until(self, kind: str, name: str, is_so: Callable[[Object], bool]) -> Object:
        """The resource once it is so. Fails with its status when it takes too long."""
        end = time.monotonic() + PATIENCE_S
        item: Object = {}
        while time.monotonic() < end:
            with contextlib.suppress(NotFound):
                item = await self.get(kind, name)
                if is_so(item.get("status") or {}):
                    return item
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"{kind} {name} did not get there: {item.get('status')}")

    async def until_jobs(self, are_so: Callable[[list[Object]], bool]) -> None:
        """Returns once the child Jobs are so."""
        end = time.monotonic() + PATIENCE_S
        while not are_so(found := await self.all("Job")):
            assert time.monotonic() < end, [(item["metadata"]["name"], item.get("status")) for item in found]
            await asyncio.sleep(LOOK_S)

    async def finished(self, name: str = "demo", kind: str = "DistillationJob") -> Object:
        """The resource at its end."""
        return await self.until(kind, name, lambda status: status.get("phase") in ("Complete", "Failed"))

    async def events(self, kind: str, last: str) -> list[Object]:
        """The events about resources of a kind once one has the reason `last`. They are written after the status."""
        end = time.monotonic() + PATIENCE_S
        while True:
            found = [event for event in await self.all("Event") if event["involvedObject"]["kind"] == kind]
            if any(event["reason"] == last for event in found):
                return found
            assert time.monotonic() < end, [event["reason"] for event in found]
            await asyncio.sleep(LOOK_S)

    async def gone(self, kind: str) -> None:
        """Returns once no object of the kind is left; of the cluster's own kinds, none that the operator made."""
        end = time.monotonic() + PATIENCE_S
        ours = kind in RESOURCES
        while left := [i for i in await self.all(kind) if ours or UID_LABEL in i["metadata"].get("labels", {})]:
            assert time.monotonic() < end, [item["metadata"]["name"] for item in left]
            await asyncio.sleep(LOOK_S)

    @contextlib.asynccontextmanager
    async def operator(
        self, cluster: Cluster | None = None, app: type[App] = App, **settings: Any
    ) -> AsyncIterator["asyncio.Task[int]"]:
        """An operator for this namespace, with its own connection unless it is given one."""
        os.environ["KUBECONFIG"] = self.kubeconfig
        stop = asyncio.Event()
        own = cluster or await Cluster.connect(self.kubeconfig)
        chosen: dict[str, Any] = {
            "namespaces": (self.namespace,),
            "port": 0,
            "lease_namespace": self.namespace,
            "kubeconfig": self.kubeconfig,
            "identity": f"operator-{id(stop)}",
            "progress_seconds": 0.5,
        }
        task = asyncio.create_task(operate(app(own, Settings(**(chosen | settings))), stop))
        try:
            yield task
        finally:
            stop.set()
            await asyncio.wait({task})
            await own.close()


@contextlib.asynccontextmanager
async def case(kubeconfig: str, namespace: str) -> AsyncIterator[Case]:
    """A case in a namespace that is there."""
    cluster = await Cluster.connect(kubeconfig)
    try:
        async with playing(cluster, namespace) as player:
            yield Case(cluster, namespace, player, kubeconfig)
    finally:
        await cluster.close()


async def in_namespace(kubeconfig: str, run: Callable[[Case], Awaitable[Result]]) -> Result:
    """Runs a case with a runtime and a job in a namespace of its own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    async with case(kubeconfig, name) as one:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await one.cluster._request("POST", "api/v1/namespaces", {}, namespace)
        try:
            await one.create(runtime(), job())
            return await run(one)
        finally:
            await one.cluster._request("DELETE", f"api/v1/namespaces/{name}", {}, {})


def stages(item: Object) -> dict[str, Object]:
    """The stages of a status by name."""
    return {stage["name"]: stage for stage in item["status"]["stages"]}


def stage(status: Object, name: str) -> Object:
    """A stage of a status; empty where it is not there yet."""
    return next((s for s in status.get("stages", ()) if s["name"] == name), {})


def condition(item: Object, kind: str) -> Object:
    """A condition of a status; empty where it is not there."""
    return next((c for c in item["status"]["conditions"] if c["type"] == kind), {})
