"""Stages on the embedded models, run as the executors run them: one process each, through its command."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kubedistill_api.data import Benchmark, DecontaminationSpec, ModelSource, QuestionSource
from kubedistill_api.stage import PrepareParams, StageParams, StageResult, StageSpec, TrainParams
from kubedistill_api.training import TrainingSpec
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.tiny import embedded_path

ENGINE_ENV = {"HF_HUB_OFFLINE": "1"}

QUESTIONS = pa.schema(
    [(name, pa.string()) for name in ("question_id", "domain", "question", "prompt", "gold", "tests")]
)


def rows(name: str, count: int) -> list[dict[str, Any]]:
    """The first questions of an embedded file, as prepare leaves them."""
    lines = embedded_path(f"questions/{name}.jsonl").read_text().splitlines()[:count]
    found = []
    for number, line in enumerate(lines):
        one = json.loads(line)
        found.append(
            {
                "question_id": f"{name}-{number}",
                "domain": "math",
                "question": one["question"],
                "prompt": one["question"],
                "gold": one["answer"],
                "tests": None,
            }
        )
    return found


def prepare(folder: Path, questions: list[dict[str, Any]], benchmark: list[dict[str, Any]]) -> Path:
    """A finished prepare stage with these questions."""
    params = PrepareParams(
        questions=[QuestionSource(uri="embedded://questions/train.jsonl")],
        benchmarks=[Benchmark(uri="embedded://questions/benchmark.jsonl", name="sums")],
        decontamination=DecontaminationSpec(),
        verification=VerificationSpec(),
    )
    context = StageContext(_spec("prepare", folder, params, {}))
    pq.write_table(pa.Table.from_pylist(questions, schema=QUESTIONS), folder / "questions.parquet")
    pq.write_table(
        pa.Table.from_pylist(
            [{**row, "benchmark": "sums"} for row in benchmark],
            schema=QUESTIONS.append(pa.field("benchmark", "string")),
        ),
        folder / "benchmarks.parquet",
    )
    context.finish({name: folder / f"{name}.parquet" for name in ("questions", "benchmarks")})
    return folder


def trained(folder: Path, model: str) -> Path:
    """A finished train stage with an embedded model as its student."""
    params = TrainParams(model=ModelSource(uri=f"embedded://models/{model}"), training=TrainingSpec())
    context = StageContext(_spec("train", folder, params, {}))
    shutil.copytree(embedded_path(f"models/{model}"), folder / "model")
    context.finish({"model": folder / "model"})
    return folder


def _spec(stage: str, folder: Path, params: StageParams, inputs: dict[str, Path]) -> StageSpec:
    return StageSpec(
        resource="DistillationJob/default/test",
        stage=stage,
        digest="0" * 64,
        params=params,
        inputs={role: str(path) for role, path in inputs.items()},
        output_uri=str(folder),
    )


@contextlib.contextmanager
def started_stage(folder: Path, params: StageParams, inputs: dict[str, Path]) -> Iterator[subprocess.Popen[str]]:
    """A stage in a process of its own, which ends with the context; its output goes to `log` in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = folder / "spec.json"
    spec.write_text(_spec(params.kind, folder, params, inputs).model_dump_json(by_alias=True))
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "kubedistill_runtime.stages", str(spec)],
            env={**os.environ, **ENGINE_ENV},
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run_stage(folder: Path, params: StageParams, inputs: dict[str, Path]) -> StageResult:
    """Runs a stage to its end."""
    with started_stage(folder, params, inputs) as process:
        code = process.wait(timeout=600)
    assert code == 0, (folder / "log").read_text()[-4000:]
    return StageResult.model_validate_json((folder / "result.json").read_bytes())
