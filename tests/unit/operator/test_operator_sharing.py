"""Many workers, a slow and failing API server, and few places: never are there more Jobs than places, and all end."""

import asyncio
import copy
import random
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from kubedistill_api.base import API_VERSION
from kubedistill_api.stage import StageResult
from kubedistill_operator import controller
from kubedistill_operator.cluster import Conflict, NotFound, Unavailable
from kubedistill_operator.controller import Controller
from kubedistill_operator.names import DIGEST_LABEL, INDEX_LABEL, JOB_NAME_LABEL, STAGE_LABEL
from kubedistill_operator.recorder import Recorder
from kubedistill_operator.store import Key, Store, owner_uid
from kubedistill_operator.workqueue import WorkQueue

Object = dict[str, Any]

PLACES = 3
NAMESPACES = ("a", "b", "c")
WORKERS = 8
REFUSALS = 0.02
PAUSE_S = 0.004
LIMIT_S = 300


class World:
    """An API server, what its watches tell, and nodes on which every stage ends well."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.store = Store()
        self.queue: WorkQueue[Key] = WorkQueue()
        self.most = 0
        self.started = 0
        self._all_taken = asyncio.Event()
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._version = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, kind: str, item: Object) -> Object:
        self._version += 1
        metadata = item["metadata"]
        place = (kind, metadata.get("namespace", ""), metadata["name"])
        fresh = {"resourceVersion": str(self._version), "uid": metadata.get("uid") or f"uid-{self._version}"}
        fresh["creationTimestamp"] = metadata.get("creationTimestamp") or datetime.now(UTC).isoformat()
        self._objects[place] = {**copy.deepcopy(item), "kind": kind, "metadata": metadata | fresh}
        return copy.deepcopy(self._objects[place])

    def told(self, kind: str, item: Object) -> None:
        """What a watch does."""
        self.store.put(kind, item)
        uid = owner_uid(kind, item)
        if uid and (key := self.store.key(uid)):
            self.queue.add(key)

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        await self._pause()
        if (kind, namespace, name) not in self._objects:
            raise NotFound(404, "NotFound", name)
        return copy.deepcopy(self._objects[kind, namespace, name])

    async def list_all(self, kind: str, namespace: str, **query: str) -> tuple[list[Object], int]:
        await self._pause()
        wanted = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if part)
        items = [item for place, item in self._objects.items() if place[:2] == (kind, namespace)]
        found = [item for item in items if wanted.items() <= item["metadata"].get("labels", {}).items()]
        return copy.deepcopy(found), self._version

    async def create(self, item: Object) -> Object:
        await self._pause()
        metadata = item["metadata"]
        if (item["kind"], metadata["namespace"], metadata["name"]) in self._objects:
            raise Conflict(409, "AlreadyExists", metadata["name"])
        made = self.put(item["kind"], item)
        if item["kind"] == "Job":
            living = [o for o in self._objects.values() if o["kind"] == "Job" and not o.get("status")]
            self.most = max(self.most, len(living))
            self.started += 1
            if self.most >= PLACES:
                self._all_taken.set()
            task = asyncio.create_task(self._end(made))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return made

    async def apply(self, body: Object, subresource: str) -> Object:
        await self._pause()
        metadata = body["metadata"]
        known = self._objects[body["kind"], metadata["namespace"], metadata["name"]]
        if known["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise Conflict(409, "Conflict", metadata["name"])
        return self.put(body["kind"], known | {"status": body["status"]})

    async def _pause(self) -> None:
        await asyncio.sleep(self.rng.random() * PAUSE_S)
        if self.rng.random() < REFUSALS:
            raise Unavailable(503, "ServiceUnavailable", "away")

    async def _end(self, job: Object) -> None:
        """The stage's pod ends well, and then its Job; the watches tell of both a little later. None ends before all
        places were taken once: they are so at any speed of this machine."""
        await self._all_taken.wait()
        await asyncio.sleep(self.rng.random() * 3 * PAUSE_S)
        template, name, now = job["spec"]["template"]["metadata"], job["metadata"]["name"], datetime.now(UTC)
        stage, digest = template["labels"][STAGE_LABEL], template["annotations"][DIGEST_LABEL]
        made = StageResult(stage=stage, kind=stage, digest=digest, started=now, finished=now)
        ended = {"terminated": {"exitCode": 0, "message": made.termination_message(), "finishedAt": now.isoformat()}}
        labels = template["labels"] | {JOB_NAME_LABEL: name, INDEX_LABEL: "0"}
        metadata = {"name": f"{name}-0", "namespace": job["metadata"]["namespace"], "labels": labels}
        status = {"phase": "Succeeded", "containerStatuses": [{"name": "stage", "state": ended}]}
        pod = self.put("Pod", {"metadata": metadata, "spec": {"nodeName": "n"}, "status": status})
        complete = {"type": "Complete", "status": "True"}
        job = self.put("Job", job | {"status": {"startTime": now.isoformat(), "conditions": [complete]}})
        await asyncio.sleep(self.rng.random() * 2 * PAUSE_S)
        self.told("Pod", pod)
        self.told("Job", job)


def item(namespace: str, name: str) -> Object:
    spec = {
        "runtimeRef": {"kind": "ClusterDistillationRuntime", "name": "shared"},
        "questions": [{"uri": f"pvc://data/{name}.jsonl"}],
        "teacher": {"model": {"uri": "hf://org/teacher"}},
        "student": {"uri": "hf://org/student"},
        "evaluation": {"benchmarks": [{"name": "b", "uri": "pvc://data/b.jsonl"}]},
    }
    metadata = {"name": name, "namespace": namespace, "generation": 1}
    return {"apiVersion": API_VERSION, "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("seed", range(3))
async def test_never_more_than_the_places_and_all_end(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whose turn it is must be told: nobody finds out by looking again after a while.
    monkeypatch.setattr(controller, "PLACE_LOOK_S", 3600.0)
    world = World(seed)
    spec = {"image": "i", "storage": {"uri": "pvc://data/k"}, "limits": {"maxStages": PLACES}}
    runtime = world.put("ClusterDistillationRuntime", {"metadata": {"name": "shared"}, "spec": spec})
    world.told("ClusterDistillationRuntime", runtime)
    keys = [Key("DistillationJob", name, f"{name}-{n}") for name in NAMESPACES for n in range(6 if name == "a" else 2)]
    ignored = SimpleNamespace(follow=lambda *_: None, leave=lambda *_: None, leave_all=lambda *_: None)
    ignored.progress = lambda *_: None
    metrics = SimpleNamespace(changed=lambda *_: None, reconciled=lambda *_: None)
    one = Controller(world, world.store, world.queue, Recorder(world), ignored, metrics)  # type: ignore[arg-type]
    for key in keys:
        world.told("DistillationJob", world.put("DistillationJob", item(key.namespace, key.name)))
    one.take_stock()
    for key in keys:
        world.queue.add(key)

    def phases() -> set[str]:
        return {(world.store.get(*key) or {}).get("status", {}).get("phase", "") for key in keys}

    workers = [
        asyncio.create_task(world.queue.work(one.look, lambda key, error: one.failed(key))) for _ in range(WORKERS)
    ]
    async with asyncio.timeout(LIMIT_S):
        while phases() != {"Complete"}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)
    assert world.most == PLACES
    assert world.started == 7 * len(keys)
