"""What a runtime does not allow: models, hosts, namespaces, and fields of a namespace's own pod templates."""

from collections.abc import Mapping
from typing import Any

import pytest

from kubedistill_api.base import API_VERSION
from kubedistill_api.data import EndpointSource
from kubedistill_api.job import DistillationJob, TeacherSpec
from kubedistill_api.podfields import forbidden
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.runtime import NamespaceSelector, RuntimeSpec
from kubedistill_operator.admission import refusals, teacher_refusals
from kubedistill_operator.cluster import NotFound
from kubedistill_operator.settle import Settled, Settler, Waiting
from kubedistill_operator.store import Store

NAMESPACE = "team-a"


def job(**spec: object) -> DistillationJob:
    own: dict[str, object] = {
        "questions": [{"uri": "hf://org/questions"}],
        "teacher": {"model": {"uri": "hf://org/teacher"}},
        "student": {"uri": "hf://org/student"},
    }
    meta = {"name": "demo", "namespace": NAMESPACE, "uid": "0b5c"}
    return DistillationJob.model_validate({"metadata": meta, "spec": own | spec})


def limits(**given: object) -> RuntimeSpec:
    return RuntimeSpec.model_validate({"limits": given})


def test_every_model_that_is_not_allowed_is_named_with_its_field_and_what_is_allowed() -> None:
    wrong = refusals(job(), limits(allowedModels=["hf://Qwen/*", "pvc://models/own"]))
    assert wrong == [
        "spec.student.uri: the runtime does not allow hf://org/student; it allows hf://Qwen/*, pvc://models/own",
        "spec.teacher.model.uri: the runtime does not allow hf://org/teacher; it allows hf://Qwen/*, pvc://models/own",
    ]


@pytest.mark.parametrize("pattern", ["*", "hf://*", "hf://org/*"])
def test_a_star_at_the_end_stands_for_anything(pattern: str) -> None:
    assert refusals(job(), limits(allowedModels=[pattern])) == []


def test_a_star_elsewhere_stands_for_itself() -> None:
    assert len(refusals(job(), limits(allowedModels=["hf://*/teacher", "hf://org/student"]))) == 1


def test_an_empty_list_allows_nothing_and_none_everything() -> None:
    assert "it allows none" in refusals(job(), limits(allowedModels=[]))[0]
    assert refusals(job(), limits()) == []


def test_each_candidate_of_a_probe_is_looked_at() -> None:
    candidates = [
        {"name": "a", "model": {"uri": "hf://org/a"}},
        {"name": "b", "endpoint": {"url": "http://elsewhere/v1", "model": "b"}},
    ]
    spec: dict[str, Any] = {
        "questions": [{"uri": "hf://org/questions"}],
        "candidates": candidates,
        "student": {"uri": "hf://org/student"},
        "evaluation": {"benchmarks": [{"name": "b", "uri": "hf://org/b"}]},
    }
    probe = TeacherProbe.model_validate({"metadata": {"name": "probe", "namespace": NAMESPACE}, "spec": spec})
    wrong = refusals(probe, limits(allowedModels=["hf://org/student"], allowedEndpointHosts=["llm.svc"]))
    assert [one.split(":")[0] for one in wrong] == [
        "spec.candidates[0].model.uri",
        "spec.candidates[1].endpoint.url",
    ]


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("http://llm.team.svc:8000/v1", True),
        ("http://LLM.team.svc/v1", True),
        ("https://a.models.svc/v1", True),
        ("https://a.b.models.svc/v1", True),
        ("https://models.svc/v1", False),
        ("http://llm.team.svc.evil.example/v1", False),
        ("http://evil.example/llm.team.svc", False),
        ("http://llm.team.svc@evil.example/v1", False),
        ("http://evil.example\\@llm.team.svc/v1", False),
        ("http://evil.example#@llm.team.svc/v1", False),
    ],
)
def test_the_host_of_an_endpoint(url: str, taken: bool) -> None:
    teacher = TeacherSpec(endpoint=EndpointSource(url=url, model="m"))
    wrong = list(
        teacher_refusals("spec.teacher", teacher, limits(allowedEndpointHosts=["llm.team.svc", "*.models.svc"]))
    )
    assert (wrong == []) is taken


def test_a_judge_is_an_endpoint_too() -> None:
    curation = {"verification": {"judge": {"endpoint": {"url": "http://judge/v1", "model": "j"}}}}
    (wrong,) = refusals(job(curation=curation), limits(allowedEndpointHosts=[]))
    assert wrong.startswith("spec.curation.verification.judge.endpoint.url: the runtime does not allow the host judge")


def test_the_paths_of_what_reaches_beyond_the_pod() -> None:
    security = {"privileged": True, "capabilities": {"add": ["SYS_ADMIN"]}, "procMount": "Default"}
    pod = {
        "hostNetwork": True,
        "hostIPC": False,
        "volumes": [{"name": "a"}, {"name": "b", "hostPath": {"path": "/"}}],
        "containers": [{"securityContext": security, "ports": [{"containerPort": 1}, {"hostPort": 2}]}],
    }
    spec = RuntimeSpec.model_validate({"worker": {"template": {"spec": pod}}})
    assert forbidden(spec) == [
        "worker.template.spec.hostNetwork",
        "worker.template.spec.volumes[1].hostPath",
        "worker.template.spec.containers[0].securityContext.privileged",
        "worker.template.spec.containers[0].securityContext.capabilities.add",
        "worker.template.spec.containers[0].ports[1].hostPort",
    ]


