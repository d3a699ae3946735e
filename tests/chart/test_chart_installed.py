"""The chart on a real API server: installed, used by an operator with its rights and no others, upgraded, removed."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kubedistill_api.base import API_VERSION
from kubedistill_operator.cluster import Cluster, NotFound
from tests.chart.chart_case import CHART, NAMESPACE, Helm, job
from tests.chart.chart_operator import Running, deployment, operating
from tests.cluster.controlplane import ControlPlane
from tests.cluster.processes import PATIENCE_S, wait_until
from tests.controlplane.player import Player, playing

Object = dict[str, Any]

RUNTIME: Object = {
    "image": "registry.example/kubedistill:0.1.0",
    "storage": {"uri": "pvc://data/kubedistill"},
    "sampler": {"replicas": 2},
}
TEAM_LABELS = {"team": "a"}
LOOK_S = 0.2

UNSEEN = {
    ("get", "jobs"): "an earlier operator made the Job, and died before it knew",
    ("get", "services"): "an earlier operator made the Service, and died before it knew",
    ("list", "services"): "a resync: an earlier operator died before it gave a Service to its Job",
    ("delete", "services"): "that Job never came to be",
    ("get", "nodes"): "a pod has outlived its deletion",
    ("list", "events"): "a Job has had no pod for five seconds",
    ("delete", "teacherprobes"): "as distillationjobs: ttlSecondsAfterFinished",
    ("patch", "teacherprobes/status"): "as distillationjobs/status",
    ("delete", "distillationstudies"): "as distillationjobs: ttlSecondsAfterFinished",
    ("update", "distillationjobs/finalizers"): "asked of the authorizer by the admission plugin, in no request",
    ("update", "teacherprobes/finalizers"): "asked of the authorizer by the admission plugin, in no request",
    ("update", "distillationstudies/finalizers"): "asked of the authorizer by the admission plugin, in no request",
}
"""What is granted and need not be used in this test, each with when it is."""


def study(name: str) -> Object:
    """A DistillationStudy of two variants on the runtime named default."""
    own = job(name)["spec"] | {"evaluation": {"benchmarks": [{"name": "b", "uri": "embedded://questions/b.jsonl"}]}}
    spec = {"job": own, "ladder": ["all", "right"], "reference": "right", "seeds": [0]}
    return {"apiVersion": API_VERSION, "kind": "DistillationStudy", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane, cluster_helm: Helm) -> ControlPlane:
    """The chart with default values but for a runtime, in a cluster that never saw its CRDs."""
    values = {"runtimes": {"default": RUNTIME | {"allowedNamespaces": {"matchLabels": TEAM_LABELS}}}}
    notes = cluster_helm("install", "kubedistill", CHART, "-n", NAMESPACE, "--create-namespace", values=values)
    assert "Its runtimes: default" in notes
    control_plane.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a", "labels": TEAM_LABELS}}
    )
    wait_until(lambda: _knows_our_owners(control_plane), "the admission plugin to know our kinds")
    return control_plane


def _knows_our_owners(cluster: ControlPlane) -> bool:
    """OwnerReferencesPermissionEnforcement learns of new kinds from time to time only, and refuses them until then."""
    one = {"apiVersion": API_VERSION, "name": "a", "blockOwnerDeletion": True}
    owners = [one | {"kind": kind, "uid": kind} for kind in ("DistillationJob", "TeacherProbe", "DistillationStudy")]
    metadata = {"name": "a", "namespace": "team-a", "ownerReferences": owners}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    # An administrator is not asked.
    return not cluster.refusal(manifest, f"--as=system:serviceaccount:{NAMESPACE}:kubedistill")


@asynccontextmanager
async def playground(cluster: ControlPlane, namespace: str) -> AsyncIterator[tuple[Cluster, Player]]:
    """The administrator's connection, and nodes that are played."""
    connection = await Cluster.connect(str(cluster.kubeconfig))
    try:
        async with playing(connection, namespace) as player:
            yield connection, player
    finally:
        await connection.close()


