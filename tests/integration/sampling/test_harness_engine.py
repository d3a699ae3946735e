"""Tasks of the lm-evaluation-harness on a real engine: base and student, with the verdicts of transformers."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kubedistill_api.data import DecontaminationSpec, EngineSpec, ModelSource, QuestionSource, SamplingSpec
from kubedistill_api.stage import BaselineParams, EvaluateParams, PrepareParams
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.tiny import embedded_path
from tests.integration.sampling.harness_tasks import entry, sums, write_tasks
from tests.integration.sampling.sampling_stages import run_stage, trained

pytestmark = pytest.mark.engine

COUNT = 40
ENGINE = EngineSpec(max_num_seqs=64)
SAMPLING = SamplingSpec(samples=2, temperature=1.0, top_p=1.0, max_tokens=128)


def test_base_and_student_are_asked_by_the_harness_and_compared(tmp_path: Path) -> None:
    tasks = write_tasks(tmp_path / "tasks", COUNT)
    drawn = entry(tasks, "tiny_sums", "drawn", chatTemplate=True)
    scored = entry(tasks, "tiny_options", "scored")
    verification = VerificationSpec()
    prepared = tmp_path / "prepare"
    run_stage(
        prepared,
        PrepareParams(
            questions=[QuestionSource(uri="embedded://questions/train.jsonl", limit=5)],
            benchmarks=[drawn, scored],
            decontamination=DecontaminationSpec(),
            verification=verification,
        ),
        {},
    )
    base = BaselineParams(
        model=ModelSource(uri="embedded://models/student"),
        engine=ENGINE,
        pass_rate=None,
        evaluation=SAMPLING,
        verification=verification,
        harness=[drawn, scored],
    )
    run_stage(tmp_path / "baseline", base, {"prepare": prepared})
    # A student that has learnt all that its teacher knows.
    student = trained(tmp_path / "train", "careless-teacher")
    params = EvaluateParams(
        engine=ENGINE,
        evaluation=SAMPLING,
        pass_at=[2],
        confidence=0.95,
        verification=verification,
        harness=[drawn, scored],
    )
    inputs = {"prepare": prepared, "baseline": tmp_path / "baseline", "train": student}
    result = run_stage(tmp_path / "evaluate", params, inputs)

    scores = {(score.benchmark, score.model): score for score in result.scores}
    assert {score.metric for score in result.scores} == {"avg@1"}
    assert {score.n for score in result.scores} == {COUNT}
    (gain,) = [delta for delta in result.deltas if delta.benchmark == "drawn"]
    assert gain.mean == pytest.approx(scores["drawn", "student"].mean - scores["drawn", "base"].mean)
    assert gain.ci[0] > 0.3, "greedy, the teacher solves nearly all and the student before training few"
    rows = pq.read_table(tmp_path / "evaluate" / "results.parquet").to_pylist()
    for row, asked in zip([row for row in rows if row["benchmark"] == "drawn"], sums(COUNT), strict=True):
        said = re.findall(r"boxed\{(-?\d+)\}", row["response"].rpartition("</think>")[2])
        assert row["correct"] == (said[:1] == [asked["answer"]])
    assert [row["response"] for row in rows if row["benchmark"] == "scored"] == _likeliest("careless-teacher")


def _likeliest(model: str) -> list[str]:
    """The option of each question that is likelier to transformers."""
    path = embedded_path(f"models/{model}")
    tokenizer = AutoTokenizer.from_pretrained(path)
    network = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    @torch.no_grad()
    def score(context: str, option: str) -> float:
        ids = tokenizer(f"{context} {option}", return_tensors="pt")["input_ids"]
        start = len(tokenizer(context)["input_ids"])
        logprobs = network(ids).logits[0].log_softmax(-1)
        return float(logprobs[start - 1 : -1].gather(1, ids[0, start:, None]).sum())

    return [max(row["options"], key=lambda option: score(f"{row['question']}\nAnswer:", option)) for row in sums(COUNT)]
