"""`kubedistill benchmarks`, and what validate and plan say of the benchmarks of a manifest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubedistill_api.benchmarks import PRESETS
from kubedistill_api.data import Benchmark

Call = Callable[..., Any]
FOLDER = Path(__file__).parents[3] / "examples"
JOB = """\
apiVersion: kubedistill.io/v1alpha1
kind: DistillationJob
metadata: {name: small}
spec:
  questions: [{uri: "embedded://questions/train.jsonl"}]
  student: {uri: "embedded://models/student"}
  teacher: {model: {uri: "embedded://models/careless-teacher"}}
  evaluation: {samples: %d, benchmarks: [%s]}
"""


def planned(kubedistill: Call, root: Path, samples: int, benchmarks: str, *options: object) -> dict[str, Any]:
    ran = kubedistill("plan", "-", "--root", root, "--json", *options, stdin=JOB % (samples, benchmarks))
    (found,) = json.loads(ran.out)["plans"]
    return found


def test_all_are_listed(kubedistill: Call) -> None:
    ran = kubedistill("benchmarks")
    assert ran.code == 0
    for name, preset in PRESETS.items():
        (row,) = [line for line in ran.out.splitlines() if line.startswith(f"{name} ")]
        assert f" {preset.questions} " in row
        assert preset.entry["uri"].removeprefix("hf://").removeprefix("datasets/") in row


@pytest.mark.parametrize("name", PRESETS)
def test_what_one_is_shown_to_stand_for_can_be_put_into_a_manifest(kubedistill: Call, name: str) -> None:
    out = kubedistill("benchmarks", name).out
    text = out[out.index("- name: ") : out.index("model  ")]
    assert Benchmark.model_validate(yaml.safe_load(text)[0]) == Benchmark.model_validate({"preset": name})
    for published in PRESETS[name].published:
        assert published.model in out
    assert "Copied" in out


def test_an_unknown_one_ends_with_65(kubedistill: Call) -> None:
    ran = kubedistill("benchmarks", "aime23")
    assert ran.code == 65
    assert "known: aime24" in ran.err


def test_validate_says_what_a_preset_is(kubedistill: Call) -> None:
    out = kubedistill("validate", FOLDER / "ded-math-32b.yaml").out
    assert "benchmark aime24 is 30 questions of hf://HuggingFaceH4/aime_2024 train, domain math" in out
    assert "benchmark" not in kubedistill("validate", FOLDER / "demo.yaml").out


def test_the_plan_shows_widths_and_what_two_points_would_take(kubedistill: Call, root: Path) -> None:
    path = FOLDER / "ded-math-32b.yaml"
    rows = [line.split() for line in kubedistill("plan", path, "--root", root).out.splitlines()]
    (aime,) = [row for row in rows if row[:1] == ["aime24"]]
    assert aime == ["aime24", "HuggingFaceH4/aime_2024", "30", "16", "76%", "12.6", "8.6", "7.8"]
    out = kubedistill("plan", path, "--root", root, "--half-width", "2").out
    (aime, _, math) = [line for line in out.splitlines() if line.startswith(("aime24 ", "aime25 ", "math500 "))]
    assert "none; 1,090 questions   none; 507 questions" in aime
    assert math.split()[-2:] == ["2", "2"]
    assert "no number of samples is enough" in out


def test_the_samples_that_are_asked_for_reach_the_width(kubedistill: Call, root: Path) -> None:
    (wide,) = planned(kubedistill, root, 4, "{preset: math500}", "--half-width", "1.1")["benchmarks"]
    needed = wide["forDifference"]["samples"]
    assert wide["differenceHalfWidth"] > 0.011
    (narrow,) = planned(kubedistill, root, needed, "{preset: math500}")["benchmarks"]
    assert narrow["differenceHalfWidth"] <= 0.011
    assert narrow["forDifference"] is None


def test_a_study_s_differences_are_corrected_and_averaged_over_seeds(kubedistill: Call, root: Path) -> None:
    plans = {
        name: json.loads(kubedistill("plan", FOLDER / name, "--root", root, "--json").out)["plans"][0]["benchmarks"][0]
        for name in ("study.yaml", "demo.yaml")
    }
    # 4 answers x 3 trainings at 99.5 %, 8 answers of one training at 95 %: the same 102 questions.
    assert plans["study.yaml"]["scoreHalfWidth"] < plans["demo.yaml"]["scoreHalfWidth"]
    assert plans["study.yaml"]["differenceHalfWidth"] > plans["demo.yaml"]["differenceHalfWidth"]


def test_a_single_question_has_no_width(kubedistill: Call, root: Path) -> None:
    benchmark = '{name: one, uri: "embedded://questions/benchmark.jsonl", limit: 1}'
    (found,) = planned(kubedistill, root, 4, benchmark, "--half-width", "2")["benchmarks"]
    assert (found["questions"], found["scoreHalfWidth"], found["forScore"]) == (1, None, None)
    assert kubedistill("plan", "-", "--root", root, "--half-width", "2", stdin=JOB % (4, benchmark)).code == 0


def test_a_gated_benchmark_asks_for_its_token(kubedistill: Call, root: Path) -> None:
    warnings = planned(kubedistill, root, 4, "{preset: gpqa-diamond}")["warnings"]
    assert any(w.startswith("spec.evaluation.benchmarks[0]: hf://Idavidrein/gpqa is gated") for w in warnings)
    token = "{preset: gpqa-diamond, tokenSecretRef: {name: hub, key: HF_TOKEN}}"
    assert not any("gated" in w for w in planned(kubedistill, root, 4, token)["warnings"])


def test_many_samples_of_a_large_benchmark_are_a_warning(kubedistill: Call, root: Path) -> None:
    (warning,) = [w for w in planned(kubedistill, root, 16, "{preset: mmlu}")["warnings"] if "224,672 answers" in w]
    assert "evaluation.samples: 1" in warning
    assert not any("answers" in w for w in planned(kubedistill, root, 1, "{preset: mmlu}")["warnings"])
