"""Manifests of children: what makes a pod a stage, and what the platform team's template keeps."""

import json

import pytest

from kubedistill_api.graph import Graph
from kubedistill_api.job import DistillationJob
from kubedistill_api.planning import plan
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_api.stage import StageSpec
from kubedistill_operator.children import plan_map, stage_children
from kubedistill_operator.names import LONGEST, PRIORITY_LABEL, QUEUE_LABEL, child_name
from kubedistill_operator.templates import BadTemplate

KEY = {"name": "hub", "key": "HF_TOKEN"}


def job(name: str = "demo", **spec: object) -> DistillationJob:
    own: dict[str, object] = {
        "questions": [{"uri": "pvc://data/questions.jsonl"}],
        "teacher": {"model": {"uri": "hf://org/teacher", "tokenSecretRef": KEY}},
        "student": {"uri": "embedded://models/student"},
        "output": {"uri": "pvc://models/demo"},
    }
    meta = {"name": name, "namespace": "team-a", "uid": "0b5c"}
    return DistillationJob.model_validate({"metadata": meta, "spec": own | spec})


def runtime(**spec: object) -> RuntimeSpec:
    return RuntimeSpec.model_validate({"image": "image:1", "storage": {"uri": "pvc://storage/kubedistill"}} | spec)


def child(stage: str, spec: RuntimeSpec, resource: DistillationJob | None = None, attempt: int = 0):
    resource = resource or job()
    return stage_children(resource, plan(resource), spec, stage, attempt)


def pod_of(manifest: dict) -> dict:
    return manifest["spec"]["template"]["spec"]


def container_of(manifest: dict) -> dict:
    (container,) = [c for c in pod_of(manifest)["containers"] if c["name"] == "stage"]
    return container


def graph_of(resource: DistillationJob) -> Graph:
    return plan(resource)


def test_a_pod_meets_the_restricted_level_and_has_no_api_token() -> None:
    manifest, service = child("prepare", runtime())
    pod, container = pod_of(manifest), container_of(manifest)
    assert service is None
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_template_of_the_runtime_wins_where_it_speaks() -> None:
    template = {
        "metadata": {"labels": {"team": "platform"}},
        "spec": {
            "nodeSelector": {"gpu": "h100"},
            "securityContext": {"runAsUser": 7},
            "containers": [{"name": "sidecar", "image": "s"}, {"name": "stage", "image": "own:2", "command": ["run"]}],
        },
    }
    manifest, _ = child("train", runtime(trainer={"template": template, "gpusPerReplica": 8}))
    pod, container = pod_of(manifest), container_of(manifest)
    assert pod["nodeSelector"] == {"gpu": "h100"}
    assert pod["securityContext"]["runAsUser"] == 7
    assert (container["image"], container["command"]) == ("own:2", ["run"])
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    assert [c["name"] for c in pod["containers"]] == ["sidecar", "stage"]
    assert manifest["spec"]["template"]["metadata"]["labels"]["team"] == "platform"


def test_claims_are_mounted_and_only_the_storage_is_written() -> None:
    manifest, _ = child("prepare", runtime())
    mounts = {m["mountPath"]: m.get("readOnly") for m in container_of(manifest)["volumeMounts"]}
    assert mounts["/mnt/pvc/storage"] is False
    assert mounts["/mnt/pvc/data"] is True
    assert "/mnt/pvc/models" not in mounts


def test_the_report_writes_to_the_output_as_well() -> None:
    manifest, _ = child("report", runtime())
    mounts = {m["mountPath"]: m.get("readOnly") for m in container_of(manifest)["volumeMounts"]}
    assert mounts["/mnt/pvc/models"] is False


def test_only_the_stage_that_reads_a_secret_gets_it() -> None:
    sample, curate = child("sample", runtime())[0], child("curate", runtime())[0]
    names = {e["name"]: e.get("valueFrom") for e in container_of(sample)["env"]}
    assert names["HF_TOKEN"] == {"secretKeyRef": KEY}
    assert "HF_TOKEN" not in json.dumps(curate)


def test_two_secrets_for_one_variable_are_refused() -> None:
    spec = {"questions": [
        {"uri": "hf://a/b", "tokenSecretRef": KEY},
        {"uri": "hf://a/c", "tokenSecretRef": {"name": "other", "key": "HF_TOKEN"}},
    ]}  # fmt: skip
    with pytest.raises(BadTemplate, match="hub and other both have the key HF_TOKEN"):
        child("prepare", runtime(), job(**spec))


