"""Two tenants on one cluster: what one tries against the other, each refused. docs/install.md has the same table.

The attacker is a ServiceAccount with the role `admin` in its own namespace, which is more than tenants need. Where the
attempt has a counterpart at home, it is made there too, so that a refusal is one of the other's namespace.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kubedistill_api.base import API_VERSION
from kubedistill_api.job import DistillationJob
from kubedistill_api.planning import plan
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_operator.children import stage_children
from kubedistill_operator.names import ATTEMPT_LABEL, JOB_NAME_LABEL, STAGE_LABEL, UID_LABEL
from kubedistill_operator.store import Store
from tests.chart.chart_case import CHART, NAMESPACE, Helm
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.processes import wait_until
from tests.cluster.quota import enforce_quota

Object = dict[str, Any]

HOME, OTHER = "team-a", "team-b"
TENANT = f"system:serviceaccount:{HOME}:tenant"
PAGE = Path(__file__).parents[2] / "docs" / "install.md"
RUNTIMES: Object = {
    "default": {
        "image": "registry.example/kubedistill:0.1.0",
        "storage": {"uri": "pvc://kubedistill/artifacts"},
        "limits": {"allowedModels": ["hf://org/*"]},
    },
    "theirs": {"allowedNamespaces": {"names": [OTHER]}},
}


def job(**spec: object) -> Object:
    own: Object = {
        "questions": [{"uri": "hf://org/questions"}],
        "teacher": {"model": {"uri": "hf://org/teacher"}},
        "student": {"uri": "hf://org/student"},
    }
    return {"apiVersion": API_VERSION, "kind": "DistillationJob", "metadata": {"name": "new"}, "spec": own | spec}


def pod(name: str = "new", **spec: object) -> Object:
    """A pod that a namespace at the restricted level takes."""
    secure = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "a", "image": "registry.example/a", "securityContext": secure}
    container["resources"] = {"requests": {"cpu": "1"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container], **spec}}


def own_runtime(pod: Object) -> Object:
    spec = {"trainer": {"template": {"spec": pod}}}
    return {"apiVersion": API_VERSION, "kind": "DistillationRuntime", "metadata": {"name": "new"}, "spec": spec}


def binding(role: str) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "tenant"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "tenant", "namespace": HOME}],
    }


def endpoint(**ref: object) -> Object:
    return {"endpoint": {"url": "http://llm.example/v1", "model": "m", "apiKeySecretRef": {"key": "KEY", **ref}}}


class Attempt(NamedTuple):
    """What is asked of the API server, with NS for the other's namespace."""

    command: str
    manifest: Object | None = None
    told: str = "forbidden"
    """What the refusal says."""
    at_home: bool = False
    """Whether it is allowed in one's own namespace."""


