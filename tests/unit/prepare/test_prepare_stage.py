"""The prepare stage from sources to artifacts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kubedistill_api.data import Benchmark, DecontaminationSpec, FieldMap, QuestionSource
from kubedistill_api.stage import PrepareParams, StageResult, StageSpec
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.stages.prepare import BENCHMARKS, QUESTIONS, run
from kubedistill_runtime.stages.run import main

Write = Callable[..., str]


def spec(
    folder: Path, questions: list[QuestionSource], benchmarks: list[Benchmark], decontamination: DecontaminationSpec
) -> StageSpec:
    return StageSpec(
        resource="DistillationJob/default/small",
        stage="prepare",
        digest="d",
        output_uri=str(folder),
        params=PrepareParams(
            questions=questions,
            benchmarks=benchmarks,
            decontamination=decontamination,
            verification=VerificationSpec(),
        ),
    )


def prepare(
    folder: Path,
    questions: list[QuestionSource],
    benchmarks: list[Benchmark] | None = None,
    **decontamination: Any,
) -> StageResult:
    stage = spec(folder, questions, benchmarks or [], DecontaminationSpec(**decontamination))
    assert isinstance(stage.params, PrepareParams)
    return run(StageContext(stage), stage.params)


def drops(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "drops.jsonl").read_text().splitlines()]


def test_embedded_questions_go_through_whole(tmp_path: Path) -> None:
    result = prepare(
        tmp_path,
        [
            QuestionSource(uri="embedded://questions/train.jsonl"),
            QuestionSource(uri="embedded://questions/code.jsonl", domain="code"),
        ],
        [Benchmark(name="sums", uri="embedded://questions/benchmark.jsonl")],
    )
    questions = pq.read_table(tmp_path / "questions.parquet")
    assert questions.schema.equals(QUESTIONS)
    assert questions.num_rows == 310 == result.outputs["questions"].rows
    benchmarks = pq.read_table(tmp_path / "benchmarks.parquet")
    assert benchmarks.schema.equals(BENCHMARKS)
    assert set(benchmarks["benchmark"].to_pylist()) == {"sums"}
    assert len(set(questions["question_id"].to_pylist())) == 310
    assert drops(tmp_path) == []


def test_what_is_dropped_is_counted_and_recorded(tmp_path: Path, jsonl: Write) -> None:
    known = "What is the smallest prime number that is greater than one hundred exactly?"
    uri = jsonl(
        [
            {"question": "one?", "answer": 1},
            {"question": "one?", "answer": 1},
            {"question": "two?", "answer": 2},
            {"question": "two?", "answer": 3},
            {"question": "three?", "answer": ""},
            {"question": f"Please: {known.upper()}", "answer": 101},
            {"question": "four?", "answer": 4},
        ]
    )
    benchmark = jsonl([{"problem": known, "answer": 101}, {"problem": "five?", "answer": ""}], "b.jsonl")
    result = prepare(
        tmp_path, [QuestionSource(uri=uri)], [Benchmark(name="b", uri=benchmark, fields=FieldMap(prompt="problem"))]
    )
    assert result.metrics == {
        "rows_read": 7,
        "duplicate": 1,
        "contradicting_gold": 2,
        "contaminated": 1,
        "empty_gold": 1,
        "overlap_b": 1,
        "golds_in_words": 0,
        "questions": 2,
        "benchmark_rows_read": 2,
        "benchmark_dropped": 1,
        "benchmark_questions": 1,
    }
    recorded = {(d["benchmark"], d["row"]): d for d in drops(tmp_path)}
    assert recorded[None, 5]["reason"] == "contaminated"
    assert recorded[None, 5]["detail"] == "overlaps with b"
    assert recorded["b", 1]["reason"] == "empty_gold"
    assert len(recorded) == 6


def test_turned_off_decontamination_still_counts(tmp_path: Path, jsonl: Write) -> None:
    rows = [{"question": f"What is {i} plus {i}?", "answer": 2 * i} for i in range(4)]
    source = QuestionSource(uri=jsonl(rows))
    benchmark = Benchmark(name="same", uri=jsonl(rows[:2], "b.jsonl"))
    result = prepare(tmp_path, [source], [benchmark], enabled=False)
    assert (result.metrics["questions"], result.metrics["overlap_same"]) == (4, 2)
    assert drops(tmp_path) == []


def test_when_nothing_is_left_the_counts_are_told(tmp_path: Path, jsonl: Write) -> None:
    rows = [{"question": f"What is {i} plus {i}?", "answer": 2 * i} for i in range(4)]
    with pytest.raises(BadInput, match=r"none of 4 rows is left \(4 contaminated\)"):
        prepare(tmp_path, [QuestionSource(uri=jsonl(rows))], [Benchmark(name="b", uri=jsonl(rows, "b.jsonl"))])


def test_the_same_question_may_be_in_two_benchmarks(tmp_path: Path, jsonl: Write) -> None:
    rows = [{"question": "What is one?", "answer": 1}]
    benchmarks = [Benchmark(name=n, uri=jsonl(rows, f"{n}.jsonl")) for n in ("x", "y")]
    result = prepare(tmp_path, [QuestionSource(uri=jsonl([{"question": "two?", "answer": 2}]))], benchmarks)
    assert result.metrics["benchmark_questions"] == 2


def test_a_benchmark_is_named_in_its_errors(tmp_path: Path, jsonl: Write) -> None:
    source = QuestionSource(uri=jsonl([{"question": "two?", "answer": 2}]))
    with pytest.raises(
        BadInput, match=r"spec\.evaluation\.benchmarks\[0\]\.fields\.prompt: .*set it to one of: problem"
    ):
        prepare(tmp_path, [source], [Benchmark(name="b", uri=jsonl([{"problem": "x"}], "b.jsonl"))])


def test_the_command_ends_with_65_and_one_line(
    tmp_path: Path, jsonl: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    source = QuestionSource(uri=jsonl([{"question": "two?", "answer": 2}]), fields=FieldMap(prompt="text"))
    path = tmp_path / "spec.json"
    path.write_text(spec(tmp_path / "out", [source], [], DecontaminationSpec()).model_dump_json(by_alias=True))
    assert main([str(path)]) == 65
    assert capsys.readouterr().err.startswith("error: spec.questions[0].fields.prompt: there is no column text")


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    source = QuestionSource(uri="embedded://questions/train.jsonl")
    one, two = prepare(tmp_path / "1", [source]), prepare(tmp_path / "2", [source])
    assert one.outputs == two.outputs
