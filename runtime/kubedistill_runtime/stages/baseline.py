"""The baseline stage: the student before training, on the questions and on the benchmarks, in one engine load."""

import asyncio
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kubedistill_api.data import SamplingSpec
from kubedistill_api.stage import BaselineParams, StageResult
from kubedistill_api.status import Usage
from kubedistill_runtime.data.models import model_path
from kubedistill_runtime.data.storage import write_atomically
from kubedistill_runtime.data.traces import RESULTS, TraceStore
from kubedistill_runtime.engines.base import EngineStats
from kubedistill_runtime.harness.run import Harness
from kubedistill_runtime.sampling.benchmarks import (
    RESULTS_FILE,
    benchmark_questions,
    draw_results,
    own_prompts,
    result_record,
)
from kubedistill_runtime.sampling.draw import Drawing, Model, Question
from kubedistill_runtime.sampling.questions import read_questions
from kubedistill_runtime.sampling.serving import Served, Wanted, cpu_workers, serving
from kubedistill_runtime.stages.context import StageContext

PASS_RATES_FILE = "pass_rates.parquet"
PASS_RATES_PARTS = "pass_rates"

PASS_RATES = pa.schema(
    [("question_id", pa.string()), ("samples", pa.int32()), ("correct", pa.int32()), ("pass_rate", pa.float64())]
)


def run(context: StageContext, params: BaselineParams) -> StageResult:
    """Leaves pass_rates.parquet and results.parquet, each where it is asked for."""
    outputs: dict[str, Path] = {}
    rates_of: list[Question] = []
    results_of: list[Question] = []
    wanted = []
    if params.pass_rate is not None:
        outputs["pass_rates"] = context.folder / PASS_RATES_FILE
        rates_of = read_questions(context.artifact("prepare", "questions"))
        wanted.append(Wanted([question.prompt for question in rates_of], params.pass_rate.max_tokens))
    if params.evaluation is not None:
        outputs["results"] = context.folder / RESULTS_FILE
        results_of = benchmark_questions(context)
        wanted.append(Wanted(own_prompts(results_of), params.evaluation.max_tokens))
    stats = EngineStats()
    if not all(path.exists() for path in outputs.values()):
        harness = Harness(params.harness)
        context.progress(0, None, "traces", "starting the engines", force=True)
        with serving(
            model_path(params.model),
            params.engine,
            context.spec.role,
            wanted,
            trust_remote_code=params.model.trust_remote_code,
            longest=harness.longest,
        ) as served:
            asyncio.run(_draw(context, params, served, rates_of, results_of, harness))
            stats = served.pool.stats
    return _finish(context, outputs, stats)


async def _draw(
    context: StageContext,
    params: BaselineParams,
    served: Served,
    rates_of: list[Question],
    results_of: list[Question],
    harness: Harness,
) -> None:
    from kubedistill_runtime.verify.pool import VerifierPool

    workers = params.verification.workers or cpu_workers(context.spec.role)
    async with VerifierPool(params.verification, workers) as verifier:
        try:
            await served.pool.start()
            if params.pass_rate is not None:
                await _draw_pass_rates(context, served, rates_of, params.pass_rate, verifier)
            if params.evaluation is not None:
                await draw_results(
                    context.folder, served, results_of, params.evaluation, verifier, context.progress, harness
                )
        finally:
            await served.pool.close()


async def _draw_pass_rates(
    context: StageContext, served: Served, questions: list[Question], sampling: SamplingSpec, verifier: object
) -> None:
    path = context.folder / PASS_RATES_FILE
    if path.exists():
        return
    with TraceStore(context.folder / PASS_RATES_PARTS, RESULTS) as store:
        drawing = Drawing(
            Model(served.pool, served.prompter, served.prompts, served.max_model_len),
            questions,
            sampling,
            verify=verifier.verify,  # type: ignore[attr-defined]
            store=store,
            record=result_record,
            progress=context.progress,
        )
        await drawing.run()
        solved = dict.fromkeys((question.question_id for question in questions), 0)
        for (question_id, _), row in store.records(["correct"]):
            solved[question_id] += row["correct"]
        _write_pass_rates(path, solved, sampling.samples)
        store.discard()


def _write_pass_rates(path: Path, solved: dict[str, int], samples: int) -> None:
    rows = [
        {"question_id": name, "samples": samples, "correct": correct, "pass_rate": correct / samples}
        for name, correct in solved.items()
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=PASS_RATES), sink)
    write_atomically(path, sink.getvalue().to_pybytes())


def _finish(context: StageContext, outputs: dict[str, Path], stats: EngineStats) -> StageResult:
    metrics: dict[str, float | int | str | None] = {"engines": len(stats.answered), "engine_restarts": stats.restarts}
    rows = {name: pq.read_metadata(path).num_rows for name, path in outputs.items()}
    if "pass_rates" in outputs:
        rates = pq.read_table(outputs["pass_rates"], columns=["pass_rate"])["pass_rate"].to_pylist()
        metrics["mean_pass_rate"] = round(sum(rates) / len(rates), 4) if rates else None
        metrics["never_solved"] = sum(rate == 0 for rate in rates)
        metrics["always_solved"] = sum(rate == 1 for rate in rates)
    if "results" in outputs:
        correct = pq.read_table(outputs["results"], columns=["correct"])["correct"].to_pylist()
        metrics["accuracy"] = round(sum(correct) / len(correct), 4) if correct else None
    return context.finish(
        outputs,
        rows=rows,
        metrics=metrics,
        usage=Usage(prompt_tokens=stats.prompt_tokens, completion_tokens=stats.completion_tokens),
    )
