"""Manifests: what is read, and how paths are resolved."""

from pathlib import Path

import pytest

from kubedistill_api.job import DistillationJob
from kubedistill_api.manifest import ManifestError, absolute_uri, load, with_absolute_uris

JOB = """
apiVersion: kubedistill.io/v1alpha1
kind: DistillationJob
metadata: {name: small, namespace: team-a}
spec:
  questions: [{uri: data/q.jsonl}]
  teacher: {model: {uri: "hf://org/teacher"}}
  student: {uri: ../student}
"""
RUNTIME = """
apiVersion: kubedistill.io/v1alpha1
kind: %s
metadata: {name: gpus, namespace: %s}
spec: {trainer: {gpusPerReplica: 2}}
"""


def job_with(spec_lines: str) -> str:
    return JOB + "".join(f"  {line}\n" for line in spec_lines.splitlines())


def only_job(text: str) -> DistillationJob:
    (job,) = load(text).resources
    assert isinstance(job, DistillationJob)
    return job


def test_several_documents_give_resources_and_runtimes_in_their_order() -> None:
    other = JOB.replace("small", "other")
    text = "---".join([JOB, RUNTIME % ("ClusterDistillationRuntime", "default"), other, ""])
    manifest = load(text)
    assert [r.metadata.name for r in manifest.resources] == ["small", "other"]
    assert [r.metadata.name for r in manifest.runtimes] == ["gpus"]


def test_a_number_with_an_exponent_is_a_number() -> None:
    job = only_job(job_with("training: {learningRate: 1e-5, contextLength: 1e4}"))
    assert job.spec.training.learning_rate == 1e-5
    assert job.spec.training.context_length == 10_000


def test_a_date_stays_the_text_that_it_is_in_kubernetes() -> None:
    text = JOB.replace("uri: ../student", "uri: ../student, revision: 2024-01-01")
    assert only_job(text).spec.student.revision == "2024-01-01"


def test_what_kubectl_prints_is_a_manifest() -> None:
    text = JOB + "status: {phase: Running, stages: [{name: prepare, future: field}]}\n"
    text = text.replace(
        "namespace: team-a", "namespace: team-a, managedFields: [], creationTimestamp: 2026-01-01T00:00:00Z"
    )
    job = only_job(text)
    assert job.status is None
    assert job.metadata.creation_timestamp is not None


def test_a_runtime_of_the_namespace_serves_only_its_namespace() -> None:
    ref = job_with("runtimeRef: {kind: DistillationRuntime, name: gpus}")
    for namespace, there in (("team-a", True), ("team-b", False)):
        manifest = load(ref + "---" + RUNTIME % ("DistillationRuntime", namespace))
        found = manifest.runtime_of(manifest.resources[0])
        assert (found is not None) == there
    manifest = load(job_with("runtimeRef: {name: gpus}") + "---" + RUNTIME % ("ClusterDistillationRuntime", "other"))
    found = manifest.runtime_of(manifest.resources[0])
    assert found is not None
    assert found.trainer.gpus == 2


def test_without_a_reference_there_is_no_runtime() -> None:
    manifest = load(JOB + "---" + RUNTIME % ("ClusterDistillationRuntime", "default"))
    assert manifest.runtime_of(manifest.resources[0]) is None


def test_paths_start_at_the_folder_of_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    path = tmp_path / "jobs" / "job.yaml"
    path.write_text(JOB + "  output: {uri: out}\n")
    (job,) = load(path).resolved().resources
    assert isinstance(job, DistillationJob)
    assert job.spec.questions[0].uri == f"file://{tmp_path}/jobs/data/q.jsonl"
    assert job.spec.student.uri == f"file://{tmp_path}/student"
    assert job.spec.output is not None
    assert job.spec.output.uri == f"file://{tmp_path}/jobs/out"
    assert job.spec.teacher.model is not None
    assert job.spec.teacher.model.uri == "hf://org/teacher"


def test_resolving_adds_nothing_that_the_user_did_not_write() -> None:
    job = only_job(JOB)
    resolved = with_absolute_uris(job, Path("/x"))
    assert resolved.spec.model_fields_set == job.spec.model_fields_set
    assert with_absolute_uris(resolved, Path("/y")) == resolved


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("q.jsonl", "file:///a/b/q.jsonl"),
        ("./x/../q.jsonl", "file:///a/b/q.jsonl"),
        ("../../../../q.jsonl", "file:///q.jsonl"),
        ("/data/q.jsonl", "file:///data/q.jsonl"),
        ("file://q.jsonl", "file:///a/b/q.jsonl"),
        ("file:///q.jsonl", "file:///q.jsonl"),
        ("pvc://claim/q.jsonl", "pvc://claim/q.jsonl"),
        ("embedded://models/student", "embedded://models/student"),
    ],
)
def test_a_uri_becomes_absolute(uri: str, expected: str) -> None:
    assert absolute_uri(uri, Path("/a/b")) == expected


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        load(tmp_path / "missing.yaml")
    with pytest.raises(ManifestError, match="directory"):
        load(tmp_path)


def test_bytes_that_are_not_utf8_are_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes("# caf\xe9\n".encode("latin-1"))
    with pytest.raises(ManifestError, match="UTF-8"):
        load(path)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("\ufeff" + JOB)
    assert load(path).resources
