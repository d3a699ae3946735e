"""A model's answers to the benchmarks: what baseline and evaluate have in common."""

import asyncio
from pathlib import Path
from typing import Any

from kubedistill_api.data import SamplingSpec
from kubedistill_api.stage import EvaluateParams
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.data.traces import RESULTS, TraceStore
from kubedistill_runtime.sampling.draw import Drawing, Drawn, Model, Question, Tally
from kubedistill_runtime.sampling.questions import read_questions
from kubedistill_runtime.sampling.serving import Served, Wanted, cpu_workers, serving
from kubedistill_runtime.stages.context import StageContext

RESULTS_FILE = "results.parquet"
RESULTS_PARTS = "results"
RESULTS_KEY = ("benchmark", "question_id", "sample_index")


def score_on_benchmarks(context: StageContext, model_path: Path, params: EvaluateParams) -> Path:
    """Draws and judges the answers of the model in a folder to prepare's benchmarks; returns results.parquet.

    Every question is asked with the same seeds for every model. Started again, it goes on where it was.
    """
    path = context.folder / RESULTS_FILE
    if path.exists():
        return path
    context.progress(0, None, "traces", "starting the engines", force=True)
    questions = benchmark_questions(context)
    wanted = [Wanted([question.prompt for question in questions], params.evaluation.max_tokens)]
    trust = params.trust_remote_code
    with serving(model_path, params.engine, context.spec.role, wanted, trust_remote_code=trust) as served:
        asyncio.run(_score(context, served, questions, params.evaluation, params.verification))
    return path


async def _score(
    context: StageContext,
    served: Served,
    questions: list[Question],
    sampling: SamplingSpec,
    verification: VerificationSpec,
) -> None:
    from kubedistill_runtime.verify.pool import VerifierPool

    async with VerifierPool(verification, verification.workers or cpu_workers(context.spec.role)) as verifier:
        try:
            await served.pool.start()
            await draw_results(context, served, questions, sampling, verifier)
        finally:
            await served.pool.close()


def benchmark_questions(context: StageContext) -> list[Question]:
    """The benchmarks' questions in the order in which they were prepared."""
    return read_questions(context.artifact("prepare", "benchmarks"), key=("benchmark", "question_id"))


async def draw_results(
    context: StageContext, served: Served, questions: list[Question], sampling: SamplingSpec, verifier: Any
) -> Tally:
    """Writes results.parquet with a model whose engines run; a file that is there already is left as it is."""
    path = context.folder / RESULTS_FILE
    if path.exists():
        return Tally()
    with TraceStore(context.folder / RESULTS_PARTS, RESULTS, RESULTS_KEY) as store:
        drawing = Drawing(
            Model(served.pool, served.prompter, served.prompts, served.max_model_len),
            questions,
            sampling,
            verify=verifier.verify,
            store=store,
            record=result_record,
            length_column="response_tokens",
            progress=context.progress,
        )
        tally = await drawing.run()
        store.compact(path, [question.key for question in questions])
    return tally


def result_record(drawn: Drawn) -> dict[str, Any]:
    """A row of results.parquet; the key's first column is empty outside of a benchmark."""
    benchmark = drawn.question.key[0] if len(drawn.question.key) > 1 else ""
    return {
        "benchmark": benchmark,
        "question_id": drawn.question.question_id,
        "sample_index": drawn.sample_index,
        "correct": drawn.verdict.correct,
        "method": drawn.verdict.method,
        "error": drawn.verdict.error,
        "response": drawn.response,
        "response_tokens": drawn.completion.completion_tokens or len(drawn.completion.token_ids),
        "truncated": drawn.completion.finish_reason == "length",
        "seed": drawn.seed,
    }
