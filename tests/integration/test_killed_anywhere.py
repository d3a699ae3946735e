"""A job that is killed at twenty moments spread over all stages ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(3600)]

KILLS_PER_STAGE = 3
MOMENT_S = 900.0
"""Within which a moment comes on a busy machine: nothing is gained by giving up early."""
STAGES = ("prepare", "baseline", "sample", "curate", "train", "evaluate", "report")
RECORDS = {
    "baseline": "pass_rates/*.arrow",
    "sample": "traces/*.arrow",
    "train": "checkpoints/step-*",
    "evaluate": "results/*.arrow",
}
"""What stages that go on where they were leave on the disk before they end. Traces and answers are more than
`FLUSH_RECORDS`, so that some are there while others are still drawn, however quick the machine."""
LEFT_OUT = ["latency_seconds", "verify_seconds"]
"""Columns that measure time."""

MANIFEST = """
apiVersion: kubedistill.io/v1alpha1
kind: DistillationJob
metadata: {name: killed}
spec:
  questions:
  - {uri: "embedded://questions/train.jsonl", domain: math, limit: 150}
  teacher:
    model: {uri: "embedded://models/careless-teacher"}
    sampling: {samples: 6, temperature: 1.0, topP: 1.0, maxTokens: 128, stopAfterVerified: 3}
    engine: {dtype: float32, maxModelLen: 256, maxNumSeqs: 16, enforceEager: true}
  student:
    uri: "embedded://models/student"
    engine: {dtype: float32, maxModelLen: 256, maxNumSeqs: 16, enforceEager: true}
  curation:
    difficulty: {samples: 4, temperature: 1.0, topP: 1.0, maxTokens: 128, keepHardest: 0.2}
    diversity: {trajectories: 2}
  training: {epochs: 6, learningRate: 3e-4, globalBatchSize: 8, contextLength: 256, checkpointEverySteps: 4}
  evaluation:
    samples: 6
    temperature: 1.0
    topP: 1.0
    maxTokens: 128
    benchmarks: [{name: sums, uri: "embedded://questions/benchmark.jsonl", domain: math}]
