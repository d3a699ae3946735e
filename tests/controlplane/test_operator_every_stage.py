"""Whatever a person or the cluster does to a job, in each of its stages."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from kubedistill_operator import main
from kubedistill_operator.app import App
from kubedistill_operator.cluster import Cluster, NotFound
from kubedistill_operator.settings import Settings
from tests.cluster.controlplane import ControlPlane
from tests.controlplane.operator_case import Case, in_namespace, job, runtime, stage, stages
from tests.controlplane.player import ended, running, stage_of

STAGES = ("prepare", "baseline", "sample", "curate", "train", "evaluate", "report")
SOON_S, LATE_S = 10, 60
CHILDREN = ("Job", "ConfigMap", "Pod", "Service")


def has_ended(child: dict) -> bool:
    return bool(child["status"].get("completionTime"))


async def is_running(case: Case, name: str) -> None:
    await case.until("DistillationJob", "demo", lambda status: stage(status, name).get("state") == "Running")


async def is_done(case: Case, name: str) -> None:
    await case.until("DistillationJob", "demo", lambda status: stage(status, name).get("state") == "Succeeded")


async def test_suspended_in_every_stage_it_has_no_pods_and_goes_on_where_it_was(case: Case) -> None:
    for name in STAGES:
        case.player.hold(name)
    await case.create(runtime(), job())
    async with case.operator():
        for before, name in zip(("", *STAGES), STAGES, strict=False):
            if before:
                await is_done(case, before)
            await is_running(case, name)
            if name == "baseline":
                await is_running(case, "sample")
            await case.patch("DistillationJob", "demo", {"suspend": True})
            await case.until("DistillationJob", "demo", lambda status: status.get("phase") == "Suspended")
            await case.until_jobs(lambda jobs: all(map(has_ended, jobs)))
            await case.patch("DistillationJob", "demo", {"suspend": False})
            await is_running(case, name)
            case.player.let_go(name)
        done = await case.finished()
    assert done["status"]["phase"] == "Complete"
    attempts = {name: one["attempt"] for name, one in stages(done).items()}
    assert attempts == dict.fromkeys(STAGES, 1) | {"sample": 2}, "it was suspended beside baseline, and alone"


async def test_stopped_in_every_stage_the_operator_goes_on_from_what_is_there(case: Case) -> None:
    for name in STAGES:
        case.player.hold(name)
    await case.create(runtime(), job())
    for name in STAGES:
        async with case.operator():
            await is_running(case, name)
        case.player.let_go(name)
        await case.until_jobs(lambda jobs, own=name: any(stage_of(j) == own and has_ended(j) for j in jobs))
    async with case.operator():
        done = await case.finished()
    assert done["status"]["phase"] == "Complete"
    assert [one["attempt"] for one in stages(done).values()] == [0] * len(STAGES)


async def test_deleted_in_any_stage_nothing_is_left(control_plane: ControlPlane) -> None:
    def deleted_in(name: str):
        async def run(case: Case) -> None:
            case.player.hold(name)
            async with case.operator():
                await is_running(case, name)
                await case.cluster.delete("DistillationJob", case.namespace, "demo", {})
                for kind in ("DistillationJob", *CHILDREN):
                    await case.gone(kind)

        return run

    await asyncio.gather(*(in_namespace(str(control_plane.kubeconfig), deleted_in(name)) for name in STAGES))


async def test_a_namespace_is_deleted_under_a_job_and_the_others_go_on(case: Case, control_plane: ControlPlane) -> None:
    made: list[App] = []

    class Noted(App):
        def __init__(self, cluster: Cluster, settings: Settings) -> None:
            super().__init__(cluster, settings)
            made.append(self)

    async def doomed(other: Case) -> None:
        other.player.hold("train")
        await is_running(other, "train")
        target = f"api/v1/namespaces/{other.namespace}"
        await other.cluster._request("DELETE", target, {}, {})
        with contextlib.suppress(NotFound):
            while True:
                await other.cluster._request("GET", target)
                await asyncio.sleep(0.1)
        # It is deleted once more after the run.
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other.namespace}}
        await other.cluster._request("POST", "api/v1/namespaces", {}, namespace)

    await case.create(runtime(), job())
    case.player.hold("train")
    async with case.operator(app=Noted, namespaces=(), lease_name="everywhere") as operator:
        await asyncio.wait_for(in_namespace(str(control_plane.kubeconfig), doomed), 120)
        case.player.let_go("train")
        done = await case.finished()
        assert not operator.done()
    assert done["status"]["phase"] == "Complete"
    assert made[0].metrics.registry.get_sample_value("kubedistill_reconcile_errors_total") == 0


async def test_watches_that_end_again_and_again_cost_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[App] = []

    class Noted(App):
        def __init__(self, cluster: Cluster, settings: Settings) -> None:
            super().__init__(cluster, settings)
            made.append(self)

    monkeypatch.setattr(main, "SERVER_TIMEOUT_S", 1)
    await case.create(runtime(), job())
    async with case.operator(app=Noted, namespaces=(case.namespace, "default")):
        done = await case.finished()
        # Each begins anew in each namespace, also where nothing changes.
        while quiet := made[0].signs.silent(made[0].signs.newest() + SOON_S):
            assert max(quiet.values()) < LATE_S, quiet
            await asyncio.sleep(0.1)
    assert done["status"]["phase"] == "Complete"
    assert [one["attempt"] for one in stages(done).values()] == [0] * len(STAGES)


async def test_a_clock_that_jumps_makes_nothing_wait_for_ever(case: Case) -> None:
    offset = timedelta()

    class Jumping(App):
        def __init__(self, cluster: Cluster, settings: Settings) -> None:
            super().__init__(cluster, settings)
            self._controller._now = lambda: datetime.now(UTC) + offset

    def script(pod: dict) -> dict | None:
        nonlocal offset
        name, phase = stage_of(pod), pod["status"].get("phase")
        offset = timedelta(days=1 if name in ("sample", "curate") else -1 if name == "evaluate" else 0)
        first = pod["metadata"]["labels"]["kubedistill.io/attempt"] == "0"
        if name != "curate" or not first or phase in ("Succeeded", "Failed"):
            return case.player.succeed(pod)
        return ended(pod, 1, "boom") if phase == "Running" else running(pod)

    case.player.script = script
    await case.create(runtime(), job())
    async with case.operator(app=Jumping):
        # It failed a day ahead; back in the present it need not wait for that day.
        await case.until("DistillationJob", "demo", lambda status: stage(status, "curate").get("failures") == 1)
        offset = timedelta()
        done = await case.finished()
    assert done["status"]["phase"] == "Complete"
    assert stages(done)["curate"]["attempt"] == 1
