"""Who refers to what: local records of any version, and resources of a cluster with and without a status."""

import json
import os
import shutil
from typing import Any

import pytest
import yaml

from kubedistill_api.manifest import load
from kubedistill_api.planning import plan
from kubedistill_api.probe import TeacherProbe
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.garbage import keep
from kubedistill_runtime.garbage.keep import mentioned, of_cluster, of_workspace
from kubedistill_runtime.local.fingerprints import sources
from kubedistill_runtime.local.workspace import Workspace

JOB = {
    "apiVersion": "kubedistill.io/v1alpha1",
    "kind": "DistillationJob",
    "metadata": {"name": "one", "namespace": "team-a"},
    "spec": {
        "student": {"uri": "embedded://models/student"},
        "teacher": {"model": {"uri": "embedded://models/careless-teacher"}},
        "questions": [{"uri": "embedded://questions/train.jsonl"}],
        "evaluation": {"benchmarks": [{"name": "sums", "uri": "embedded://questions/benchmark.jsonl"}]},
    },
}
SERVED = {"uid": "1f9d", "resourceVersion": "12", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
"""What the API server adds."""


def served(item: dict[str, Any], **status: Any) -> dict[str, Any]:
    managed = [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}]
    metadata = {**item["metadata"], **SERVED, "managedFields": managed}
    return {**item, "metadata": metadata, "status": status}


def listed(*items: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items), "metadata": {}})


def planned(item: dict[str, Any], **more: Any) -> set[str]:
    return {node.digest[:16] for node in plan(load(yaml.safe_dump(item)).resources[0], **more).nodes}


def probe() -> dict[str, Any]:
    spec = {key: value for key, value in JOB["spec"].items() if key != "teacher"}  # type: ignore[attr-defined]
    candidates = [{"name": n, "model": {"uri": f"embedded://models/{n}-teacher"}} for n in ("careless", "terse")]
    name = {"name": "which", "namespace": "team-a"}
    return {**JOB, "kind": "TeacherProbe", "metadata": name, "spec": {**spec, "candidates": candidates}}


def of_probe() -> dict[str, Any]:
    return {**JOB, "spec": {**JOB["spec"], "teacher": {"probeRef": {"name": "which"}}}}  # type: ignore[dict-item]


def test_digests_are_found_whole_and_as_folders_have_them() -> None:
    text = f'{{"digest": "{"a" * 64}", "uri": "pvc://w/stages/train-{"b" * 16}/model", "no": "{"c" * 20} {"D" * 64}"}}'
    assert mentioned(text) == {"a" * 16, "b" * 16}


def test_a_record_counts_whatever_version_wrote_it(stages: Any) -> None:
    stages.record("one", "a" * 64, "b" * 64)
    stages.record("two", "b" * 64)
    (stages.record("broken") / "status.json").write_text(f"{{ half {'c' * 64}")
    assert of_workspace(Workspace(stages.namespace)) == {
        "a" * 16: "DistillationJob team-a/one",
        "b" * 16: "DistillationJob team-a/one",
        "c" * 16: "DistillationJob team-a/broken",
    }


def test_records_are_read_again_when_one_has_changed(stages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Workspace] = []

    def counted(workspace: Workspace) -> dict[str, str]:
        read.append(workspace)
        return of_workspace(workspace)

    monkeypatch.setattr(keep, "of_workspace", counted)
    records = keep.Records(Workspace(stages.namespace))
    first = stages.record("one", "a" * 64)
    assert records.now() == records.now() == {"a" * 16: "DistillationJob team-a/one"}
    assert len(read) == 1
    (first / "status.json").write_text("b" * 64)
    os.utime(first / "status.json", (1, 1))
    stages.record("two", "c" * 64)
    assert records.now().keys() == {"b" * 16, "c" * 16}
    shutil.rmtree(first)
    assert records.now().keys() == {"c" * 16}


def test_a_manifest_counts_before_there_is_a_status(stages: Any) -> None:
    path = stages.namespace / "jobs" / "DistillationJob" / "one"
    path.mkdir(parents=True)
    (path / "manifest.yaml").write_text(yaml.safe_dump(JOB))
    found = sources(load(path / "manifest.yaml").resources[0])
    assert set(of_workspace(Workspace(stages.namespace))) == planned(JOB, sources=found)
    (path / "manifest.yaml").write_text("kind: SomethingNew")
    assert of_workspace(Workspace(stages.namespace)) == {}


def test_a_resource_of_a_cluster_counts_by_its_plan_and_by_its_status() -> None:
    found = of_cluster(listed(served(JOB, stages=[{"name": "prepare", "digest": "a" * 64}])))
    assert found["a" * 16] == "DistillationJob team-a/one"
    assert found.keys() == planned(JOB) | {"a" * 16}
    assert of_cluster(listed(served(JOB))).keys() == planned(JOB), "restored, and not looked at yet"


@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump])
def test_json_and_yaml_lists_and_single_resources_are_the_same(dump: Any) -> None:
    assert of_cluster(dump(json.loads(listed(JOB)))) == of_cluster(dump(JOB)) == of_cluster(listed(JOB))
    assert of_cluster(dump(json.loads(listed()))) == {}, "a cluster without jobs"


def test_a_job_has_the_winner_of_its_probe_for_a_teacher() -> None:
    winner = next(c for c in load_probe().spec.candidates if c.name == "terse")
    found = of_cluster(listed(of_probe(), served(probe(), winner="terse")))
    assert found.keys() == planned(of_probe(), teacher=winner) | planned(probe())
    assert of_cluster(listed(of_probe(), probe())).keys() == planned(probe()), "without a winner it has not begun"


def load_probe() -> TeacherProbe:
    resource = load(yaml.safe_dump(probe())).resources[0]
    assert isinstance(resource, TeacherProbe)
    return resource


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("{", "not the JSON"),
        ("a: [", "is empty, or holds"),
        (listed({"kind": "Pod", "metadata": {"name": "x"}}), "no job, probe or study"),
        (listed(JOB).replace('"student"', '"pupil"'), "DistillationJob one cannot be read"),
        (listed(JOB).replace("v1alpha1", "v9"), "use the version of kubedistill that its cluster has"),
    ],
)
def test_what_cannot_be_read_is_never_taken_for_nothing(text: str, said: str) -> None:
    with pytest.raises(BadInput, match="--keep-from") as error:
        of_cluster(text)
    assert said in str(error.value)
