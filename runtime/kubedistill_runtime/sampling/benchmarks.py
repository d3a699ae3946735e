"""A model's answers to the benchmarks: what baseline and evaluate have in common."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kubedistill_api.data import SamplingSpec
from kubedistill_api.harness import HARNESS
from kubedistill_api.stage import EvaluateParams
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.data.traces import RESULTS, TraceStore
from kubedistill_runtime.harness.run import Harness
from kubedistill_runtime.sampling.draw import Drawing, Drawn, Model, Progress, Question, Tally
from kubedistill_runtime.sampling.questions import read_questions
from kubedistill_runtime.sampling.serving import Served, Wanted, cpu_workers, serving
from kubedistill_runtime.stages.context import StageContext

RESULTS_FILE = "results.parquet"
RESULTS_PARTS = "results"
HARNESS_PARTS = "harness"
RESULTS_KEY = ("benchmark", "question_id", "sample_index")


def score_on_benchmarks(context: StageContext, models: Mapping[Path, Path], params: EvaluateParams) -> None:
    """Draws and judges the answers of models to prepare's benchmarks: results.parquet in a folder for each.

    models: folder of the model -> folder of its results. Ray and the engine's process are started once.
    Every question is asked with the same seeds for every model. Started again, it goes on where it was.
    """
    todo = {model: folder for model, folder in models.items() if not (folder / RESULTS_FILE).exists()}
    if not todo:
        return
    harness = Harness(params.harness)
    context.progress(0, None, "traces", "starting the engines", force=True)
    questions = benchmark_questions(context)
    with serving(
        next(iter(todo)),
        params.engine,
        context.spec.role,
        [Wanted(own_prompts(questions), params.evaluation.max_tokens)],
        trust_remote_code=params.trust_remote_code,
        longest=harness.longest,
    ) as served:
        asyncio.run(_score(context, todo, served, questions, params.evaluation, params.verification, harness))


async def _score(
    context: StageContext,
    models: Mapping[Path, Path],
    served: Served,
    questions: list[Question],
    sampling: SamplingSpec,
    verification: VerificationSpec,
    harness: Harness,
) -> None:
    from kubedistill_runtime.verify.pool import VerifierPool

    async with VerifierPool(verification, verification.workers or cpu_workers(context.spec.role)) as verifier:
        try:
            await served.pool.start()
            for number, (model, folder) in enumerate(models.items(), 1):
                if number > 1:
                    await served.pool.load(str(model))
                folder.mkdir(exist_ok=True)
                progress = _part(context, number, len(models))
                await draw_results(folder, served, questions, sampling, verifier, progress, harness)
        finally:
            await served.pool.close()


def _part(context: StageContext, number: int, models: int) -> Progress:
    """Progress of one of several models as progress of the stage."""
    if models == 1:
        return context.progress

    def report(done: float, total: float | None, unit: str, message: str = "", **more: Any) -> None:
        of_all = total * models if total is not None else None
        told = f"student {number}/{models}, {message}"
        context.progress((number - 1) * (total or 0) + done, of_all, unit, told, **more)

    return report


def benchmark_questions(context: StageContext) -> list[Question]:
    """The benchmarks' questions in the order in which they were prepared."""
    return read_questions(context.artifact("prepare", "benchmarks"), key=("benchmark", "question_id"))


def own_prompts(questions: Sequence[Question]) -> list[str]:
    """The prompts of the questions that are not the harness's to ask."""
    return [question.prompt for question in questions if question.domain != HARNESS]


async def draw_results(
    folder: Path,
    served: Served,
    questions: list[Question],
    sampling: SamplingSpec,
    verifier: Any,
    progress: Progress,
    harness: Harness,
) -> Tally:
    """Writes results.parquet to the folder with a model whose engines run; one that is there already stays."""
    path = folder / RESULTS_FILE
    if path.exists():
        return Tally()
    with TraceStore(folder / RESULTS_PARTS, RESULTS, RESULTS_KEY) as store:
        drawing = Drawing(
            Model(served.pool, served.prompter, served.prompts, served.max_model_len),
            [question for question in questions if question.domain != HARNESS],
            sampling,
            verify=verifier.verify,
            store=store,
            record=result_record,
            progress=progress,
        )
        tally = await drawing.run()
        await harness.answer(served, sampling.seed, store, progress, folder / HARNESS_PARTS)
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
        "response_tokens": drawn.response_tokens,
        "truncated": drawn.completion.finish_reason == "length",
        "seed": drawn.seed,
    }
