"""A runtime whose places two namespaces share, on a real API server and Job controller."""

import re
import uuid
from collections.abc import AsyncIterator

import pytest

from kubedistill_api.base import API_VERSION
from tests.cluster.controlplane import ControlPlane
from tests.controlplane.operator_case import Case, condition, job, runtime, stage
from tests.controlplane.operator_case import case as case_of
from tests.controlplane.player import stage_of

Object = dict

PLACES = 2


@pytest.fixture
async def other(control_plane: ControlPlane) -> AsyncIterator[Case]:
    """A second namespace."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    control_plane.kubectl("create", "namespace", name)
    async with case_of(str(control_plane.kubeconfig), name) as one:
        yield one
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
async def shared(case: Case) -> AsyncIterator[str]:
    """A runtime of the cluster with two places."""
    name = f"shared-{case.namespace}"
    spec = runtime(limits={"maxStages": PLACES})["spec"]
    item = {"apiVersion": API_VERSION, "kind": "ClusterDistillationRuntime", "metadata": {"name": name}, "spec": spec}
    await case.cluster.create(item)
    yield name
    await case.cluster._request("DELETE", f"apis/{API_VERSION}/clusterdistillationruntimes/{name}", {}, {})


def of(name: str, runtime_name: str) -> Object:
    """A job that shares no work with another."""
    ref = {"kind": "ClusterDistillationRuntime", "name": runtime_name}
    return job(name, runtimeRef=ref, questions=[{"uri": f"pvc://data/{name}.jsonl"}])


async def test_a_free_place_goes_to_the_namespace_with_the_fewest_and_never_are_there_more(
    case: Case, other: Case, shared: str
) -> None:
    held = {"first", "second", "third", "late"}
    living: set[str] = set()
    most = 0

    def played(one: Case, pod: Object) -> Object | None:
        nonlocal most
        name = pod["metadata"]["name"]
        status = one.player.succeed(pod)
        is_held = stage_of(pod) == "prepare" and pod["metadata"]["labels"]["app.kubernetes.io/instance"] in held
        if is_held and status and status["phase"] == "Succeeded":
            status = None
        if pod["status"].get("phase") not in ("Succeeded", "Failed"):
            living.add(name)
        most = max(most, len(living))
        if status and status["phase"] == "Succeeded":
            living.discard(name)
        return status

    for one in (case, other):
        one.player.script = lambda pod, one=one: played(one, pod)

    async def is_running(one: Case, name: str) -> None:
        await one.until("DistillationJob", name, lambda s: stage(s, "prepare").get("state") == "Running")

    async def waits(one: Case, name: str) -> Object:
        return await one.until(
            "DistillationJob", name, lambda s: stage(s, "prepare").get("reason") == "WaitingForPlace"
        )

    both = (case.namespace, other.namespace)
    async with case.operator(namespaces=both):
        for name in ("first", "second"):
            await case.create(of(name, shared))
            await is_running(case, name)
        await case.create(of("third", shared))
        third = await waits(case, "third")
        said = f"waits for one of {PLACES} places on ClusterDistillationRuntime {shared}"
        assert condition(third, "Progressing")["message"] == f"prepare: {said}; it is next"
        await other.create(of("late", shared))
        assert condition(await waits(other, "late"), "Progressing")["message"].endswith("; it is next")
    async with case.operator(namespaces=both):
        held.discard("first")
        await is_running(other, "late")
        now = stage((await case.get("DistillationJob", "third"))["status"], "prepare")
        before = stage(third["status"], "prepare")
        assert (now["state"], now["waitingSince"]) == ("Waiting", before["waitingSince"])
        held.clear()
        for one, name in ((case, "first"), (case, "second"), (case, "third"), (other, "late")):
            done = await one.finished(name)
            assert done["status"]["phase"] == "Complete"
    assert most == PLACES


async def test_a_stage_that_finds_no_node_gives_its_place_to_who_waits_for_one(
    case: Case, other: Case, shared: str
) -> None:
    stuck = of("stuck", shared)
    await case.cluster.apply(
        {
            "apiVersion": API_VERSION,
            "kind": "ClusterDistillationRuntime",
            "metadata": {"name": shared},
            "spec": runtime(limits={"maxStages": 1})["spec"],
        }
    )
    # The scheduler itself complains of its pod, since there are no nodes.
    case.player.script = lambda pod: None
    async with case.operator(namespaces=(case.namespace, other.namespace), pending_seconds=3):
        await case.create(stuck)
        alone = await case.until("DistillationJob", "stuck", lambda s: stage(s, "prepare").get("reason"))
        assert stage(alone["status"], "prepare")["reason"] == "Unschedulable"
        assert re.search(r"; so since \d\d:\d\d:\d\d UTC$", stage(alone["status"], "prepare")["message"])
        await other.create(of("late", shared))
        gave = await case.until("DistillationJob", "stuck", lambda s: stage(s, "prepare").get("retryAfter"))
        prepare = stage(gave["status"], "prepare")
        assert (prepare["reason"], prepare["attempt"], prepare.get("failures", 0)) == ("Unschedulable", 1, 0)
        assert "gave its place on the runtime to others" in prepare["message"]
        await other.until("DistillationJob", "late", lambda s: stage(s, "prepare").get("state") == "Succeeded")
