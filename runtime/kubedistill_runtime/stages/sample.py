"""The sample stage: the teacher's responses to the questions, each with its verdict."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kubedistill_api.data import EndpointSource, ModelSource
from kubedistill_api.graph import ALREADY_DRAWN
from kubedistill_api.stage import SampleParams, StageResult
from kubedistill_api.status import Usage
from kubedistill_runtime.data.models import model_path
from kubedistill_runtime.data.subset import chosen
from kubedistill_runtime.data.traces import TRACES, TraceStore
from kubedistill_runtime.engines.base import PROMPT_TOO_LONG, EngineStats
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.sampling.draw import Drawing, Drawn, Model, Question, Tally
from kubedistill_runtime.sampling.questions import read_questions
from kubedistill_runtime.sampling.serving import Wanted, cpu_workers, serving
from kubedistill_runtime.stages.context import StageContext

TRACES_FILE = "traces.parquet"
PARTS = "traces"
TOKENS = ["prompt_tokens", "response_tokens"]


def run(context: StageContext, params: SampleParams) -> StageResult:
    """Leaves traces.parquet. Raises BadInput when no trace was drawn at all."""
    path = context.folder / TRACES_FILE
    tally, stats = Tally(), EngineStats()
    if not path.exists():
        questions = read_questions(context.artifact("prepare", "questions"))
        asked = set(chosen([question.question_id for question in questions], params.subset))
        questions = [question for question in questions if question.question_id in asked]
        if params.model is not None:
            tally, stats = _from_model(context, params, params.model, questions)
        elif params.endpoint is not None:
            tally, stats = asyncio.run(_from_endpoint(context, params, params.endpoint, questions))
        else:
            raise BadInput("spec.teacher has neither model nor endpoint")
    return _finish(context, path, tally, stats)


def take_over(earlier: Path, store: TraceStore, question_ids: Iterable[str]) -> None:
    """Copies the traces that an earlier round drew of these questions; those that are there already stay.

    What counts as surplus is decided anew at the end.
    """
    wanted = set(question_ids)
    for batch in pq.ParquetFile(earlier).iter_batches():
        for record in batch.to_pylist():
            if record["question_id"] in wanted and (record["question_id"], record["sample_index"]) not in store:
                store.add(record | {"surplus": False})
    store.flush()


def _from_model(
    context: StageContext, params: SampleParams, source: ModelSource, questions: list[Question]
) -> tuple[Tally, EngineStats]:
    wanted = [Wanted([question.prompt for question in questions], params.sampling.max_tokens)]
    context.progress(0, len(questions), "questions", "starting the engines", force=True)
    folder = model_path(source)
    with serving(
        folder, params.engine, context.spec.role, wanted, trust_remote_code=source.trust_remote_code
    ) as served:
        model = Model(served.pool, served.prompter, served.prompts, served.max_model_len)
        tally = asyncio.run(_draw(context, params, model, questions, source.uri))
        return tally, served.pool.stats


async def _from_endpoint(
    context: StageContext, params: SampleParams, source: EndpointSource, questions: list[Question]
) -> tuple[Tally, EngineStats]:
    from kubedistill_runtime.engines.endpoint import Endpoint

    endpoint = Endpoint(source)
    return await _draw(context, params, Model(endpoint), questions, source.model), endpoint.stats


async def _draw(
    context: StageContext, params: SampleParams, model: Model, questions: list[Question], teacher: str
) -> Tally:
    from kubedistill_runtime.verify.pool import VerifierPool

    def record(drawn: Drawn) -> dict[str, Any]:
        return trace_record(drawn, teacher)

    workers = params.verification.workers or cpu_workers(context.spec.role)
    with TraceStore(context.folder / PARTS, TRACES) as store:
        if ALREADY_DRAWN in context.spec.inputs:
            take_over(context.artifact(ALREADY_DRAWN, "traces"), store, [q.question_id for q in questions])
        async with VerifierPool(params.verification, workers) as verifier:
            drawing = Drawing(
                model,
                questions,
                params.sampling,
                verify=verifier.verify,
                store=store,
                record=record,
                progress=context.progress,
                stop_after_verified=params.sampling.stop_after_verified,
            )
            try:
                await model.engine.start()
                tally = await drawing.run()
            finally:
                await model.engine.close()
        surplus = {key: drawing.scheduler.is_surplus(key[:-1], key[-1]) for key, _ in store.records([])}
        store.compact(context.folder / TRACES_FILE, [question.key for question in questions], {"surplus": surplus})
    return tally


def trace_record(drawn: Drawn, teacher: str) -> dict[str, Any]:
    """A row of traces.parquet. Whether it is surplus is known at the end only."""
    return {
        "question_id": drawn.question.question_id,
        "sample_index": drawn.sample_index,
        "domain": drawn.question.domain,
        "prompt_token_ids": drawn.prompt_token_ids,
        "response_token_ids": drawn.completion.token_ids,
        "prompt_tokens": drawn.prompt_tokens,
        "response_tokens": drawn.response_tokens,
        "response": drawn.response,
        "finish_reason": drawn.completion.finish_reason,
        "correct": drawn.verdict.correct,
        "method": drawn.verdict.method,
        "error": drawn.verdict.error,
        "verify_seconds": drawn.verdict.seconds,
        "latency_seconds": drawn.completion.latency_seconds,
        "seed": drawn.seed,
        "surplus": False,
        "teacher": teacher,
    }


def _finish(context: StageContext, path: Path, tally: Tally, stats: EngineStats) -> StageResult:
    table = pq.read_table(path, columns=["question_id", "correct", "finish_reason", "error", "surplus", *TOKENS])
    mean_response_tokens = pc.mean(table["response_tokens"]).as_py()
    drawn = _tokens(table)
    taken, taken_over = Usage(), 0
    if ALREADY_DRAWN in context.spec.inputs:
        earlier = pq.read_table(context.artifact(ALREADY_DRAWN, "traces"), columns=TOKENS)
        taken, taken_over = _tokens(earlier), earlier.num_rows
    too_long = table.filter(pc.equal(table["error"], PROMPT_TOO_LONG))["question_id"]
    return context.finish(
        {"traces": path},
        rows={"traces": table.num_rows},
        metrics={
            "traces": table.num_rows,
            "questions": pc.count_distinct(table["question_id"]).as_py(),
            "verified": pc.sum(table["correct"]).as_py() or 0,
            "truncated": pc.sum(pc.equal(table["finish_reason"], "length")).as_py() or 0,
            "surplus": pc.sum(table["surplus"]).as_py() or 0,
            "failed": pc.sum(pc.equal(table["finish_reason"], "error")).as_py() or 0,
            "prompts_too_long": pc.count_distinct(too_long).as_py(),
            "mean_response_tokens": None if mean_response_tokens is None else round(mean_response_tokens, 1),
            "taken_over": taken_over,
            "tokens_per_second": tally.tokens_per_second,
            "resumed_from": tally.kept,
            "engines": len(stats.answered),
            "engine_restarts": stats.restarts,
            "aborted": stats.aborted,
            "retries": stats.retries,
        },
        usage=Usage(
            # Of all attempts where the records tell, and of this one with what it threw away.
            prompt_tokens=max(drawn.prompt_tokens - taken.prompt_tokens, stats.prompt_tokens),
            completion_tokens=max(drawn.completion_tokens - taken.completion_tokens, stats.completion_tokens),
        ),
    )


def _tokens(traces: pa.Table) -> Usage:
    """Tokens of traces, of those that tell."""
    return Usage(
        prompt_tokens=pc.sum(traces["prompt_tokens"]).as_py() or 0,
        completion_tokens=pc.sum(traces["response_tokens"]).as_py() or 0,
    )
