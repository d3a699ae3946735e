"""What a resource is refused for on a runtime."""

import pytest

from kubedistill_api.job import DistillationJob
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_operator.admission import refusals

JOB = DistillationJob.model_validate(
    {
        "metadata": {"name": "demo"},
        "spec": {
            "questions": [{"uri": "hf://org/questions"}],
            "teacher": {"model": {"uri": "hf://org/teacher"}},
            "student": {"uri": "hf://org/student"},
        },
    }
)


@pytest.mark.parametrize("role", ["sampler", "trainer", "evaluator", "worker"])
def test_more_gpus_than_the_runtime_allows_a_stage_are_refused(role: str) -> None:
    runtime = {role: {"replicas": 2, "gpusPerReplica": 8}}
    allowed, exceeded = ({**runtime, "limits": {"maxGpus": n}} for n in (16, 15))
    assert refusals(JOB, RuntimeSpec.model_validate(runtime)) == []
    assert refusals(JOB, RuntimeSpec.model_validate(allowed)) == []
    (said,) = refusals(JOB, RuntimeSpec.model_validate(exceeded))
    assert f"spec.{role}" in said
    assert "spec.limits.maxGpus allows a stage at most 15" in said
