"""Child Jobs that a queue admits, evicts and admits again, on a real API server and Job controller.

What Kueue does to a Job is played, write by write as its integration of batch/v1 Jobs does it (kueue.sigs.k8s.io,
"Run a Kubernetes Job"): it admits by `suspend: false` with what its flavor adds to the template, and evicts by
`suspend: true`, a start time that is taken back, and the template as it was.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from kubedistill_operator.cluster import ApiError, Conflict, path
from kubedistill_operator.names import INDEX_LABEL, PRIORITY_LABEL, QUEUE_LABEL
from tests.cluster.processes import PATIENCE_S
from tests.controlplane.operator_case import Case, condition, job, runtime, stage, stages
from tests.controlplane.player import at_work, stage_of

Object = dict

EVERY_S = 0.1
HELD_S = 6.0
"""How long a queue keeps what it has: longer than every deadline of these tests."""
DEADLINE_S = 3
WORKLOAD = "kueue.x-k8s.io/podset"


class Queue:
    """Kueue, as far as a Job sees it."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._templates: dict[str, Object] = {}
        self.closed: set[str] = set()
        """Stages that are not admitted."""

    async def run(self) -> None:
        """Admits what waits until it is cancelled."""
        while True:
            for one in await self._case.all("Job"):
                if one["spec"].get("suspend") and stage_of(one) not in self.closed:
                    await self.admit(one["metadata"]["name"], "h100")
            await asyncio.sleep(EVERY_S)

    async def admit(self, name: str, gpu: str) -> None:
        def admitted(one: Object) -> Object:
            assert one["metadata"]["labels"][QUEUE_LABEL] == "gpus"
            template = self._templates[name] = one["spec"]["template"]
            spec = template["spec"] | {
                "nodeSelector": {"gpu": gpu},
                "tolerations": [{"key": gpu, "operator": "Exists"}],
            }
            metadata = {**template["metadata"], "labels": {**template["metadata"]["labels"], WORKLOAD: gpu}}
            return {**one, "spec": one["spec"] | {"suspend": False, "template": {"metadata": metadata, "spec": spec}}}

        await self._edit(name, admitted)

    async def evict(self, name: str) -> None:
        await self._edit(name, lambda one: {**one, "spec": one["spec"] | {"suspend": True}})
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            await self._edit(name, lambda one: {**one, "status": one["status"] | {"startTime": None}}, "/status")
            try:
                await self._edit(name, lambda one: {**one, "spec": one["spec"] | {"template": self._templates[name]}})
                return
            except ApiError as error:
                if error.status != 422:
                    raise
                # The Job controller has not seen yet that it is suspended.
            await asyncio.sleep(EVERY_S)
        raise AssertionError(f"the template of Job {name} cannot be set back")

    async def _edit(self, name: str, change: Callable[[Object], Object], subresource: str = "") -> None:
        """The Job as changed, over who else writes it."""
        while True:
            one = await self._case.get("Job", name)
            with contextlib.suppress(Conflict):
                target = path("Job", self._case.namespace, name) + subresource
                await self._case.cluster._request("PUT", target, {}, change({**one, "kind": "Job"}))
                return


@contextlib.asynccontextmanager
async def queue_of(case: Case, *closed: str) -> AsyncIterator[Queue]:
    queue = Queue(case)
    queue.closed |= set(closed)
    async with at_work(queue.run()):
        yield queue


async def the_job(case: Case, name: str) -> Object:
    """The one Job of a stage."""
    (one,) = [item for item in await case.all("Job") if stage_of(item) == name]
    return one


def queued(status: Object) -> bool:
    return stage(status, "train").get("reason") == "Queued"


async def test_a_stage_that_its_queue_evicts_goes_on_when_it_is_admitted_again(case: Case) -> None:
    case.player.hold("train")
    own = job(activeDeadlineSeconds=60, backoffLimit=0)
    own["metadata"]["labels"] = {QUEUE_LABEL: "gpus", PRIORITY_LABEL: "high"}
    two = {"replicas": 2, "activeDeadlineSeconds": 30}
    await case.create(runtime(trainer=two, queueName="others"), own)
    async with case.operator(pending_seconds=DEADLINE_S), queue_of(case, "train") as queue:
        waits = await case.until("DistillationJob", "demo", queued)
        child = await the_job(case, "train")
        assert child["spec"]["suspend"] is True
        assert child["metadata"]["labels"][PRIORITY_LABEL] == "high"
        assert not [pod for pod in await case.all("Pod") if stage_of(pod) == "train"]
        assert "queue gpus" in condition(waits, "Progressing")["message"]

        await queue.admit(child["metadata"]["name"], "h100")
        await case.until("DistillationJob", "demo", lambda s: stage(s, "train").get("state") == "Running")
        pods = [pod for pod in await case.all("Pod") if stage_of(pod) == "train"]
        assert [(pod["spec"]["nodeSelector"], pod["metadata"]["labels"][WORKLOAD]) for pod in pods] == [
            ({"gpu": "h100"}, "h100")
        ] * 2

        await queue.evict(child["metadata"]["name"])
        await case.until("DistillationJob", "demo", queued)
        await case.until_jobs(lambda jobs: not any(j["status"].get("active") for j in jobs if stage_of(j) == "train"))
        await asyncio.sleep(HELD_S)
        held = await case.get("DistillationJob", "demo")
        train = stages(held)["train"]
        assert (train["state"], train["attempt"], train.get("failures", 0)) == ("Starting", 0, 0)
        assert train.get("metrics", {}) == {}

        held_script = case.player.script
        # One pod without the other: what counts from before the eviction would give its place back at once.
        case.player.script = lambda pod: (
            None if stage_of(pod) == "train" and pod["metadata"]["labels"][INDEX_LABEL] == "1" else held_script(pod)
        )
        await queue.admit(child["metadata"]["name"], "a100")
        await case.until("DistillationJob", "demo", lambda s: stage(s, "train").get("reason") not in ("Queued", None))
        case.player.script = held_script
        await case.until("DistillationJob", "demo", lambda s: stage(s, "train").get("state") == "Running")
        again = await the_job(case, "train")
        assert again["metadata"]["uid"] == child["metadata"]["uid"]
        assert again["spec"]["template"]["spec"]["nodeSelector"] == {"gpu": "a100"}
        case.player.let_go("train")
        done = await case.finished()
        events = await case.events("DistillationJob", "Complete")
    assert done["status"]["phase"] == "Complete"
    assert stages(done)["train"]["attempt"] == 0
    told = [e["reason"] for e in events if e["message"].startswith("train:")]
    assert [reason for reason in told if reason in ("EvictedByQueue", "StageRetry", "StageFailed")] == [
        "EvictedByQueue"
    ]
    assert told.count("StageRunning") == 2


async def test_what_a_queue_does_not_admit_waits_beyond_every_deadline(case: Case) -> None:
    deadlines = {"activeDeadlineSeconds": DEADLINE_S}
    await case.create(runtime(worker=deadlines, queueName="gpus"), job(**deadlines))
    async with case.operator(pending_seconds=1):
        await case.until("DistillationJob", "demo", lambda s: stage(s, "prepare").get("reason") == "Queued")
        await asyncio.sleep(HELD_S)
        waits = await case.get("DistillationJob", "demo")
        assert condition(waits, "Progressing")["reason"] == "Queued"
        assert waits["status"]["activeSeconds"] < DEADLINE_S
        async with queue_of(case):
            await case.until("DistillationJob", "demo", lambda s: stage(s, "prepare").get("state") == "Succeeded")
    assert stages(waits)["prepare"]["attempt"] == 0
