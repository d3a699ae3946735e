"""Manifests, and the stages that they would leave."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kubedistill_api.graph import RUN_FIELDS
from kubedistill_api.job import DistillationJob
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.study import DistillationStudy
from kubedistill_runtime.stages.context import StageContext
from tests.unit.report.synthetic_stages import Shape, build

Build = Callable[..., StageContext]


def job(**evaluation: Any) -> DistillationJob:
    return DistillationJob.model_validate(
        {
            "metadata": {"name": "ded-math", "namespace": "team-a"},
            "spec": {
                "questions": [{"uri": "hf://simplescaling/s1K-1.1", "split": "train", "domain": "math"}],
                "teacher": {
                    "model": {"uri": "hf://Qwen/QwQ-32B", "revision": "976055f"},
                    "sampling": {"samples": 8, "temperature": 0.6, "topP": 0.95},
                },
                "student": {"uri": "hf://deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"},
                "curation": {"difficulty": {"samples": 8, "maxPassRate": 0.6}, "diversity": {"trajectories": 4}},
                "training": {"epochs": 10, "learningRate": 1e-5, "globalBatchSize": 48},
                "evaluation": {
                    "samples": 8,
                    "maxTokens": 8192,
                    "passAt": [4],
                    "benchmarks": [{"name": "math-tiny", "uri": "hf://example/math-tiny"}],
                    **evaluation,
                },
            },
        }
    )


def probe(**procedure: Any) -> TeacherProbe:
    return TeacherProbe.model_validate(
        {
            "metadata": {"name": "which-teacher", "namespace": "team-a"},
            "spec": {
                "candidates": [
                    {"name": "careless", "model": {"uri": "embedded://models/careless-teacher"}},
                    {"name": "terse", "endpoint": {"url": "http://llm.team-a:8000/v1", "model": "terse-teacher"}},
                ],
                "questions": [{"uri": "embedded://questions/train.jsonl"}],
                "student": {"uri": "embedded://models/student"},
                "procedure": procedure,
                "evaluation": {
                    "samples": 8,
                    "benchmarks": [{"name": "math-tiny", "uri": "embedded://questions/benchmark.jsonl"}],
                },
            },
        }
    )


def study() -> DistillationStudy:
    spec = job().spec.model_dump(mode="json", by_alias=True, exclude=RUN_FIELDS)
    return DistillationStudy.model_validate(
        {
            "metadata": {"name": "what-helps", "namespace": "team-a"},
            "spec": {"job": spec, "ladder": ["right", "right-hard-diverse"], "seeds": [0, 1]},
        }
    )


@pytest.fixture
def a_job() -> DistillationJob:
    return job()


@pytest.fixture
def finished_job(tmp_path: Path) -> Build:
    made = count()

    def make(shape: Shape | None = None, *, only: set[str] | None = None, **evaluation: Any) -> StageContext:
        return build(tmp_path / f"storage{next(made)}", job(**evaluation), shape, only=only)

    return make


@pytest.fixture
def finished_probe(tmp_path: Path) -> Build:
    def make(shape: Shape | None = None, *, only: set[str] | None = None, **procedure: Any) -> StageContext:
        return build(tmp_path / "storage", probe(**procedure), shape, only=only)

    return make


@pytest.fixture
def finished_study(tmp_path: Path) -> Build:
    def make(shape: Shape | None = None) -> StageContext:
        return build(tmp_path / "storage", study(), shape)

    return make
