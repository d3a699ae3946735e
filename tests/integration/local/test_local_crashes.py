"""Runs that are killed at any moment, and runs that meet."""

import random
import time
from pathlib import Path

import pytest

from tests.integration.local.local_bench import STAGES, Bench, eventually, is_alive

DURATION_S = 0.15


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_the_job_ends_the_same(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    bench.behave(**{stage: [f"slow {DURATION_S}"] for stage in STAGES})
    for _ in range(4):
        process = bench.start()
        time.sleep(chance.uniform(0.2, 3))
        process.kill()
        process.wait()
    assert bench.run() == 0
    assert bench.events("overlap") == []
    ends = [e["stage"] for e in bench.events("end")]
    assert len(ends) == len(set(ends)), "a stage that was finished was done again"
    stages = bench.status().stages
    assert all(stage.state == "Succeeded" and stage.failures == 0 for stage in stages)
    assert not any(is_alive(e["pid"]) for e in bench.events("start"))


def test_two_runs_of_one_job_do_its_work_once(bench: Bench) -> None:
    bench.behave(**{stage: [f"slow {DURATION_S}"] for stage in STAGES})
    both = [bench.start(), bench.start()]
    assert [process.wait() for process in both] == [0, 0]
    assert sorted(e["stage"] for e in bench.events("start")) == sorted(STAGES)
    output = (bench.folder / "output.txt").read_text()
    assert "nothing to do" in output


def test_two_jobs_with_equal_work_do_it_once(bench: Bench) -> None:
    bench.behave(**{stage: [f"slow {DURATION_S}"] for stage in STAGES})
    bench.write("one", training={"epochs": 3})
    first = bench.folder / "one.yaml"
    bench.manifest.rename(first)
    bench.write("two")
    both = [bench.start(first), bench.start()]
    assert [process.wait() for process in both] == [0, 0]
    done = [e["stage"] for e in bench.events("start")]
    shared = ("prepare", "baseline", "sample", "curate")
    assert sorted(done) == sorted([*shared, *("train", "evaluate", "report") * 2])
    assert bench.events("overlap") == []


def test_a_run_that_waits_for_another_takes_its_result(bench: Bench) -> None:
    bench.behave(prepare=["until told"])
    bench.write("one")
    first = bench.folder / "one.yaml"
    bench.manifest.rename(first)
    one = bench.start(first)
    bench.started("prepare")
    bench.write("two")
    two = bench.start()
    eventually(lambda: "the same work is being done by another run" in output(bench))
    (bench.folder / "told").touch()
    assert [one.wait(), two.wait()] == [0, 0]
    assert len(bench.events("start", "prepare")) == 1
    assert bench.status("two").stages[0].reused


def output(bench: Bench) -> str:
    return Path(bench.folder / "output.txt").read_text()
