"""`kubedistill plan`."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kubedistill_api.manifest import load
from kubedistill_api.planning import plan
from kubedistill_api.stage import StageResult
from kubedistill_runtime.cli.plan_view import human_count, human_time
from kubedistill_runtime.local.fingerprints import sources

Call = Callable[..., Any]
FOLDER = Path(__file__).parents[3] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_can_be_planned_and_fits(kubedistill: Call, root: Path, path: Path) -> None:
    ran = kubedistill("plan", path, "--root", root)
    assert ran.code == 0, ran.err
    assert "stages to do" in ran.out
    assert "too big" not in ran.out


def test_the_paper_s_recipe_shows_graph_memory_and_cost(kubedistill: Call, root: Path) -> None:
    out = kubedistill("plan", FOLDER / "ded-math-32b.yaml", "--root", root).out
    for text in (
        "8 x H100-80GB",
        "16 x H100-80GB",
        "32.8B",
        "optimiser state",
        "GPU hours",
        "cost about",
        "all before",
    ):
        assert text in out


def test_a_teacher_behind_an_endpoint_is_priced_in_tokens_and_not_in_gpu_time(kubedistill: Call, root: Path) -> None:
    ran = kubedistill("plan", FOLDER / "code.yaml", "--root", root)
    (row,) = [line for line in ran.out.splitlines() if line.startswith("sample ")]
    assert "endpoint" in row
    assert "from 7 s" in row
    assert "prompt tokens and 439k completion tokens, at its owner's price" in ran.out
    assert "rate limits, of which the manifest's are counted" in ran.out
    assert "the endpoint's time not counted" in ran.out
    data = json.loads(kubedistill("plan", FOLDER / "code.yaml", "--root", root, "--json").out)
    sample = data["plans"][0]["stages"][1]
    assert (sample["endpoint"], sample["gpuSeconds"], sample["wallSeconds"]) == (True, None, None)
    assert sample["leastWallSeconds"] > 6


def test_without_limits_the_time_of_an_endpoint_is_left_open(kubedistill: Call, root: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "code.yaml"
    manifest.write_text((FOLDER / "code.yaml").read_text().replace("      requestsPerMinute: 600\n", ""))
    out = kubedistill("plan", manifest, "--root", root).out
    assert "as it answers" in out
    assert "the time depends on its pace and its rate limits\n" in out


def test_json_is_for_programs(kubedistill: Call, root: Path) -> None:
    ran = kubedistill("plan", FOLDER / "ded-math-32b.yaml", "--root", root, "--json")
    (found,) = json.loads(ran.out)["plans"]
    assert found["fits"] is True
    assert found["cost"] == pytest.approx(found["gpuSeconds"] / 3600 * 2.5)
    assert [stage["name"] for stage in found["stages"]][:3] == ["prepare", "baseline", "sample"]
    assert {fit["verdict"] for fit in found["memory"]} == {"fits"}


def test_a_stage_that_is_in_the_root_is_reused(kubedistill: Call, root: Path) -> None:
    (job,) = load(FOLDER / "demo.yaml").resolved().resources
    node = plan(job, sources=sources(job))["prepare"]
    now = datetime(2026, 1, 1, tzinfo=UTC)
    result = StageResult(stage="prepare", kind="prepare", digest=node.digest, started=now, finished=now)
    folder = root / "default" / "stages" / node.folder
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(result.model_dump_json(by_alias=True))
    ran = kubedistill("plan", FOLDER / "demo.yaml", "--root", root, "--json")
    (found,) = json.loads(ran.out)["plans"]
    assert [stage["name"] for stage in found["stages"] if stage["reused"]] == ["prepare"]
    assert "6 of 7 stages to do" in kubedistill("plan", FOLDER / "demo.yaml", "--root", root).out


def test_what_does_not_fit_ends_with_3_and_says_why(kubedistill: Call, root: Path) -> None:
    text = (FOLDER / "ded-math-32b.yaml").read_text().replace("replicas: 2", "replicas: 1")
    ran = kubedistill("plan", "-", "--root", root, stdin=text)
    assert ran.code == 3
    assert "too big" in ran.out
    assert "use a runtime whose trainer has 16 of these GPUs" in ran.out


def test_a_bad_manifest_ends_with_65(kubedistill: Call, root: Path) -> None:
    ran = kubedistill("plan", "-", "--root", root, stdin="kind: X")
    assert ran.code == 65
    assert "<text>:1: kind: 'X' is not known" in ran.err


def test_a_manifest_of_runtimes_alone_ends_with_65(kubedistill: Call, root: Path) -> None:
    text = (FOLDER / "ded-math-32b.yaml").read_text().split("\n---\n")[1]
    ran = kubedistill("plan", "-", "--root", root, stdin=text)
    assert ran.code == 65
    assert "holds no DistillationJob" in ran.err


def test_files_that_are_not_here_are_a_warning(kubedistill: Call, root: Path) -> None:
    text = (FOLDER / "demo.yaml").read_text().replace("embedded://questions/train.jsonl", "missing.jsonl")
    ran = kubedistill("plan", "-", "--root", root, stdin=text)
    assert ran.code == 0
    assert "! spec.questions[0].uri: " in ran.out
    assert "does not exist" in ran.out


def test_without_its_runtime_this_machine_is_taken(
    kubedistill: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    text = (FOLDER / "demo.yaml").read_text() + "  runtimeRef: {kind: DistillationRuntime, name: local}\n"
    ran = kubedistill("plan", "-", "--root", root, stdin=text)
    assert ran.code == 0
    assert "the runtime local is not in this file; this machine is taken" in ran.out


def test_a_job_that_waits_for_a_probe_is_planned_with_a_candidate(kubedistill: Call, root: Path) -> None:
    job = (FOLDER / "demo.yaml").read_text()
    start = job.index("    model: {uri:")
    job = job[:start] + "    probeRef: {name: which-teacher}\n" + job[job.index("\n", start) + 1 :]
    ran = kubedistill("plan", "-", "--root", root, stdin=job)
    assert ran.code == 65
    assert "the teacher is the winner of which-teacher" in ran.err
    ran = kubedistill("plan", "-", "--root", root, stdin=(FOLDER / "probe.yaml").read_text() + "---\n" + job)
    assert ran.code == 0
    assert "the candidate careless stands in for it" in ran.out


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1234, "1.23k"), (87_400_000, "87.4M"), (2e9, "2B"), (3e12, "3T")]
)
def test_large_numbers_are_short(number: float, text: str) -> None:
    assert human_count(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(7, "7 s"), (600, "10 min"), (9000, "2.5 h"), (90_000, "25 h")])
def test_times_are_in_the_unit_one_would_say(seconds: float, text: str) -> None:
    assert human_time(seconds) == text
