"""Two pods draw what one draws, also when they are stopped on the way and come again."""

import stat
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubedistill_api.data import EngineSpec, ModelSource, TeacherSampling
from kubedistill_api.stage import SampleParams, StageResult, StageSpec
from kubedistill_api.verification import VerificationSpec
from tests.integration.pods.pods import GRACE_S, run_pods, stage_spec, started_pods
from tests.integration.sampling.sampling_stages import prepare, rows

pytestmark = pytest.mark.engine

EVERY_ENGINE = (str(Path(__file__).with_name("all_engines.py")),)
QUESTIONS, SAMPLES = 100, 8
PARAMS = SampleParams(
    model=ModelSource(uri="embedded://models/careless-teacher"),
    engine=EngineSpec(max_num_seqs=16, max_model_len=256),
    sampling=TeacherSampling(samples=SAMPLES, temperature=1.0, top_p=1.0, max_tokens=128),
    verification=VerificationSpec(),
)


def sample(tmp: Path, name: str, replicas: int) -> StageSpec:
    return stage_spec(tmp / name, PARAMS, {"prepare": tmp / "prepare"}, replicas)


def drawn(spec: StageSpec) -> list[dict[str, Any]]:
    """The traces, without how long they took."""
    table = pq.read_table(Path(spec.output_uri) / "traces.parquet")
    return table.drop_columns(["latency_seconds", "verify_seconds"]).to_pylist()


def recorded(spec: StageSpec) -> int:
    """Durable traces of a stage that is under way."""
    found = 0
    for part in (Path(spec.output_uri) / "traces").glob("*.arrow"):
        try:
            found += pa.ipc.open_file(part.read_bytes()).read_all().num_rows
        except FileNotFoundError:  # became part of another meanwhile
            continue
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp = tmp_path_factory.mktemp("pods")
    prepare(tmp / "prepare", rows("train", QUESTIONS), [])
    return tmp


@pytest.fixture(scope="module")
def reference(folder: Path) -> list[dict[str, Any]]:
    """What one pod draws."""
    spec = sample(folder, "one", 1)
    run_pods(folder / "one-pods", spec)
    return drawn(spec)


@pytest.fixture(scope="module")
def stopped(folder: Path) -> StageSpec:
    """A stage of two pods that were told to end while they drew."""
    spec = sample(folder, "two", 2)
    with started_pods(folder / "first-pods", spec) as pods:
        while recorded(spec) < 50:
            assert pods[0].process.poll() is None, pods[0].log[-4000:]
            time.sleep(0.05)
        for pod in pods:
            pod.process.terminate()
        assert [pod.wait(GRACE_S + 10) for pod in pods] == [143, 143]
    assert not (folder / "two" / "result.json").exists(), "looks finished"
    assert recorded(spec) >= 50
    return spec


def test_two_pods_that_were_stopped_and_came_again_draw_what_one_draws(
    stopped: StageSpec, reference: list[dict[str, Any]], folder: Path
) -> None:
    before = recorded(stopped)
    # Pods of a suspended job come again under the same attempt.
    result, pods = run_pods(folder / "second-pods", stopped, program=EVERY_ENGINE)
    assert result.metrics["resumed_from"] == before
    assert result.metrics["engines"] == 2, "both pods drew"
    assert drawn(stopped) == reference
    assert "joined the Ray cluster" in pods[1].log
    assert pods[1].message == "", "index 0 alone leaves the result"
    left = sorted(path.name for path in Path(stopped.output_uri).iterdir())
    whole = [".owner", "progress.json", "result.json", "sources.json", "spec.json", "traces.parquet"]
    assert left == whole, "no token stays"
    assert all(path.stat().st_mode & stat.S_IRGRP for path in Path(stopped.output_uri).rglob("*"))


def test_what_a_lost_pod_had_under_way_is_drawn_by_the_other(reference: list[dict[str, Any]], folder: Path) -> None:
    spec = sample(folder, "alone", 2)
    with started_pods(folder / "alone-pods", spec, program=EVERY_ENGINE) as pods:
        while recorded(spec) < 50:
            assert pods[0].process.poll() is None, pods[0].log[-4000:]
            time.sleep(0.05)
        pods[1].lose()
        assert pods[0].wait() == 0, pods[0].log[-4000:]
    assert drawn(spec) == reference
    result = StageResult.model_validate_json((Path(spec.output_uri) / "result.json").read_bytes())
    assert result.metrics["engine_restarts"] == 1, "it drew when it was lost"
