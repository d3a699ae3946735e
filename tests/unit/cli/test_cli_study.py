"""`kubedistill study`, and what `plan` and the summary say of a study."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from kubedistill_api.comparison import ArmResult, Comparison
from kubedistill_api.status import JobStatus
from kubedistill_runtime.cli.summary import print_summary

Call = Callable[..., Any]
EXAMPLE = Path(__file__).parents[3] / "examples" / "study.yaml"


def test_a_file_without_a_study_is_refused_with_what_to_write(kubedistill: Call, root: Path) -> None:
    ran = kubedistill("study", EXAMPLE.with_name("demo.yaml"), "--root", root)
    assert ran.code == 65
    assert "holds no DistillationStudy; write `kind: DistillationStudy`" in ran.err
    assert not root.exists()


def test_a_wrong_variant_is_found_before_anything_runs(kubedistill: Call, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    text = EXAMPLE.read_text()
    for wrong, message in (
        ("ladder: [right, right-hard-divers]", "did you mean right-hard-diverse?"),
        ("variants: [{name: x, overrides: {training.epoch: 1}}]", "there is no field epoch in job.training"),
        ("grid: {training.epochs: [0]}", "job.training.epochs: 0 is out of range"),
    ):
        file.write_text(text.replace("  seeds:", f"  {wrong}\n  seeds:"))
        for command in (("validate", file), ("study", file, "--root", root)):
            ran = kubedistill(*command)
            assert ran.code == 65
            assert message in ran.err
            assert f"{file}:" in ran.err


def test_a_study_is_priced_stage_by_stage(kubedistill: Call, root: Path) -> None:
    (found,) = json.loads(kubedistill("plan", EXAMPLE, "--root", root, "--json").out)["plans"]
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert len(stages) == 49
    steps = {name: stage["steps"] for name, stage in stages.items() if name.startswith("train-")}
    assert steps["train-right-hard-steps-s1"] == steps["train-right-hard-diverse-s1"] > steps["train-right-hard-s1"]
    # All students answer: 33 of them, 102 questions, 4 samples.
    assert stages["evaluate-all"]["requests"] == 33 * 102 * 4
    assert [source["field"] for source in found["questions"]] == [
        "spec.job.questions[0]",
        "spec.job.evaluation.benchmarks[0]",
    ]


def test_the_summary_has_the_table_and_a_sentence_for_each_comparison() -> None:
    shared = {"questions": 9, "traces": 36, "steps": 7, "training_tokens": 1234, "response_tokens": 45.6}
    rows = [
        ArmResult(arm="method", score=0.8, ci=(0.7, 0.9), settings="epochs 3", **shared),
        ArmResult(
            arm="less",
            score=0.7,
            ci=(0.6, 0.8),
            against="method",
            difference=-0.1,
            difference_ci=(-0.2, -0.0003),
            **shared,
        ),
    ]
    comparison = Comparison(
        arms=rows,
        confidence=0.95,
        comparisons=1,
        benchmark_questions=102,
        samples=4,
        seeds=3,
        base=0.3,
        front_training=["method"],
        front_response=["method"],
    )
    console = Console(width=200, record=True, file=io.StringIO())
    print_summary(console, "ladder", JobStatus(comparison=comparison, findings=comparison.sentences()))
    shown = console.export_text()
    assert "-10.0 [-20.0, -0.03]" in shown
    assert "less is worse than method by 10.0 points" in shown
    assert "epochs 3" in shown
    assert "best for its training tokens: method" in shown
    assert "102 questions x 4 answers x 3 trainings" in shown
