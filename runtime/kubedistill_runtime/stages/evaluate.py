"""The evaluate stage: the trained student on the benchmarks, beside the base on the same questions and seeds."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow.parquet as pq

from kubedistill_api.stage import EvaluateParams, StageResult
from kubedistill_api.status import Usage
from kubedistill_runtime.data.storage import write_atomically
from kubedistill_runtime.evaluate.results import Answers, read_answers
from kubedistill_runtime.evaluate.scores import Scores, score
from kubedistill_runtime.stages.context import StageContext

RESULTS, SCORES = "results", "scores"
"""Names of the artifacts."""
RESULTS_FILE = "results.parquet"
SCORES_FILE = "scores.json"

Draw = Callable[[StageContext, Mapping[Path, Path], EvaluateParams], None]
"""Draws and judges the answers of the models in some folders; leaves results.parquet in the folder given for each."""


def run(context: StageContext, params: EvaluateParams) -> StageResult:
    """Leaves results.parquet and scores.json; of several students those of each in a folder of its role. Raises
    BadInput when answers are missing."""
    from kubedistill_runtime.sampling.benchmarks import score_on_benchmarks  # starts up Ray and vLLM

    return evaluate(context, params, score_on_benchmarks)


def evaluate(context: StageContext, params: EvaluateParams, draw: Draw) -> StageResult:
    """`run` with the engine as a parameter."""
    folders = {role: context.folder / role for role in params.students} or {"train": context.folder}
    models = {context.artifact(role, "model"): folder for role, folder in folders.items()}
    draw(context, models, params)
    samples = params.evaluation.samples
    questions, domains = _questions(context)
    voting = domains if params.majority_at else None
    once = {benchmark.name for benchmark in params.harness}
    base = None
    if "baseline" in context.spec.inputs:
        base = read_answers(context.artifact("baseline", "results"), samples, questions, voting, once)
    outputs: dict[str, Path] = {}
    rows: dict[str, int] = {}
    found: dict[str, Scores] = {}
    tokens = 0
    for role, folder in folders.items():
        results, scores_path = folder / RESULTS_FILE, folder / SCORES_FILE
        student = read_answers(results, samples, questions, voting, once)
        found[role] = score(
            student, base, pass_at_k=params.pass_at, majority_at_k=params.majority_at, confidence=params.confidence
        )
        write_atomically(scores_path, json.dumps(found[role].to_json(), indent=1).encode())
        for name, path in ((RESULTS, results), (SCORES, scores_path)):
            outputs[of_student(name, role) if params.students else name] = path
        rows[of_student(RESULTS, role) if params.students else RESULTS] = sum(a.correct.size for a in student.values())
        tokens += _tokens(student)
    alone = None if params.students else found["train"]
    return context.finish(
        outputs,
        rows=rows,
        # The figures of many students are for the stage that compares them.
        metrics={**alone.metrics()} if alone else {"students": len(found)},
        scores=alone.scores if alone else (),
        deltas=alone.deltas if alone else (),
        usage=Usage(completion_tokens=tokens),
    )


def of_student(artifact: str, role: str) -> str:
    """Name of an artifact of one of several students: `scores/train-right-s1`."""
    return f"{artifact}/{role}"


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
