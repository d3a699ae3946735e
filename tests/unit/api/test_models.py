"""The models say what they promise."""

from typing import Any

import pytest
from pydantic import ValidationError

from kubedistill_api.job import DistillationJob
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.runtime import ClusterDistillationRuntime, DistillationRuntime
from kubedistill_api.stage import StageResult, StageSpec
from tests.unit.api.small_job import JOB


def with_field(path: str, value: object) -> dict[str, Any]:
    """JOB with one field set; the path's last part is the field."""
    job: dict[str, Any] = DistillationJob.model_validate(JOB).model_dump(mode="json", by_alias=True, exclude_unset=True)
    *parents, last = path.split(".")
    place = job
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return job


def errors(job: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        DistillationJob.model_validate(job)
    return str(caught.value)


@pytest.mark.parametrize(
    "model",
    [DistillationJob, TeacherProbe, DistillationRuntime, ClusterDistillationRuntime, StageSpec, StageResult],
)
def test_every_field_has_a_description(model: type) -> None:
    schema = model.model_json_schema(by_alias=True)  # type: ignore[attr-defined]
    parts = {model.__name__: schema} | schema.get("$defs", {})
    bare = [
        f"{name}.{field}"
        for name, part in parts.items()
        for field, body in part.get("properties", {}).items()
        # pydantic leaves a description out where it equals the one of the model that the field refers to
        if not (body.get("description") or parts[body.get("$ref", "/").rsplit("/", 1)[1]].get("description"))
    ]
    assert bare == []


def test_the_shortest_job_has_sensible_defaults() -> None:
    spec = DistillationJob.model_validate(JOB).spec
    assert spec.teacher.sampling.max_tokens == 16384
    assert spec.training.epochs == 10
    assert spec.training.global_batch_size == 48
    assert spec.evaluation.samples == 16
    assert spec.curation.diversity.trajectories == 4


def test_a_job_survives_the_trip_through_json() -> None:
    job = DistillationJob.model_validate(with_field("spec.curation.difficulty", {"keepHardest": 0.28}))
    assert DistillationJob.model_validate_json(job.model_dump_json(by_alias=True)) == job


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("spec.surprise", 1, "surprise"),
        ("spec.teacher.sampling", {"tempreature": 1}, "tempreature"),
        ("spec.teacher.sampling", {"temperature": 2.5}, "less than or equal to 2"),
        ("spec.teacher.sampling", {"topP": 0}, "greater than 0"),
        ("spec.teacher.sampling", {"samples": 0}, "greater than or equal to 1"),
        ("spec.teacher.sampling", {"samples": 4, "stopAfterVerified": 5}, "can never be reached"),
        ("spec.teacher.sampling", {"samples": 4, "temperature": 0}, "same response"),
        ("spec.teacher", {"model": {"uri": "a"}, "probeRef": {"name": "b"}}, "exactly one of model, endpoint"),
        ("spec.teacher", {}, "got none"),
        ("spec.questions", [], "at least 1 item"),
        ("spec.questions", [{"uri": "a b://c"}], "pattern"),
        ("spec.questions", [{"uri": "a", "promptTemplate": "no place"}], "must contain {question}"),
        ("spec.curation.difficulty", {"maxPassRate": 0.5, "keepHardest": 0.3}, "set one of them"),
        ("spec.evaluation", {"samples": 4, "passAt": [8]}, "at least as many samples"),
        ("metadata.name", "Upper_Case", "pattern"),
        ("metadata.name", "x" * 41, "at most 40"),
    ],
)
def test_a_wrong_job_is_refused_with_what_is_wrong(path: str, value: object, told: str) -> None:
    assert told in errors(with_field(path, value))


def test_all_errors_come_at_once() -> None:
    job = with_field("spec.teacher.sampling", {"samples": 0, "topP": 2})
    job["spec"]["nonsense"] = True
    text = errors(job)
    assert "samples" in text
    assert "topP" in text
    assert "nonsense" in text


def test_metadata_that_only_kubernetes_knows_is_accepted() -> None:
    job = with_field("metadata.managedFields", [])
    assert DistillationJob.model_validate(job).metadata.name == "a-job"


def test_candidates_of_a_probe_need_different_names() -> None:
    candidate = {"name": "a", "model": {"uri": "hf://org/a"}}
    spec = JOB["spec"] | {"candidates": [candidate, candidate], "evaluation": {"benchmarks": []}}
    del spec["teacher"]
    with pytest.raises(ValidationError, match="candidate names must differ"):
        TeacherProbe.model_validate({"metadata": {"name": "p"}, "spec": spec})


def test_a_termination_message_fits_into_its_four_kibibytes() -> None:
    result = StageResult.model_validate(
        {
            "stage": "sample",
            "kind": "sample",
            "digest": "d",
            "started": "2026-01-01T00:00:00Z",
            "finished": "2026-01-01T00:00:01Z",
            "metrics": {f"metric-{i}": i for i in range(1000)},
            "outputs": {"traces": {"uri": "traces.parquet", "digest": "sha256:0"}},
        }
    )
    message = result.termination_message()
    assert len(message.encode()) <= 4096
    assert "traces.parquet" in message
