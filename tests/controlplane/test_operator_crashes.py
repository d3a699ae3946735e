"""The operator dies after every single write, sees the world late, meets a second one, and an API server that balks."""

import asyncio
import json
import random
import re
from typing import Any

import aiohttp
import pytest

from kubedistill_operator.app import App
from kubedistill_operator.cluster import Cluster, Unavailable
from kubedistill_operator.names import ATTEMPT_LABEL, STAGE_LABEL
from kubedistill_operator.settings import Settings
from tests.cluster.controlplane import ControlPlane
from tests.controlplane.operator_case import Case, in_namespace, job, runtime

Object = dict[str, Any]

AT_ONCE = 4
CHANGING = frozenset(
    ("digest", "reportUri", "started", "finished", "startTime", "completionTime", "activeSince", "activeSeconds")
) | {"lastTransitionTime"}
BACKGROUND = ("/events", "/leases")


class Cut(BaseException):
    """The process died."""


class MortalCluster(Cluster):
    """Dies right after the n-th write; events and the Lease are written in the background and do not count."""

    dies_after: int | None = None
    counted = 0

    async def _request(self, method: str, target: str, query: Any = None, body: Any = None) -> Object:
        if self.dies_after is not None and self.counted >= self.dies_after:
            raise Cut
        answer = await super()._request(method, target, query, body)
        if method != "GET" and not any(kind in target for kind in BACKGROUND):
            self.counted += 1
            if self.counted == self.dies_after:
                raise Cut
        return answer


class LateApp(App):
    """Hears of everything late, by a random number of events, but in order for each kind."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        super().__init__(cluster, settings)
        self._random = random.Random(settings.identity)
        self._late: dict[str, asyncio.Queue[tuple[str | None, Object]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def observed(self, kind: str, type_: str | None, item: Object) -> None:
        if kind not in self._late:
            self._late[kind] = asyncio.Queue()
            self._tasks.append(asyncio.create_task(self._tell(kind)))
        self._late[kind].put_nowait((type_, item))

    async def _tell(self, kind: str) -> None:
        while True:
            type_, item = await self._late[kind].get()
            if self._random.random() < 0.3:
                await asyncio.sleep(self._random.uniform(0, 0.8))
            super().observed(kind, type_, item)


def timeless(value: Any) -> Any:
    """Without moments, and without digests and what is named by them: the report's is made of the namespace too."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in CHANGING}
    return [timeless(item) for item in value] if isinstance(value, list) else value


async def end_of(case: Case) -> Object:
    """What is to be the same in the end: the status, and every child."""
    done = await case.finished()
    children = sorted(
        (item["metadata"]["labels"][STAGE_LABEL], item["metadata"]["labels"][ATTEMPT_LABEL])
        for item in await case.all("Job")
    )
    text = json.dumps(timeless(done["status"])).replace(case.namespace, "NAMESPACE")
    status = json.loads(re.sub(r"/report-[0-9a-f]{16}/", "/report/", text))
    return {"children": children} | status


async def mortal(case: Case, dies_after: int | None) -> MortalCluster:
    made = await MortalCluster.connect(case.kubeconfig)
    assert isinstance(made, MortalCluster)
    made.dies_after = dies_after
    return made


async def undisturbed(case: Case) -> tuple[Object, int]:
    """The end, and how many writes it took."""
    cluster = await mortal(case, None)
    async with case.operator(cluster):
        return await end_of(case), cluster.counted


@pytest.mark.slow
async def test_killed_after_any_write_it_ends_the_same(control_plane: ControlPlane) -> None:
    expected, writes = await in_namespace(str(control_plane.kubeconfig), undisturbed)
    assert len(expected["children"]) == 7
    assert writes > 20
    gate = asyncio.Semaphore(AT_ONCE)

    async def killed_after(n: int) -> str | None:
        async def run(case: Case) -> str | None:
            async with case.operator(await mortal(case, n), identity="the-one") as first:
                # The run may take a write less than the undisturbed one, when two changes are seen at once.
                ended = asyncio.create_task(end_of(case))
                await asyncio.wait({first, ended}, return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
            async with case.operator(identity="the-one"):
                end = await end_of(case)
            return None if end == expected else f"after write {n}: {end}\nexpected: {expected}"

        async with gate:
            return await in_namespace(str(control_plane.kubeconfig), run)

    different = list(filter(None, await asyncio.gather(*map(killed_after, range(1, writes + 1)))))
    assert not different, "\n".join(different)


async def test_whatever_it_sees_late_it_ends_the_same(control_plane: ControlPlane) -> None:
    expected, _ = await in_namespace(str(control_plane.kubeconfig), undisturbed)

    async def late(case: Case) -> Object:
        async with case.operator(app=LateApp, identity=case.namespace):
            return await end_of(case)

    for end in await asyncio.gather(*(in_namespace(str(control_plane.kubeconfig), late) for _ in range(AT_ONCE))):
        for part, value in expected.items():
            assert end[part] == value, part


async def test_of_two_operators_one_acts_and_the_other_takes_over(case: Case) -> None:
    case.player.hold("train")
    await case.create(runtime(), job())
    async with case.operator(identity="second-starts-later") as first:
        await case.until("DistillationJob", "demo", lambda s: s.get("summary", {}).get("stage") == "train")
        other = await mortal(case, None)
        async with case.operator(other, identity="another"):
            case.player.let_go("train")
            await case.until("DistillationJob", "demo", lambda s: s.get("phase") == "Complete")
            assert other.counted == 0
            await case.create(job("late"))
            first.cancel()
            await asyncio.wait({first})
            await case.finished("late")
            assert other.counted > 0


class BalkingCluster(Cluster):
    """An API server that answers 429, 500 and nothing now and then, also after it did what was asked."""

    chance = random.Random(0)

    async def _once(self, method: str, url: str, body: Any) -> Object:
        draw = self.chance.random()
        if draw < 0.1:
            error = Unavailable(429, "TooManyRequests", "later")
            error.retry_after = 0.1
            raise error
        if draw < 0.15:
            raise Unavailable(500, "InternalError", "etcdserver: leader changed")
        answer = await super()._once(method, url, body)
        if draw < 0.2:
            raise aiohttp.ServerDisconnectedError("after the deed")
        return answer


async def test_an_api_server_that_balks_costs_time_only(control_plane: ControlPlane) -> None:
    expected, _ = await in_namespace(str(control_plane.kubeconfig), undisturbed)

    async def balked(case: Case) -> Object:
        async with case.operator(await BalkingCluster.connect(case.kubeconfig)):
            return await end_of(case)

    assert await in_namespace(str(control_plane.kubeconfig), balked) == expected


async def test_an_api_server_that_restarts_costs_time_only(control_plane: ControlPlane, case: Case) -> None:
    case.player.hold("train")
    await case.create(runtime(), job())
    async with case.operator() as operator:
        await case.until("DistillationJob", "demo", lambda s: s.get("summary", {}).get("stage") == "train")
        await asyncio.to_thread(control_plane.restart_apiserver)
        case.player.let_go("train")
        done = await case.finished()
        assert not operator.done()
    assert done["status"]["phase"] == "Complete"
