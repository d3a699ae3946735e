"""Two pods train as one does, and go on alone where one of them was lost."""

import json
import os
import signal
import stat
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubedistill_api.curation import CurationSpec
from kubedistill_api.data import ModelSource
from kubedistill_api.stage import CurateParams, StageSpec, TrainParams
from kubedistill_api.training import TrainingSpec
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.train.checkpoint import committed_steps
from tests.integration.pods.pods import PlayedPod, run_pods, stage_spec, started_pods
from tests.integration.sampling.sampling_stages import rows

pytestmark = pytest.mark.engine

STEPS = 120
PARAMS = TrainParams(
    model=ModelSource(uri="embedded://models/student"),
    training=TrainingSpec(
        epochs=STEPS // 8, learning_rate=3e-4, global_batch_size=8, context_length=256, checkpoint_every_steps=10
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a finished curate stage."""
    tmp = tmp_path_factory.mktemp("train-pods")
    context = StageContext(stage_spec(tmp / "curate", CurateParams(curation=CurationSpec()), {}))
    corpus = [
        {
            "question_id": row["question_id"],
            "sample_index": 0,
            "prompt": row["prompt"],
            "response": f"<think>\nLet me add.\n</think>\n\n{row['gold']}",
            "response_token_ids": [],
        }
        for row in rows("train", 64)
    ]
    pq.write_table(pa.Table.from_pylist(corpus), tmp / "curate" / "corpus.parquet")
    context.finish({"corpus": tmp / "curate" / "corpus.parquet"})
    return tmp


def train(folder: Path, name: str, replicas: int) -> StageSpec:
    return stage_spec(folder / name, PARAMS, {"curate": folder / "curate"}, replicas)


def losses(spec: StageSpec) -> list[float]:
    path = Path(spec.output_uri) / "metrics.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    assert [row["step"] for row in found] == list(range(1, len(found) + 1))
    return [row["loss"] for row in found]


@pytest.fixture(scope="module")
def reference(folder: Path) -> list[float]:
    """Losses of one pod with one process."""
    spec = train(folder, "one", 1)
    run_pods(folder / "one-pods", spec)
    return losses(spec)


def test_two_pods_train_with_the_losses_of_one(folder: Path, reference: list[float]) -> None:
    spec = train(folder, "two", 2)
    result, pods = run_pods(folder / "two-pods", spec)
    assert result.metrics["world_size"] == 2
    assert losses(spec) == pytest.approx(reference, rel=1e-5)
    assert len(reference) == STEPS
    assert "step" not in pods[1].log, "index 0 alone tells of steps"
    assert all(path.stat().st_mode & stat.S_IRGRP for path in Path(spec.output_uri).rglob("*"))


def kill_trainers(pod: PlayedPod) -> None:
    for process in psutil.Process(pod.process.pid).children(recursive=True):
        if "kubedistill_runtime.train.worker" in process.cmdline():
            os.kill(process.pid, signal.SIGKILL)


def test_a_training_that_loses_a_pod_asks_for_another_try_and_goes_on_at_another_size(
    folder: Path, reference: list[float]
) -> None:
    spec = train(folder, "lost", 2)
    checkpoints = Path(spec.output_uri) / "checkpoints"
    with started_pods(folder / "lost-pods", spec) as pods:
        while not committed_steps(checkpoints):
            assert pods[0].process.poll() is None, pods[0].log[-4000:]
            time.sleep(0.02)
        kill_trainers(pods[1])
        codes = [pod.wait() for pod in pods]
    assert codes == [75, 1], f"{pods[0].log[-2000:]}\n==\n{pods[1].log[-2000:]}"
    assert "another process of the training went away" in pods[0].message
    assert "exit code 137" in pods[1].message
    again = spec.model_copy(update={"role": spec.role.model_copy(update={"replicas": 1})})
    result, _ = run_pods(folder / "alone-pods", again, attempt=1)
    assert result.metrics["resumed_from_step"] >= 10
    assert losses(spec) == pytest.approx(reference, rel=1e-5)
