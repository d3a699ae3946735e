"""Stages of two pods, and nodes that are lost under one, on a real API server and Job controller."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from kubedistill_operator import lost, observer
from kubedistill_operator.names import ATTEMPT_LABEL, INDEX_LABEL
from tests.cluster.controlplane import ControlPlane
from tests.cluster.quota import enforce_quota
from tests.controlplane.operator_case import Case, condition, job, runtime, stage, stages
from tests.controlplane.player import ended, running, stage_of

Object = dict

TWO = {"sampler": {"replicas": 2}, "trainer": {"replicas": 2}}


async def children(case: Case, kind: str, name: str) -> list[Object]:
    return [item for item in await case.all(kind) if stage_of(item) == name]


@contextlib.asynccontextmanager
async def silent_node(case: Case) -> AsyncIterator[str]:
    """A node whose kubelet is away, until it is deleted."""
    name = f"silent-{case.namespace}"
    unreachable = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
    ready = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
    times = dict.fromkeys(("lastHeartbeatTime", "lastTransitionTime"), "2026-01-01T00:00:00Z")
    await case.cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "spec": {"taints": [unreachable]},
            "status": {"conditions": [ready | times]},
        }
    )
    case.player.lost.add(name)
    try:
        yield name
    finally:
        await case.cluster._request("DELETE", f"api/v1/nodes/{name}", {}, {})


async def bind(case: Case, pod: Object, node: str) -> None:
    """What the scheduler would do."""
    target = f"api/v1/namespaces/{case.namespace}/pods/{pod['metadata']['name']}/binding"
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]}}
    await case.cluster._request("POST", target, {}, {**binding, "target": {"kind": "Node", "name": node}})


async def test_a_stage_of_two_pods_has_a_service_that_goes_with_its_job(case: Case) -> None:
    case.player.hold("sample")
    await case.create(runtime(**TWO), job())
    async with case.operator():
        await case.until("DistillationJob", "demo", lambda s: stage(s, "sample").get("state") == "Running")
        (child,), (service,) = await children(case, "Job", "sample"), await children(case, "Service", "sample")
        pods = await children(case, "Pod", "sample")
        name = child["metadata"]["name"]
        assert sorted(pod["spec"]["hostname"] for pod in pods) == [f"{name}-0", f"{name}-1"]
        assert {pod["spec"]["subdomain"] for pod in pods} == {service["metadata"]["name"]}
        (owner,) = service["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Job", child["metadata"]["uid"])
        case.player.let_go("sample")
        done = await case.finished()
        assert done["status"]["phase"] == "Complete"
        for name in ("sample", "train"):
            (child,) = await children(case, "Job", name)
            await case.cluster.delete("Job", case.namespace, child["metadata"]["name"], {})
        await case.gone("Service")


async def test_index_0_decides_when_a_ray_stage_is_done(case: Case) -> None:
    def script(pod: Object) -> Object | None:
        if stage_of(pod) == "sample" and pod["metadata"]["labels"][INDEX_LABEL] == "1":
            return running(pod) if pod["status"]["phase"] == "Pending" else None
        return case.player.succeed(pod)

    case.player.script = script
    await case.create(runtime(**TWO), job())
    async with case.operator():
        done = await case.finished()
    assert done["status"]["phase"] == "Complete"
    assert stages(done)["sample"]["attempt"] == 0


async def test_of_two_pods_one_that_fails_ends_both_and_is_named(case: Case) -> None:
    def script(pod: Object) -> Object | None:
        labels = pod["metadata"]["labels"]
        if stage_of(pod) != "train" or labels[ATTEMPT_LABEL] != "0":
            return case.player.succeed(pod)
        if pod["status"]["phase"] != "Running":
            return running(pod) if pod["status"]["phase"] == "Pending" else None
        return ended(pod, 75, "the disk of pod 1 is away") if labels[INDEX_LABEL] == "1" else None

    case.player.script = script
    await case.create(runtime(**TWO), job())
    async with case.operator():
        retried = await case.until("DistillationJob", "demo", lambda s: stage(s, "train").get("retryAfter"))
        assert stages(retried)["train"]["reason"] == "TryAgain"
        assert "the disk of pod 1" in stages(retried)["train"]["message"]
        await case.until_jobs(
            lambda jobs: all(j["status"].get("active", 0) == 0 for j in jobs if stage_of(j) == "train")
        )


async def test_a_pod_of_a_lost_node_is_given_up_and_the_stage_goes_on_elsewhere(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLACK", "NODE_AWAY"):
        monkeypatch.setattr(lost, name, getattr(lost, name) / 30)
    monkeypatch.setattr(observer, "NODE_LOOK_S", 0.5)
    await case.create(runtime(**TWO), job(backoffLimit=0))
    case.player.hold("train")
    async with silent_node(case) as node, case.operator():
        held = case.player.script

        def script(pod: Object) -> Object | None:
            return None if stage_of(pod) == "train" and not pod["status"].get("podIP") and not bound else held(pod)

        bound = False
        case.player.script = script
        await case.until("DistillationJob", "demo", lambda s: stage(s, "train").get("state") == "Starting")
        await case.until_jobs(lambda jobs: any(j["status"].get("active") == 2 for j in jobs if stage_of(j) == "train"))
        (pod,) = [p for p in await children(case, "Pod", "train") if p["metadata"]["labels"][INDEX_LABEL] == "1"]
        target = f"api/v1/namespaces/{case.namespace}/pods/{pod['metadata']['name']}"
        await bind(case, pod, node)
        placed = await case.cluster._request("GET", target)
        await case.cluster._request("PUT", f"{target}/status", {}, {**placed, "status": running(placed)})
        bound = True
        await case.until("DistillationJob", "demo", lambda s: stage(s, "train").get("state") == "Running")
        # As the taint manager does it, after the pod's toleration.
        await case.cluster._request("DELETE", target, {}, {"gracePeriodSeconds": 1})
        told = await case.until("DistillationJob", "demo", lambda s: stage(s, "train").get("reason"))
        assert stages(told)["train"]["reason"] == "NodeUnreachable"
        message = condition(told, "Progressing")["message"]
        assert pod["metadata"]["name"] in message
        assert f"kubectl delete node {node}" in message
        retried = await case.until("DistillationJob", "demo", lambda s: stage(s, "train").get("attempt") == 1)
        assert stages(retried)["train"]["reason"] in ("NodeLost", "")
        case.player.let_go("train")
        done = await case.finished()
        # Kubernetes waits on: the pod is there yet.
        assert (await case.cluster._request("GET", target))["metadata"]["deletionTimestamp"]
    assert done["status"]["phase"] == "Complete"
    assert (stages(done)["train"]["failures"], stages(done)["train"]["attempt"]) == (0, 1)


async def test_a_stage_with_quota_for_half_of_its_pods_gives_it_back_for_free(
    case: Case, control_plane: ControlPlane
) -> None:
    enforce_quota(control_plane, case.namespace, "one", pods="1")
    case.player.hold("train")
    await case.create(runtime(trainer={"replicas": 2}), job(backoffLimit=0))
    async with case.operator(pending_seconds=10):
        retried = await case.until("DistillationJob", "demo", lambda s: stage(s, "train").get("retryAfter"))
        train = stages(retried)["train"]
        assert (train["reason"], train["attempt"], train.get("failures", 0)) == ("QuotaExceeded", 1, 0)
        assert "exceeded quota" in train["message"]
        await case.until_jobs(lambda jobs: not any(stage_of(j) == "train" for j in jobs))
