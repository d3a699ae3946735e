"""The compare stage on what the stages before it leave, and what a training is matched with."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from kubedistill_api.stage import ArmStages, CompareParams, StageSpec, TrainParams
from kubedistill_api.status import Usage
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.stages import compare
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.stages.train import with_steps

CURATE = {"kind": "curate", "curation": {}}
TRAIN = {"kind": "train", "model": {"uri": "m"}, "training": {}}
EVALUATE = {
    "kind": "evaluate",
    "engine": {},
    "evaluation": {"samples": 4},
    "passAt": [],
    "confidence": 0.95,
    "verification": {},
}


def spec(folder: Path, params: dict[str, Any], inputs: dict[str, str] | None = None) -> StageSpec:
    fields = {"resource": "DistillationStudy/default/s", "stage": folder.name, "digest": folder.name, "params": params}
    return StageSpec.model_validate(fields | {"inputs": inputs or {}, "outputUri": str(folder)})


def finished(folder: Path, params: dict[str, Any], metrics: dict[str, Any], tokens: int = 0) -> str:
    StageContext(spec(folder, params)).finish({}, metrics=metrics, usage=Usage(training_tokens=tokens))
    return str(folder)


def scored(folder: Path, means: dict[str, float], prefix: str = "q") -> str:
    """An evaluate stage that has asked several students."""
    context = StageContext(spec(folder, EVALUATE))
    outputs = {}
    for role, mean in means.items():
        rng = np.random.default_rng(int(1000 * mean))
        rows = [{"questionId": f"{prefix}{n}", "base": 0.25, "student": rng.binomial(4, mean) / 4} for n in range(60)]
        (folder / role).mkdir()
        outputs[f"scores/{role}"] = folder / role / "scores.json"
        student = {"meanTokens": 100 * mean}
        content = {"benchmark": "sums", "samples": 4, "student": student, "perQuestion": rows}
        outputs[f"scores/{role}"].write_text(json.dumps({"details": {"benchmarks": [content]}}))
    context.finish(outputs)
    return str(folder)


def comparing(
    tmp_path: Path, other_prefix: str = "q", redrawn: Mapping[str, list[str]] = MappingProxyType({})
) -> StageContext:
    inputs = {
        "curate-a": finished(tmp_path / "ca", CURATE, {"questions_kept": 9, "kept": 9}),
        "curate-b": finished(tmp_path / "cb", CURATE, {"questions_kept": 5, "kept": 20}),
        **{f"train-a-s{n}": finished(tmp_path / f"ta{n}", TRAIN, {"steps": 6}, 1000 + n) for n in (1, 2)},
        **{f"train-b-s{n}": finished(tmp_path / f"tb{n}", TRAIN, {"steps": 12}, 3000) for n in (1, 2)},
        "evaluate-a": scored(tmp_path / "ea", {"train-a-s1": 0.3, "train-a-s2": 0.32}),
        "evaluate-b": scored(tmp_path / "eb", {"train-b-s1": 0.8, "train-b-s2": 0.78}, other_prefix),
    }
    arms = {
        name: ArmStages(
            curate=f"curate-{name}",
            curates=redrawn.get(name, []),
            trains=[f"train-{name}-s1", f"train-{name}-s2"],
            evaluate=f"evaluate-{name}",
            against="b" if name == "a" else None,
        )
        for name in "ab"
    }
    params = CompareParams(arms=arms, order=["a", "b"], confidence=0.95).model_dump(by_alias=True)
    return StageContext(spec(tmp_path / "compare", params, inputs))


def test_the_table_is_made_of_what_the_stages_left(tmp_path: Path) -> None:
    context = comparing(tmp_path)
    result = compare.run(context, context.spec.params)
    a, b = result.comparison.arms
    assert (a.questions, a.traces, a.steps, a.training_tokens, a.against) == (9, 9, 6, 1001.5, "b")
    assert (b.questions, b.traces, b.steps, b.training_tokens, b.against) == (5, 20, 12, 3000, None)
    assert (a.response_tokens, b.response_tokens) == (31, 79)
    assert a.finding == "worse"
    assert a.difference == pytest.approx(a.score - b.score, abs=2e-4)
    assert result.comparison.base == 0.25
    assert result.comparison.draws == 1
    assert result.comparison.front_training == ["a", "b"]
    assert json.loads((tmp_path / "compare" / "comparison.json").read_text())["comparisons"] == 1
    assert '"comparison"' in result.termination_message()


def test_where_every_training_has_a_corpus_of_its_own_the_table_has_their_mean(tmp_path: Path) -> None:
    context = comparing(tmp_path, redrawn={"a": ["curate-a", "curate-b"], "b": ["curate-b", "curate-a"]})
    comparison = compare.run(context, context.spec.params).comparison
    assert [(arm.questions, arm.traces) for arm in comparison.arms] == [(7, 14), (7, 14)]
    assert (comparison.draws, comparison.seeds) == (2, 2)


def test_other_questions_are_not_compared(tmp_path: Path) -> None:
    context = comparing(tmp_path, other_prefix="p")
    with pytest.raises(BadInput, match="students of b were asked other questions than those of a"):
        compare.run(context, context.spec.params)


def test_a_matched_training_takes_the_steps_of_the_other(tmp_path: Path) -> None:
    matched = finished(tmp_path / "other", TRAIN, {"steps": 93})
    params = TRAIN | {"matchSteps": True, "training": {"epochs": 3, "learningRate": 1e-4}}
    context = StageContext(spec(tmp_path / "train", params, {"matched": matched}))
    assert isinstance(context.spec.params, TrainParams)
    training = with_steps(context, context.spec.params)
    assert training.max_steps == 93
    assert training.epochs > 93
    assert training.learning_rate == 1e-4
    alone = StageContext(spec(tmp_path / "alone", params | {"matchSteps": False}))
    assert with_steps(alone, alone.spec.params) == alone.spec.params.training
