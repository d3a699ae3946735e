"""The evaluate stage: the trained student on the benchmarks, beside the base on the same questions and seeds."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from kubedistill_api.stage import EvaluateParams, StageResult
from kubedistill_api.status import Usage
from kubedistill_runtime.data.storage import write_atomically
from kubedistill_runtime.evaluate.results import Answers, read_answers
from kubedistill_runtime.evaluate.scores import score
from kubedistill_runtime.stages.context import StageContext

SCORES_FILE = "scores.json"

Draw = Callable[[StageContext, Path, EvaluateParams], Path]
"""Draws and judges the answers of the model in a folder; returns results.parquet in the stage's folder."""


def run(context: StageContext, params: EvaluateParams) -> StageResult:
    """Leaves results.parquet and scores.json. Raises BadInput when answers are missing."""
    from kubedistill_runtime.sampling.benchmarks import score_on_benchmarks  # starts up Ray and vLLM

    return evaluate(context, params, score_on_benchmarks)


def evaluate(context: StageContext, params: EvaluateParams, draw: Draw) -> StageResult:
    """`run` with the engine as a parameter."""
    model = context.artifact("train", "model")
    results = draw(context, model, params)
    samples = params.evaluation.samples
    questions, domains = _questions(context)
    voting = domains if params.majority_at else None
    student = read_answers(results, samples, questions, voting)
    base = None
    if "baseline" in context.spec.inputs:
        base = read_answers(context.artifact("baseline", "results"), samples, questions, voting)
    scores = score(
        student, base, pass_at_k=params.pass_at, majority_at_k=params.majority_at, confidence=params.confidence
    )
    scores_path = context.folder / SCORES_FILE
    write_atomically(scores_path, json.dumps(scores.to_json(), indent=1).encode())
    return context.finish(
        {"results": results, "scores": scores_path},
        rows={"results": sum(answers.correct.size for answers in student.values())},
        metrics={**scores.metrics()},
        scores=scores.scores,
        deltas=scores.deltas,
        usage=Usage(completion_tokens=_tokens(student)),
    )


def _questions(context: StageContext) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Ids of every benchmark's questions, in the order in which they were prepared; and every benchmark's domain."""
    table = pq.read_table(context.artifact("prepare", "benchmarks"), columns=["benchmark", "question_id", "domain"])
    questions: dict[str, list[str]] = {}
    domains: dict[str, str] = {}
    for row in table.to_pylist():
        questions.setdefault(row["benchmark"], []).append(row["question_id"])
        domains[row["benchmark"]] = row["domain"]
    return questions, domains


def _tokens(answers: dict[str, Answers]) -> int:
    return int(sum(a.tokens.sum() for a in answers.values()))
