"""The decide stage, what a round takes over from the one before, and inputs that a decision made needless."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubedistill_api.stage import QuestionSubset, StageSpec
from kubedistill_runtime.data.subset import chosen
from kubedistill_runtime.data.traces import TRACES, TraceStore
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.stages import decide
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.stages.sample import take_over

EVALUATION = {
    "kind": "evaluate",
    "engine": {},
    "evaluation": {"samples": 4},
    "passAt": [],
    "confidence": 0.95,
    "verification": {},
}


def evaluated(folder: Path, mean: float, questions: int = 60, prefix: str = "q") -> str:
    """The folder of an evaluate stage whose student is right so often."""
    rng = np.random.default_rng(int(1000 * mean))
    context = StageContext(spec(folder, EVALUATION, {}))
    rows = [{"questionId": f"{prefix}{n}", "student": rng.binomial(4, mean) / 4} for n in range(questions)]
    content = {"details": {"benchmarks": [{"benchmark": "sums", "samples": 4, "perQuestion": rows}]}}
    (folder / "scores.json").write_text(json.dumps(content))
    context.finish({"scores": folder / "scores.json"})
    return str(folder)


def spec(folder: Path, params: dict[str, Any], inputs: dict[str, str], **changes: Any) -> StageSpec:
    fields = {"resource": "TeacherProbe/default/p", "stage": folder.name, "digest": folder.name, "params": params}
    return StageSpec.model_validate(fields | {"inputs": inputs, "outputUri": str(folder)} | changes)


def deciding(number: int, names: str, rounds: int = 2) -> dict[str, Any]:
    students = {name: [f"evaluate-{name}-r{number}"] for name in names}
    return {
        "kind": "decide",
        "students": students,
        "round": number,
        "rounds": rounds,
        "growth": 3,
        "confidence": 0.95,
    }


def test_a_round_is_decided_by_the_students_that_are_there(tmp_path: Path) -> None:
    scores = {"a": 0.1, "b": 0.7, "c": 0.68}
    inputs = {f"evaluate-{name}-r1": evaluated(tmp_path / f"e{name}", mean) for name, mean in scores.items()}
    params = deciding(1, "abc")
    first = StageContext(spec(tmp_path / "d1", params, inputs))
    decision = decide.run(first, first.spec.params).decision
    assert decision.outcome == "continue"
    assert set(decision.survivors) == {"b", "c"}
    assert json.loads((tmp_path / "d1" / "decision.json").read_text())["reason"] == decision.reason

    # In the next round `a` is skipped. That its folder holds another probe's equal work changes nothing.
    inputs = {f"evaluate-{name}-r2": evaluated(tmp_path / f"f{name}", mean) for name, mean in scores.items()}
    inputs["decide-r1"] = str(tmp_path / "d1")
    guards = {f"evaluate-{name}-r2": {"decide": "decide-r1", "candidate": name} for name in scores}
    second = StageContext(spec(tmp_path / "d2", deciding(2, "abc"), inputs, guards=guards))
    assert "evaluate-a-r2" not in second.spec.inputs
    decision = decide.run(second, second.spec.params).decision
    assert (decision.outcome, {entry.candidate for entry in decision.scores}) == ("tie", {"b", "c"})

    # After the end nothing more is looked at.
    guards = {"decide-r2": {"decide": "decide-r1"}, "x": {"decide": "decide-r2"}}
    inputs = {"decide-r1": str(tmp_path / "d1"), "decide-r2": str(tmp_path / "d2"), "x": str(tmp_path / "nowhere")}
    report = StageContext(spec(tmp_path / "r", {"kind": "report", "manifest": {}}, inputs, guards=guards))
    assert set(report.spec.inputs) == {"decide-r1", "decide-r2"}


def test_students_that_were_asked_other_questions_are_not_compared(tmp_path: Path) -> None:
    inputs = {
        "evaluate-a-r1": evaluated(tmp_path / "a", 0.5),
        "evaluate-b-r1": evaluated(tmp_path / "b", 0.5, prefix="other"),
    }
    context = StageContext(spec(tmp_path / "d", deciding(1, "ab"), inputs))
    with pytest.raises(BadInput, match="the student of b was asked other questions than that of a"):
        decide.run(context, context.spec.params)


def test_a_larger_part_of_the_questions_holds_a_smaller_one_in_any_order() -> None:
    names = [f"q{n}" for n in range(300)]
    parts = [chosen(names, QuestionSubset(share=3.0**-n, seed=7)) for n in (2, 1)]
    assert [len(part) for part in parts] == [34, 100]
    assert set(parts[0]) < set(parts[1])
    assert set(chosen(names[::-1], QuestionSubset(share=3.0**-2, seed=7))) == set(parts[0])
    assert set(chosen(names, QuestionSubset(share=3.0**-2, seed=8))) != set(parts[0])
    assert chosen(names, None) == names
    assert len(chosen(names[:1], QuestionSubset(share=0.01, seed=7))) == 1


def test_traces_of_the_round_before_are_taken_over_and_not_drawn_again(tmp_path: Path) -> None:
    def trace(question: str, index: int, response: str, surplus: bool = False) -> dict[str, Any]:
        empty = {field.name: [] if pa.types.is_list(field.type) else None for field in TRACES}
        return empty | {"question_id": question, "sample_index": index, "response": response, "surplus": surplus}

    earlier = tmp_path / "earlier.parquet"
    rows = [trace("a", 0, "old"), trace("a", 1, "old", surplus=True), trace("b", 0, "old"), trace("gone", 0, "old")]
    pq.write_table(pa.Table.from_pylist(rows, schema=TRACES), earlier)
    with TraceStore(tmp_path / "parts", TRACES) as store:
        store.add(trace("b", 0, "mine"))
        take_over(earlier, store, ["a", "b", "c"])
        take_over(earlier, store, ["a", "b", "c"])
        found = {key: (row["response"], row["surplus"]) for key, row in store.records(["response", "surplus"])}
    assert found == {("a", 0): ("old", False), ("a", 1): ("old", False), ("b", 0): ("mine", False)}