CREATE = "create --dry-run=server -n NS -f -"
HERE = f"create --dry-run=server -n {HOME} -f -"
POD = "/api/v1/namespaces/NS/pods/demo"
ATTEMPTS = {
    # secrets
    "read a Secret": Attempt("get secret key -n NS", at_home=True),
    "list the Secrets of all": Attempt("get secrets -A"),
    "name the other's Secret in a job, by a path": Attempt(HERE, job(teacher=endpoint(name=f"{OTHER}/key")), "Invalid"),
    "name the other's Secret in a job, by a field": Attempt(
        HERE, job(teacher=endpoint(name="key", namespace=OTHER)), "unknown field"
    ),
    "a token of the other's ServiceAccount": Attempt("create token tenant -n NS", at_home=True),
    "a token of the operator": Attempt(f"create token kubedistill -n {NAMESPACE}"),
    "a pod as the operator": Attempt(
        f"create --dry-run=server -n {NAMESPACE} -f -", pod(serviceAccountName="kubedistill")
    ),
    # traces
    "read the other's job": Attempt("get djob demo -n NS", at_home=True),
    "list the jobs of all": Attempt("get djobs,tprobes,dstudies -A"),
    "read the plan of the other's job": Attempt("get configmap demo -n NS", at_home=True),
    "read the log of the other's stage": Attempt(f"get --raw {POD}/log", at_home=True),
    "run a job over the other's storage": Attempt(CREATE, job(), at_home=True),
    "mount the other's claim": Attempt(
        CREATE, pod(volumes=[{"name": "a", "persistentVolumeClaim": {"claimName": "kubedistill"}}]), at_home=True
    ),
    "read the other's claim": Attempt("get pvc kubedistill -n NS", at_home=True),
    "write a status": Attempt(
        f'patch djob demo -n {HOME} --subresource=status --type=merge --dry-run=server -p {{"status":{{}}}}'
    ),
    # models
    "a runtime that serves the other alone": Attempt(
        HERE, job(runtimeRef={"name": "theirs"}), "does not serve the namespace"
    ),
    "a runtime of the other's namespace": Attempt(
        HERE, job(runtimeRef={"kind": "DistillationRuntime", "name": "own", "namespace": OTHER}), "unknown field"
    ),
    "the winner of the other's probe": Attempt(
        HERE, job(teacher={"probeRef": {"name": "probe", "namespace": OTHER}}), "unknown field"
    ),
    "a model that the runtime does not allow": Attempt(
        HERE, job(student={"uri": "hf://theirs/student"}), "does not allow one of the models"
    ),
    "such a model by a detour": Attempt(
        HERE, job(student={"uri": "hf://org/../theirs/student"}), "does not allow one of the models"
    ),
    "change what the runtime allows": Attempt(
        'patch cdruntime default --type=merge --dry-run=server -p {"spec":{"limits":null}}'
    ),
    "read the other's runtime": Attempt("get druntime own -n NS", at_home=True),
    # pods
    "run a command in the other's pod": Attempt(
        f"create --raw {POD}/exec?command=id&stdout=true -f -", {}, at_home=True
    ),
    "attach to the other's pod": Attempt(f"create --raw {POD}/attach?stdout=true -f -", {}, at_home=True),
    "delete the other's pod": Attempt("delete pod demo -n NS --dry-run=server", at_home=True),
    "delete the other's job": Attempt("delete djob demo -n NS --dry-run=server", at_home=True),
    "a runtime that reaches the node": Attempt(
        HERE, own_runtime({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}), "hostPath volumes are for"
    ),
    "a runtime that sees the node's processes": Attempt(HERE, own_runtime({"hostPID": True}), "hostPID is for"),
    "a role in the other's namespace": Attempt(CREATE, binding("edit"), at_home=True),
    "a role that is more than one's own": Attempt(HERE, binding("cluster-admin")),
    # ports
    "forward a port of the other's pod": Attempt(f"create --raw {POD}/portforward?ports=6379 -f -", {}, at_home=True),
    "the other's pod through the API server": Attempt(f"get --raw {POD}:8080/proxy/progress"),
    "remove the other's network policy": Attempt(
        "delete networkpolicy kubedistill-stages -n NS --dry-run=server", at_home=True
    ),
    "pose as the operator's namespace": Attempt(
        f"label namespace {HOME} kubernetes.io/metadata.name={NAMESPACE} --overwrite --dry-run=server"
    ),
    # quota
    "pods at the other's cost": Attempt(CREATE, pod(), at_home=True),
    "change the other's quota": Attempt(
        'patch resourcequota quota -n NS --type=merge --dry-run=server -p {"spec":{"hard":{"pods":"0"}}}'
    ),
    "raise one's own quota": Attempt(
        f'patch resourcequota quota -n {HOME} --type=merge --dry-run=server -p {{"spec":{{"hard":{{"pods":"99"}}}}}}'
    ),
}


def things(namespace: str) -> list[Object]:
    """What a tenant has."""
    demo: list[Object] = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"KEY": "s3cret"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "demo"}, "data": {"sample.json": "{}"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "tenant"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "kubedistill"},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
        },
        pod("demo"),
        job() | {"metadata": {"name": "demo"}},
        own_runtime({}) | {"metadata": {"name": "own"}},
    ]
    return [{**item, "metadata": item["metadata"] | {"namespace": namespace}} for item in demo]