async def until(
    cluster: Cluster, namespace: str, name: str, phase: str, operator: Running, kind: str = "DistillationJob"
) -> Object:
    """The resource once it is in the phase."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            assert operator.process.returncode is None, operator.log.read_text()[-3000:]
            item = await cluster.get(kind, namespace, name)
            if item.get("status", {}).get("phase") == phase:
                return item
            await asyncio.sleep(LOOK_S)


async def gone(cluster: Cluster, namespace: str, name: str) -> None:
    """Returns once the job is deleted."""
    with contextlib.suppress(NotFound):
        for _ in range(int(PATIENCE_S / LOOK_S)):
            await cluster.get("DistillationJob", namespace, name)
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"{name} is still there")


async def until_it_trains(cluster: Cluster, name: str) -> None:
    """Returns once a pod of the job's stage train runs."""
    chosen = f"kubedistill.io/stage=train,app.kubernetes.io/instance={name}"
    for _ in range(int(PATIENCE_S / LOOK_S)):
        pods, _version = await cluster.list_all("Pod", "team-a", labelSelector=chosen)
        if any(pod["status"].get("phase") == "Running" for pod in pods):
            return
        await asyncio.sleep(LOOK_S)
    raise AssertionError(f"no pod of the stage train of {name} runs")


def requests(log: Path, user: str) -> Iterator[Object]:
    """What the user asked of the API server."""
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        if entry["user"]["username"] == user and "objectRef" in entry:
            yield entry


def refused(asked: Sequence[Object]) -> list[str]:
    """What the API server did not allow, each with its reason."""
    denied = [entry for entry in asked if entry["responseStatus"].get("code") in (401, 403)]
    return [f"{e['verb']} {e['requestURI']}: {e['responseStatus'].get('message')}" for e in denied]


def resource(ref: Object) -> str:
    return ref["resource"] + (f"/{ref['subresource']}" if ref.get("subresource") else "")


def granted(cluster: ControlPlane, name: str) -> set[tuple[str, str]]:
    """Verb and resource of every rule of the roles that the ServiceAccount `name` is bound to."""
    found = set()
    for kind, role in (("clusterrolebindings", "clusterrole"), ("rolebindings", "role")):
        for binding in cluster.get(kind, "-A")["items"]:
            if any(s["kind"] == "ServiceAccount" and s["name"] == name for s in binding.get("subjects", ())):
                where = ["-n", binding["metadata"]["namespace"]] if role == "role" else []
                for rule in cluster.get(role, binding["roleRef"]["name"], *where)["rules"]:
                    found |= {(verb, item) for verb in rule["verbs"] for item in rule["resources"]}
    return found


async def test_with_the_charts_rights_and_no_others_a_job_completes_and_everything_granted_is_used(
    installed: ControlPlane, audit_log: Path
) -> None:
    chosen = deployment(installed)
    async with playground(installed, "team-a") as (cluster, player):
        player.hold("train")
        async with operating(installed, chosen) as operator:
            # Of another seed, so that it has pods of its own, which its suspension stops.
            paused = job("paused", training={"seed": 7})
            for manifest in (job("demo", ttlSecondsAfterFinished=1), paused, study("ladder")):
                await cluster.create({**manifest, "metadata": manifest["metadata"] | {"namespace": "team-a"}})
            await until(cluster, "team-a", "demo", "Running", operator)
            await until(cluster, "team-a", "paused", "Running", operator)
            await until_it_trains(cluster, "paused")
            suspend = json.dumps({"spec": {"suspend": True}})
            installed.kubectl("patch", "djob", "paused", "-n", "team-a", "--type=merge", "--patch", suspend)
            await until(cluster, "team-a", "paused", "Suspended", operator)
            check = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "kubedistill_operator.check", operator.url, f"--kubeconfig={operator.kubeconfig}"
            )
            assert await check.wait() == 0
        # The next operator reads what the one before left.
        async with operating(installed, chosen) as operator:
            player.let_go("train")
            await gone(cluster, "team-a", "demo")
            await until(cluster, "team-a", "ladder", "Complete", operator, "DistillationStudy")
            stderr = operator.log.read_text()
    user = f"system:serviceaccount:{NAMESPACE}:kubedistill"
    asked = list(requests(audit_log, user))
    assert not refused(asked)
    assert "Forbidden" not in stderr
    used = {(entry["verb"], resource(entry["objectRef"])) for entry in asked}
    rights = granted(installed, "kubedistill")
    assert used <= rights
    assert rights - used <= UNSEEN.keys() <= rights


def test_no_expression_of_the_policies_has_a_warning(installed: ControlPlane) -> None:
    def checked() -> bool:
        policies = installed.get("validatingadmissionpolicies")["items"]
        return all(policy.get("status", {}).get("observedGeneration") for policy in policies)

    wait_until(checked, "the types of the policies to be checked")
    for policy in installed.get("validatingadmissionpolicies")["items"]:
        assert not policy["status"].get("typeChecking", {}).get("expressionWarnings"), policy["status"]


