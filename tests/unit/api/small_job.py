"""The manifest of a job with nothing in it but what it must have."""

from typing import Any

JOB: dict[str, Any] = {
    "apiVersion": "kubedistill.io/v1alpha1",
    "kind": "DistillationJob",
    "metadata": {"name": "a-job"},
    "spec": {
        "questions": [{"uri": "questions.jsonl"}],
        "teacher": {"model": {"uri": "hf://org/teacher"}},
        "student": {"uri": "hf://org/student"},
    },
}