@pytest.fixture(scope="module")
def tenants(control_plane: ControlPlane, cluster_helm: Helm) -> ControlPlane:
    """The chart with two tenants who have the same things, and the policies in force."""
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in (HOME, OTHER):
        control_plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": level}})
    values = {"runtimes": RUNTIMES, "networkPolicy": {"tenants": [HOME, OTHER]}}
    cluster_helm("install", "kubedistill", CHART, "-n", NAMESPACE, "--create-namespace", values=values)
    for name in (HOME, OTHER):
        enforce_quota(control_plane, name, "quota", pods="2")
        control_plane.apply(*things(name))
    control_plane.apply({**binding("admin"), "metadata": {"name": "admin", "namespace": HOME}})
    in_force = [ATTEMPTS["a runtime that serves the other alone"], ATTEMPTS["a runtime that reaches the node"]]
    for attempt in in_force:
        wait_until(lambda attempt=attempt: bool(tried(control_plane, attempt, OTHER)), "the policies to be in force")
    wait_until(lambda: not tried(control_plane, ATTEMPTS["run a job over the other's storage"], HOME), "the roles")
    return control_plane


def tried(cluster: ControlPlane, attempt: Attempt, namespace: str) -> str:
    """What the API server says against it; empty where it is done."""
    command = [part.replace("NS", namespace) for part in attempt.command.split(" ")]
    text = None if attempt.manifest is None else json.dumps(attempt.manifest)
    try:
        cluster.kubectl(*command, f"--as={TENANT}", stdin=text)
    except ClusterError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("what", ATTEMPTS)
def test_a_tenant_is_refused(tenants: ControlPlane, what: str) -> None:
    attempt = ATTEMPTS[what]
    answer = tried(tenants, attempt, OTHER)
    assert attempt.told.lower() in answer.lower(), answer or "it was done"


@pytest.mark.parametrize("what", [name for name, attempt in ATTEMPTS.items() if attempt.at_home])
def test_at_home_it_is_allowed(tenants: ControlPlane, what: str) -> None:
    assert "forbidden" not in tried(tenants, ATTEMPTS[what], HOME).lower()


def test_a_quota_holds_for_pods_of_stages_too(tenants: ControlPlane) -> None:
    assert tenants.get("resourcequota", "quota", "-n", HOME)["status"]["used"]["pods"] == "1"
    create = Attempt(f"create -n {HOME} -f -", pod("second"))
    assert tried(tenants, create, HOME) == ""
    assert "exceeded quota" in tried(tenants, create._replace(manifest=pod("third")), HOME)


# Where the test cluster cannot refuse it, or the refusal is that nothing comes of it.


class Peer(NamedTuple):
    """A pod, as a network sees it."""

    namespace: str
    labels: dict[str, str]


def admitted(policies: Sequence[Object], source: Peer, target: Peer, port: int) -> bool:
    """What a network that enforces NetworkPolicies lets in, for the fields that ours have."""
    ours = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == target.namespace
        and matches(policy["spec"]["podSelector"], target.labels)
        and "Ingress" in policy["spec"]["policyTypes"]
    ]
    return not ours or any(
        (not rule.get("ports") or any(entry["port"] == port for entry in rule["ports"]))
        and any(comes_from(peer, source, target) for peer in rule["from"])
        for spec in ours
        for rule in spec["ingress"]
    )


def comes_from(peer: Object, source: Peer, target: Peer) -> bool:
    assert peer.keys() <= {"podSelector", "namespaceSelector"}
    named = {"kubernetes.io/metadata.name": source.namespace}
    same = (
        matches(peer["namespaceSelector"], named)
        if "namespaceSelector" in peer
        else source.namespace == target.namespace
    )
    return same and matches(peer.get("podSelector", {}), source.labels)


