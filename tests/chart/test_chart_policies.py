"""The chart's admission policies on a real API server, held together with what the operator refuses by itself."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kubedistill_api.base import API_VERSION
from kubedistill_api.job import DistillationJob
from kubedistill_api.podfields import forbidden
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_api.study import DistillationStudy
from kubedistill_operator.admission import refusals
from tests.chart.chart_case import SERVED, Helm
from tests.cluster.controlplane import ControlPlane
from tests.cluster.processes import wait_until

Object = dict[str, Any]

HERE, LABELS = "open-team", {"tier": "gold"}
LIMITED: Object = {
    "limits": {
        "allowedModels": ["hf://org/*", "pvc://models/student"],
        "allowedEndpointHosts": ["llm.team.svc", "*.models.svc"],
        "maxSamples": 8,
    }
}
RUNTIMES: dict[str, Object] = {
    "open": {},
    "limited": LIMITED,
    "by-name": {"allowedNamespaces": {"names": ["another", HERE]}},
    "by-label": {"allowedNamespaces": {"matchLabels": LABELS}},
    "by-two-labels": {"allowedNamespaces": {"matchLabels": LABELS | {"region": "x"}}},
    "others": {"allowedNamespaces": {"names": ["another"], "matchLabels": {"tier": "silver"}}},
    "nobody": {"allowedNamespaces": {}},
}


@pytest.fixture(scope="module")
def guarded(control_plane: ControlPlane, helm: Helm) -> ControlPlane:
    """CRDs, a namespace, runtimes, and the policies in force."""
    control_plane.install_crds()
    kinds = ("ClusterDistillationRuntime", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    wanted = [item for item in helm.template({"runtimes": RUNTIMES}, *SERVED) if item["kind"] in kinds]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HERE, "labels": LABELS}}
    control_plane.apply(namespace, *wanted)
    for bad in (job(runtimeRef={"name": "nobody"}), own_runtime({"hostNetwork": True})):
        wait_until(lambda bad=bad: bool(refused(control_plane, bad)), "the policies to be in force")
    return control_plane


def refused(cluster: ControlPlane, manifest: Object) -> str:
    """Why the API server does not take it; empty where it does."""
    return cluster.refusal(manifest, "-n", HERE)


def job(**spec: object) -> Object:
    own: Object = {
        "questions": [{"uri": "hf://org/questions"}],
        "teacher": {"model": {"uri": "hf://org/teacher"}, "sampling": {"samples": 8}},
        "student": {"uri": "hf://org/student"},
    }
    return {"apiVersion": API_VERSION, "kind": "DistillationJob", "metadata": {"name": "demo"}, "spec": own | spec}


def probe(**spec: object) -> Object:
    own = job()["spec"]
    teacher = own.pop("teacher")
    own["candidates"] = [{"name": name, "model": teacher["model"]} for name in ("a", "b")]
    own["sampling"] = {"samples": 8}
    own["evaluation"] = {"samples": 8, "benchmarks": [{"name": "b", "uri": "hf://org/b"}]}
    return {"apiVersion": API_VERSION, "kind": "TeacherProbe", "metadata": {"name": "probe"}, "spec": own | spec}


def study(**spec: object) -> Object:
    """A study of the job with these fields."""
    own = job(**spec)["spec"] | {"evaluation": {"samples": 8, "benchmarks": [{"name": "b", "uri": "hf://org/b"}]}}
    wanted: Object = {"job": own, "ladder": ["all", "right"], "reference": "right"}
    if "runtimeRef" in own:
        wanted["runtimeRef"] = own.pop("runtimeRef")
    return {"apiVersion": API_VERSION, "kind": "DistillationStudy", "metadata": {"name": "study"}, "spec": wanted}


def own_runtime(pod: Object, role: str = "trainer") -> Object:
    spec = {role: {"template": {"spec": pod}}}
    return {"apiVersion": API_VERSION, "kind": "DistillationRuntime", "metadata": {"name": "own"}, "spec": spec}


def container(**fields: object) -> Object:
    return {"containers": [{"name": "first"}, {"name": "stage", **fields}]}


FORBIDDEN: dict[str, Object] = {
    "hostNetwork": {"hostNetwork": True},
    "hostPID": {"hostPID": True},
    "hostIPC": {"hostIPC": True},
    "nodeName": {"nodeName": "node-1"},
    "hostPath": {"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/"}}]},
    "sysctls": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
    "hostProcess": {"securityContext": {"windowsOptions": {"hostProcess": True}}},
    "privileged": container(securityContext={"privileged": True}),
    "allowPrivilegeEscalation": container(securityContext={"allowPrivilegeEscalation": True}),
    "capabilities": container(securityContext={"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
    "procMount": container(securityContext={"procMount": "Unmasked"}),
    "hostPort": container(ports=[{"containerPort": 1, "hostPort": 1}]),
}
OF_CONTAINERS = ("privileged", "allowPrivilegeEscalation", "capabilities", "procMount", "hostPort")


@pytest.mark.parametrize("field", FORBIDDEN)
def test_a_namespaces_own_runtime_may_not_have(guarded: ControlPlane, field: str) -> None:
    manifest = own_runtime(FORBIDDEN[field])
    answer = refused(guarded, manifest)
    assert field in answer
    assert "ValidatingAdmissionPolicy" in answer
    assert [path for path in forbidden(RuntimeSpec.model_validate(manifest["spec"])) if field in path]


@pytest.mark.parametrize("role", ["sampler", "trainer", "evaluator", "worker"])
def test_in_no_role_and_no_kind_of_container(guarded: ControlPlane, role: str) -> None:
    pod = {"initContainers": FORBIDDEN["privileged"]["containers"]}
    assert "privileged" in refused(guarded, own_runtime(pod, role))
    assert forbidden(RuntimeSpec.model_validate(own_runtime(pod, role)["spec"])) == [
        f"{role}.template.spec.initContainers[1].securityContext.privileged"
    ]


def test_what_does_not_reach_beyond_the_pod_is_allowed(guarded: ControlPlane) -> None:
    pod = {
        "hostNetwork": False,
        "serviceAccountName": "reader",
        "nodeSelector": {"gpu": "yes"},
        "securityContext": {"runAsUser": 2000},
        "volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "a"}}],
    } | container(
        securityContext={"privileged": False, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        ports=[{"containerPort": 8080}],
    )
    assert refused(guarded, own_runtime(pod)) == ""
    assert forbidden(RuntimeSpec.model_validate(own_runtime(pod)["spec"])) == []


def test_the_platform_teams_runtime_may_have_everything(guarded: ControlPlane) -> None:
    manifest = own_runtime({"hostNetwork": True}) | {"kind": "ClusterDistillationRuntime"}
    assert refused(guarded, manifest) == ""


@pytest.mark.parametrize("make", [job, probe, study])
@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("open", True),
        ("by-name", True),
        ("by-label", True),
        ("by-two-labels", False),
        ("others", False),
        ("nobody", False),
        ("not-there-yet", True),
    ],
)
def test_a_runtime_serves_the_namespaces_it_allows(
    guarded: ControlPlane, make: Callable[..., Object], name: str, taken: bool
) -> None:
    answer = refused(guarded, make(runtimeRef={"name": name}))
    if taken:
        assert answer == ""
    else:
        assert f"ClusterDistillationRuntime {name} does not serve the namespace {HERE}" in answer


def test_a_runtime_of_the_namespace_is_not_taken_for_the_clusters_of_the_same_name(guarded: ControlPlane) -> None:
    assert refused(guarded, job(runtimeRef={"kind": "DistillationRuntime", "name": "nobody"})) == ""


def endpoint(url: str) -> Object:
    return {"endpoint": {"url": url, "model": "m"}, "sampling": {"samples": 8}}


JUDGE = {"verification": {"judge": {"endpoint": {"url": "http://judge.example/v1", "model": "j"}}}}
LIMITS: dict[str, tuple[Object, str]] = {
    "a model by its beginning": (job(), ""),
    "a model by its name": (job(student={"uri": "pvc://models/student"}), ""),
    "another student": (job(student={"uri": "pvc://models/student-2"}), "pvc://models/student-2"),
    "a detour": (job(student={"uri": "hf://org/../other/x"}), "hf://org/../other/x"),
    "two dots in a name": (job(student={"uri": "hf://org/a..b"}), ""),
    "another teacher": (job(teacher={"model": {"uri": "hf://other/x"}, "sampling": {"samples": 8}}), "hf://other/x"),
    "another candidate": (
        probe(candidates=[{"name": n, "model": {"uri": f"hf://{n}/x"}} for n in ("org", "other")]),
        "hf://other/x",
    ),
    "a host by its name": (job(teacher=endpoint("http://llm.team.svc:8000/v1")), ""),
    "a host by its end": (job(teacher=endpoint("https://big.models.svc/v1")), ""),
    "another host": (job(teacher=endpoint("http://llm.team.svc.evil.example/v1")), "llm.team.svc.evil.example"),
    "a host that poses as a user": (job(teacher=endpoint("http://llm.team.svc:x@evil.example/v1")), "evil.example"),
    "a judge": (job(curation=JUDGE), "judge.example"),
    "a study's models": (study(), ""),
    "a study's student": (study(student={"uri": "pvc://models/student-2"}), "pvc://models/student-2"),
    "a study's teacher": (study(teacher=endpoint("http://evil.example/v1")), "evil.example"),
    "a study's judge": (study(curation=JUDGE), "judge.example"),
    "a study's samples": (study(teacher={"model": {"uri": "hf://org/x"}, "sampling": {"samples": 9}}), "at most 8"),
    "too many samples": (job(teacher={"model": {"uri": "hf://org/x"}, "sampling": {"samples": 9}}), "at most 8"),
}


@pytest.mark.parametrize("what", LIMITS)
def test_the_limits_of_a_runtime(guarded: ControlPlane, what: str) -> None:
    manifest, told = LIMITS[what]
    manifest = copy.deepcopy(manifest)
    manifest["spec"] |= {"runtimeRef": {"name": "limited"}}
    # Limits that the policies leave to the operator.
    wanted = manifest["spec"].get("job", manifest["spec"])
    wanted |= {"curation": {"difficulty": {"samples": 8}, **wanted.get("curation", {})}}
    models = (DistillationJob, TeacherProbe, DistillationStudy)
    model = next(model for model in models if model.__name__ == manifest["kind"])
    by_operator = "; ".join(refusals(model.model_validate(manifest), RuntimeSpec.model_validate(LIMITED)))
    by_policy = refused(guarded, manifest)
    if told:
        assert told in by_operator
        assert told in by_policy
        assert "ValidatingAdmissionPolicy" in by_policy
    else:
        assert by_operator == ""
        assert by_policy == ""


def test_policies_that_only_warn_let_through(helm: Helm) -> None:
    bindings = [
        item
        for item in helm.template({"admission": {"actions": ["Warn", "Audit"]}})
        if item["kind"] == "ValidatingAdmissionPolicyBinding"
    ]
    assert [binding["spec"]["validationActions"] for binding in bindings] == [["Warn", "Audit"]] * 2