@pytest.mark.parametrize("template", [{}, {"spec": None}, {"spec": {"containers": None, "volumes": "x"}}, {"spec": []}])
def test_a_template_that_is_no_template_has_nothing_forbidden(template: dict[str, Any]) -> None:
    assert forbidden(RuntimeSpec.model_validate({"sampler": {"template": template}})) == []


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({}, False),
        ({"names": [NAMESPACE]}, True),
        ({"names": ["team"]}, False),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "1", "b": "2"}}, True),
        ({"matchLabels": {"a": "1", "c": "3"}}, False),
        ({"names": ["team"], "matchLabels": {"a": "1"}}, True),
    ],
)
def test_a_namespace_is_meant_by_its_name_or_by_all_of_the_labels(selector: dict[str, Any], fits: bool) -> None:
    chosen = NamespaceSelector.model_validate(selector)
    assert chosen.fits(NAMESPACE, {"a": "1", "b": "2"}) is fits


class FakeCluster:
    """Takes ConfigMaps, and knows the namespace's labels."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = labels
        self.asked: list[str] = []

    async def namespace_labels(self, name: str) -> Mapping[str, str]:
        self.asked.append(name)
        return self.labels

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        raise NotFound(404, "NotFound", name)

    async def create(self, item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "metadata": item["metadata"] | {"uid": "c", "resourceVersion": "1"}}


def store(kind: str, **spec: object) -> Store:
    found = Store()
    namespace = {} if kind == "ClusterDistillationRuntime" else {"namespace": NAMESPACE}
    metadata = {"name": "gpu", "uid": "r", "resourceVersion": "1", **namespace}
    own = {"image": "i", "storage": {"uri": "pvc://data/x"}} | spec
    found.put(kind, {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": own})
    return found


async def settled(cluster: FakeCluster, kind: str, **spec: object) -> Settled | Waiting:
    settler = Settler(cluster, store(kind, **spec))  # type: ignore[arg-type]
    return await settler.settle(job(runtimeRef={"kind": kind, "name": "gpu"}))


async def test_a_job_waits_for_a_runtime_that_does_not_serve_its_namespace_yet() -> None:
    allowed = {"names": ["team-b"], "matchLabels": {"gpu": "yes"}}
    decided = await settled(FakeCluster({}), "ClusterDistillationRuntime", allowedNamespaces=allowed)
    assert isinstance(decided, Waiting)
    assert decided.hold.reason == "RuntimeNotAllowed"
    assert not decided.hold.final
    assert decided.place == ("ClusterDistillationRuntime", "", "gpu")
    assert "gpu does not serve the namespace team-a (its spec.allowedNamespaces)" in decided.hold.message


async def test_labels_are_read_only_where_they_decide() -> None:
    for allowed, asked in (
        ({"names": [NAMESPACE], "matchLabels": {"gpu": "yes"}}, []),
        ({"matchLabels": {"gpu": "yes"}}, [NAMESPACE]),
    ):
        cluster = FakeCluster({"gpu": "yes"})
        decided = await settled(cluster, "ClusterDistillationRuntime", allowedNamespaces=allowed)
        assert isinstance(decided, Settled)
        assert cluster.asked == asked


async def test_a_namespaces_own_runtime_is_refused_with_what_it_has_and_the_platform_teams_is_not() -> None:
    worker = {"template": {"spec": {"hostNetwork": True}}}
    decided = await settled(FakeCluster({}), "DistillationRuntime", worker=worker)
    assert isinstance(decided, Waiting)
    assert decided.hold.reason == "RuntimeForbidden"
    assert "worker.template.spec.hostNetwork" in decided.hold.message
    assert isinstance(await settled(FakeCluster({}), "ClusterDistillationRuntime", worker=worker), Settled)


async def test_the_winner_of_a_probe_is_held_to_the_runtimes_limits_as_well() -> None:
    found = store("ClusterDistillationRuntime", limits={"allowedModels": ["hf://org/student"]})
    spec = {
        "questions": [{"uri": "hf://org/q"}],
        "candidates": [{"name": n, "model": {"uri": f"hf://org/{n}"}} for n in ("a", "b")],
        "student": {"uri": "hf://org/student"},
        "evaluation": {"benchmarks": [{"name": "b", "uri": "hf://org/b"}]},
    }
    metadata = {"name": "probe", "namespace": NAMESPACE, "uid": "p", "resourceVersion": "1"}
    probe = {"apiVersion": API_VERSION, "kind": "TeacherProbe", "metadata": metadata, "spec": spec}
    found.put("TeacherProbe", probe | {"status": {"phase": "Complete", "winner": "b"}})
    settler = Settler(FakeCluster({}), found)  # type: ignore[arg-type]
    taking = job(
        runtimeRef={"kind": "ClusterDistillationRuntime", "name": "gpu"}, teacher={"probeRef": {"name": "probe"}}
    )
    decided = await settler.settle(taking)
    assert isinstance(decided, Waiting)
    assert decided.hold.final
    assert decided.hold.reason == "BadInput"
    assert "spec.teacher.probeRef: b.model.uri: the runtime does not allow hf://org/b" in decided.hold.message


@pytest.mark.parametrize("role", ["sampler", "trainer", "evaluator", "worker"])
def test_more_gpus_than_the_runtime_allows_a_stage_are_refused(role: str) -> None:
    runtime = {role: {"replicas": 2, "gpusPerReplica": 8}}
    allowed, exceeded = ({**runtime, "limits": {"maxGpus": n}} for n in (16, 15))
    assert refusals(job(), RuntimeSpec.model_validate(runtime)) == []
    assert refusals(job(), RuntimeSpec.model_validate(allowed)) == []
    (said,) = refusals(job(), RuntimeSpec.model_validate(exceeded))
    assert f"spec.{role}" in said
    assert "spec.limits.maxGpus allows a stage at most 15" in said