"""


@dataclass(frozen=True)
class Kill:
    """When to kill: so far into a stage, as a part of the seconds that it takes undisturbed; or, without a part, once
    its first records are on the disk, which at a random moment of a busy machine may happen in no run."""

    stage: str
    part: float | None
    whole_tree: bool

    def is_due(self, folder: Path, running_s: float, usual_s: float) -> bool:
        if self.part is None:
            return any(folder.glob(RECORDS[self.stage]))
        return running_s >= self.part * usual_s


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("killed") / "job.yaml"
    path.write_text(MANIFEST)
    return path


def start(manifest: Path, root: Path) -> subprocess.Popen[bytes]:
    root.mkdir(parents=True, exist_ok=True)
    log = (root / "run.log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "kubedistill_runtime.cli", "run", str(manifest), "--root", str(root)],
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def stage_folder(root: Path, stage: str) -> Path | None:
    found = sorted((root / "default" / "stages").glob(f"{stage}-*"))
    return found[0] if found else None


def result(root: Path, stage: str) -> dict:
    folder = stage_folder(root, stage)
    assert folder is not None
    return json.loads((folder / "result.json").read_text())


def seconds_of(root: Path, stage: str) -> float:
    times = result(root, stage)
    return (datetime.fromisoformat(times["finished"]) - datetime.fromisoformat(times["started"])).total_seconds()


def rows(path: Path) -> list[dict]:
    table = pq.read_table(path)
    return table.drop_columns([name for name in LEFT_OUT if name in table.column_names]).to_pylist()


def recorded(folder: Path | None) -> dict[tuple[str, int], list[int]]:
    """What is on the disk of a sample stage: the drawn token ids by key."""
    if folder is None:
        return {}
    found: dict[tuple[str, int], list[int]] = {}
    for part in folder.glob("traces/*.arrow"):
        try:
            table = pa.ipc.open_file(part.read_bytes()).read_all()
        except FileNotFoundError:  # became part of another meanwhile
            continue
        for row in table.to_pylist():
            found[row["question_id"], row["sample_index"]] = row["response_token_ids"]
    return found


def running(root: Path, since: str) -> str:
    """The first stage from ``since`` on that has not ended; the last one when all have."""
    for stage in STAGES[STAGES.index(since) :]:
        folder = stage_folder(root, stage)
        if folder is None or not (folder / "result.json").exists():
            return stage
    return STAGES[-1]


def wait_and_kill(process: subprocess.Popen[bytes], root: Path, kill: Kill, usual: dict[str, float]) -> str | None:
    """Kills the run in the moment asked for, and tells in which stage. A stage may be quicker than usual: when it ends
    before its moment, the run is killed at its end; when it had ended before the run began, the moment is the next
    stage's. None when the run came to its end."""
    aim = running(root, kill.stage)
    deadline = time.monotonic() + MOMENT_S
    seen: float | None = None
    while time.monotonic() < deadline and process.poll() is None:
        folder = stage_folder(root, aim)
        if folder is not None and any((folder / "log").glob("*")):
            seen = seen or time.monotonic()
            if (folder / "result.json").exists() or kill.is_due(folder, time.monotonic() - seen, usual[aim]):
                break
        time.sleep(0.02)
    else:
        assert process.poll() == 0, (root / "run.log").read_text()[-4000:]
        return None
    hit = running(root, aim)
    children = psutil.Process(process.pid).children(recursive=True)
    victims = [*children, psutil.Process(process.pid)] if kill.whole_tree else [psutil.Process(process.pid)]
    for victim in victims:
        try:
            os.kill(victim.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return hit if process.wait() == -signal.SIGKILL else None


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    assert start(manifest, root).wait() == 0, (root / "run.log").read_text()[-4000:]
    return root


def test_killed_twenty_times_it_ends_the_same(
    manifest: Path, undisturbed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("disturbed")
    dice = random.Random(20)
    usual = {stage: seconds_of(undisturbed, stage) for stage in STAGES}
    kills: list[Kill] = []
    for stage in STAGES:
        if stage in RECORDS:
            kills.append(Kill(stage, None, dice.random() < 0.5))
        parts = sorted(dice.uniform(0.05, 0.95) for _ in range(KILLS_PER_STAGE))
        kills += [Kill(stage, part, dice.random() < 0.5) for part in parts]
    hits: list[str] = []
    seen: dict[tuple[str, int], list[int]] = {}
    for kill in kills:
        hit = wait_and_kill(start(manifest, root), root, kill, usual)
        if hit is not None:
            hits.append(hit)
        seen |= recorded(stage_folder(root, "sample"))
    assert start(manifest, root).wait() == 0, (root / "run.log").read_text()[-4000:]
    assert set(RECORDS) <= set(hits), hits
    # The run may come to its end at the earliest in the second last kill of its evaluation.
    assert len(hits) >= 20, hits
    assert seen, "no kill left a trace on the disk"

    traces = rows(stage_folder(root, "sample") / "traces.parquet")
    keys = [(row["question_id"], row["sample_index"]) for row in traces]
    assert len(keys) == len(set(keys)), "a trace is there twice"
    kept = {(row["question_id"], row["sample_index"]): row["response_token_ids"] for row in traces}
    assert {key: kept.get(key) for key in seen} == seen, "a recorded trace was lost or changed"

    expected = rows(stage_folder(undisturbed, "curate") / "corpus.parquet")
    assert rows(stage_folder(root, "curate") / "corpus.parquet") == expected

    def losses(where: Path) -> list[tuple[int, float]]:
        lines = (stage_folder(where, "train") / "metrics.jsonl").read_text().splitlines()
        return [(row["step"], row["loss"]) for row in map(json.loads, lines)]

    assert losses(root) == losses(undisturbed)