def test_an_upgrade_takes_the_runtimes_over_and_keeps_what_tenants_have(
    installed: ControlPlane, cluster_helm: Helm
) -> None:
    before = installed.get("cdruntime", "default")["metadata"]["uid"]
    values = {
        "runtimes": {"default": RUNTIME | {"image": "registry.example/kubedistill:0.2.0"}},
        "operator": {"workers": 3},
    }
    cluster_helm("upgrade", "kubedistill", CHART, "-n", NAMESPACE, values=values)
    after = installed.get("cdruntime", "default")
    assert after["metadata"]["uid"] == before
    assert after["spec"]["image"] == "registry.example/kubedistill:0.2.0"
    assert "helm.sh/hook" not in after["metadata"].get("annotations", {})
    assert "--workers=3" in deployment(installed)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert installed.get("djobs", "-n", "team-a")["items"][0]["metadata"]["name"] == "paused"


async def test_an_operator_of_one_namespace_needs_next_to_nothing_elsewhere(
    installed: ControlPlane, cluster_helm: Helm, audit_log: Path
) -> None:
    installed.kubectl("create", "namespace", "team-b")
    values = {"crds": {"enabled": False}, "watchNamespaces": ["team-b"], "fullnameOverride": "narrow"}
    cluster_helm("install", "kubedistill", CHART, "-n", "narrow", "--create-namespace", values=values)
    async with (
        playground(installed, "team-b") as (cluster, _),
        operating(installed, deployment(installed, "narrow")) as operator,
    ):
        manifest = job("demo")
        await cluster.create({**manifest, "metadata": manifest["metadata"] | {"namespace": "team-b"}})
        await until(cluster, "team-b", "demo", "Complete", operator)
    user = "system:serviceaccount:narrow:narrow"
    asked = list(requests(audit_log, user))
    assert not refused(asked)
    assert {entry["objectRef"].get("namespace") for entry in asked} == {"team-b", "narrow", None}
    assert allowed(installed, user, "create", "batch", "jobs", "team-b")
    assert not allowed(installed, user, "create", "batch", "jobs", "team-a")
    assert not allowed(installed, user, "list", "", "pods")
    assert not allowed(installed, user, "get", "", "configmaps", "narrow")
    cluster_helm("uninstall", "kubedistill", "-n", "narrow", "--wait")


@pytest.mark.parametrize(
    ("role", "verb", "what", "can"),
    [
        ("view", "list", "distillationjobs", True),
        ("view", "create", "distillationjobs", False),
        ("edit", "create", "distillationjobs", True),
        ("edit", "delete", "teacherprobes", True),
        ("edit", "create", "distillationstudies", True),
        ("view", "list", "distillationstudies", True),
        ("edit", "create", "distillationruntimes", False),
        ("edit", "patch", "distillationjobs/status", False),
        ("admin", "create", "distillationruntimes", True),
        ("admin", "create", "clusterdistillationruntimes", False),
    ],
)
def test_a_tenants_role_in_its_namespace_gives(
    installed: ControlPlane, role: str, verb: str, what: str, can: bool
) -> None:
    binding = f"tenant-{role}"
    installed.apply({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": binding, "namespace": "team-a"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": binding}],
    })  # fmt: skip
    # What each of these roles gives. Roles and bindings hold a moment after they are made.
    wait_until(lambda: allowed(installed, binding, "list", "kubedistill.io", "distillationjobs", "team-a"), "the role")
    assert allowed(installed, binding, verb, "kubedistill.io", what, "team-a") is can


def allowed(cluster: ControlPlane, user: str, verb: str, group: str, what: str, namespace: str = "") -> bool:
    """What the API server says when it is asked whether the user may."""
    main, _, sub = what.partition("/")
    asked = {"verb": verb, "group": group, "resource": main, "subresource": sub, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": asked},
    }
    answer = cluster.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review))
    return bool(json.loads(answer)["status"]["allowed"])


def test_uninstalling_leaves_the_crds_and_what_tenants_have(installed: ControlPlane, cluster_helm: Helm) -> None:
    """The last test of this file: nothing of the operator is left after it."""
    cluster_helm("uninstall", "kubedistill", "-n", NAMESPACE, "--wait")
    assert len([c for c in installed.get("crds")["items"] if c["spec"]["group"] == "kubedistill.io"]) == 5
    assert [item["metadata"]["name"] for item in installed.get("djobs", "-n", "team-a")["items"]] == ["paused"]
    assert not installed.get("deployments", "-n", NAMESPACE)["items"]
    assert not [r for r in installed.get("clusterroles")["items"] if r["metadata"]["name"].startswith("kubedistill")]
    # A new install takes the CRDs over.
    cluster_helm("install", "kubedistill", CHART, "-n", NAMESPACE)
    cluster_helm("uninstall", "kubedistill", "-n", NAMESPACE, "--wait")