def test_a_runtime_without_an_image_is_refused() -> None:
    with pytest.raises(BadTemplate, match=r"spec\.image"):
        child("prepare", runtime(image=None))


def test_several_pods_find_the_first_by_the_name_of_a_headless_service() -> None:
    manifest, service = child("sample", runtime(sampler={"replicas": 3}))
    name = manifest["metadata"]["name"]
    assert service is not None
    assert service["metadata"]["name"] == name == pod_of(manifest)["subdomain"]
    assert service["spec"]["clusterIP"] == "None"
    env = {e["name"]: e.get("value") for e in container_of(manifest)["env"]}
    assert env["MASTER_ADDR"] == f"{name}-0.{name}"
    assert manifest["spec"]["completions"] == manifest["spec"]["parallelism"] == 3
    assert manifest["spec"]["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}


def test_all_pods_of_a_training_must_end_well() -> None:
    manifest, _ = child("train", runtime(trainer={"replicas": 2}))
    assert "successPolicy" not in manifest["spec"]


def test_a_child_of_a_queue_is_made_suspended_with_the_priority_of_its_resource() -> None:
    assert "suspend" not in child("train", runtime())[0]["spec"]
    labels = {QUEUE_LABEL: "own", PRIORITY_LABEL: "high", "team": "a"}
    own = job().model_copy(update={"metadata": job().metadata.model_copy(update={"labels": labels})})
    manifest, service = child("train", runtime(trainer={"replicas": 2}), own)
    assert manifest["spec"]["suspend"] is True
    assert manifest["metadata"]["labels"].items() >= {QUEUE_LABEL: "own", PRIORITY_LABEL: "high"}.items()
    for other in (service, manifest["spec"]["template"]):
        assert not other["metadata"]["labels"].keys() & labels.keys()
    unqueued = own.model_copy(update={"metadata": own.metadata.model_copy(update={"labels": {PRIORITY_LABEL: "high"}})})
    assert PRIORITY_LABEL not in child("train", runtime(), unqueued)[0]["metadata"]["labels"]


def test_the_queue_of_the_job_goes_before_that_of_the_runtime() -> None:
    assert child("train", runtime(queueName="shared"))[0]["metadata"]["labels"][QUEUE_LABEL] == "shared"
    own = job().model_copy(update={"metadata": job().metadata.model_copy(update={"labels": {QUEUE_LABEL: "own"}})})
    assert child("train", runtime(queueName="shared"), own)[0]["metadata"]["labels"][QUEUE_LABEL] == "own"


def test_names_fit_and_tell_namesakes_apart() -> None:
    long = job("a" * 40)
    names = {child_name(long, stage, n) for stage in ("evaluate-" + "b" * 20, "sample-" + "b" * 20) for n in (0, 11)}
    assert len(names) == 4
    assert all(len(name) <= LONGEST for name in names)
    again = job().model_copy(update={"metadata": job().metadata.model_copy(update={"uid": "another"})})
    assert child_name(job(), "train", 0) != child_name(again, "train", 0)


def test_the_config_map_has_the_runtime_and_a_spec_for_each_stage() -> None:
    data = plan_map(job(), graph_of(job()), runtime(), None)["data"]
    assert RuntimeSpec.model_validate_json(data["runtime.json"]) == runtime()
    specs = {key: StageSpec.model_validate_json(text) for key, text in data.items() if key != "runtime.json"}
    assert {f"{node.name}.json" for node in graph_of(job()).nodes} == set(specs)
    assert specs["train.json"].inputs["curate"].startswith("pvc://storage/kubedistill/team-a/stages/curate-")
    assert specs["report.json"].deliver_to == "pvc://models/demo"
    assert specs["train.json"].deliver_to is None


def test_null_in_a_template_is_as_good_as_nothing() -> None:
    template = {
        "metadata": {"labels": None, "annotations": None},
        "spec": {
            "securityContext": None,
            "volumes": None,
            "containers": [{"name": "stage", "env": None, "ports": None, "securityContext": None}],
        },
    }
    assert child("prepare", runtime(worker={"template": template})) == child("prepare", runtime())