def matches(selector: Object, labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def stage_of(namespace: str, **spec: object) -> Object:
    """The Job of a stage of a job in the namespace, as the operator makes it."""
    manifest = job(**spec)
    manifest["metadata"] |= {"namespace": namespace, "uid": f"uid-of-{namespace}"}
    resource = DistillationJob.model_validate(manifest)
    runtime = RuntimeSpec.model_validate(RUNTIMES["default"] | {"sampler": {"replicas": 2}})
    return stage_children(resource, plan(resource), runtime, "sample", 0)[0]


def stage(namespace: str) -> Peer:
    return Peer(namespace, stage_of(namespace)["spec"]["template"]["metadata"]["labels"])


NETWORK = {
    "Ray, vLLM, torchrun of the other's stage, from a pod": Peer(HOME, {}),
    "the same from a stage": stage(HOME),
    "the same from a pod with the operator's labels": Peer(
        HOME,
        {
            "app.kubernetes.io/name": "kubedistill",
            "app.kubernetes.io/instance": "kubedistill",
            "app.kubernetes.io/component": "operator",
        },
    ),
}
PORTS = {"ray": 6379, "torchrun": 29400, "vllm": 8000, "progress": 8080}


@pytest.mark.parametrize("port", PORTS.values(), ids=PORTS.keys())
@pytest.mark.parametrize("what", NETWORK)
def test_the_network_policies_let_nobody_else_in(tenants: ControlPlane, what: str, port: int) -> None:
    policies = tenants.get("networkpolicies", "-A")["items"]
    assert not admitted(policies, NETWORK[what], stage(OTHER), port)


def test_they_let_in_who_has_to_come_in(tenants: ControlPlane) -> None:
    policies = tenants.get("networkpolicies", "-A")["items"]
    operator = tenants.get("deployment", "kubedistill", "-n", NAMESPACE)["spec"]["template"]["metadata"]["labels"]
    assert all(admitted(policies, stage(OTHER), stage(OTHER), port) for port in PORTS.values())
    reached = [
        name for name, port in PORTS.items() if admitted(policies, Peer(NAMESPACE, operator), stage(OTHER), port)
    ]
    assert reached == ["progress"]
    posing = Peer(NAMESPACE, NETWORK["the same from a pod with the operator's labels"].labels)
    assert admitted(policies, posing, stage(OTHER), PORTS["progress"]), "it is the namespace that is refused above"
    assert admitted(policies, Peer(HOME, {}), Peer(OTHER, {}), 6379), "other pods of a tenant are its own affair"


@pytest.mark.parametrize("uri", [f"pvc://{OTHER}/questions", f"pvc://kubedistill/artifacts/{OTHER}/questions"])
def test_a_claim_is_one_of_the_jobs_own_namespace(uri: str) -> None:
    made = stage_of(HOME, questions=[{"uri": uri}])
    assert made["metadata"]["namespace"] == HOME
    pod = made["spec"]["template"]["spec"]
    assert {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v} <= {
        "kubedistill",
        OTHER,
    }
    assert pod["automountServiceAccountToken"] is False


def test_a_job_that_poses_as_the_others_stage_is_nobodys() -> None:
    victim = {"kind": "DistillationJob", "metadata": {"name": "demo", "namespace": OTHER, "uid": "of-b"}, "spec": {}}
    labels = {UID_LABEL: "of-b", STAGE_LABEL: "sample", ATTEMPT_LABEL: "0", JOB_NAME_LABEL: "forged"}
    store = Store()
    store.put("DistillationJob", victim)
    for kind in ("Job", "Pod", "ConfigMap"):
        for namespace in (HOME, OTHER):
            metadata = {"name": "forged", "namespace": namespace, "uid": f"{kind} {namespace}", "labels": labels}
            store.put(kind, {"metadata": metadata, "spec": {}, "status": {}})
    for kind in ("Job", "Pod", "ConfigMap"):
        assert [child["metadata"]["namespace"] for child in store.children("of-b", kind)] == [OTHER]
    (pods,) = store.pods_by_job("of-b").values()
    assert len(pods) == 1


ELSEWHERE = {
    "more pods than one's own quota",
    "the other's claim in a job's URI",
    "a Job with the labels of the other's stage",
}
"""Rows of the table that have a test of their own above."""


def test_the_table_of_the_documentation_is_this_one() -> None:
    section = PAGE.read_text().partition("### Two tenants")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| ([^|]+?) \| [^|]+ \|$", section)
    told = [row for row in rows if row not in ("attempt", "---") and not row.startswith("**")]
    assert sorted(told) == sorted([*ATTEMPTS, *NETWORK, *ELSEWHERE])
