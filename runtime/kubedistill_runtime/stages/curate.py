"""The curate stage: from traces to the corpus, with a record of what became of everything."""

import contextlib
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kubedistill_api.curation import CurationSpec
from kubedistill_api.stage import CurateParams, StageResult
from kubedistill_runtime.curate.matching import Matched
from kubedistill_runtime.curate.pipeline import curate
from kubedistill_runtime.curate.records import COLUMNS, from_batches
from kubedistill_runtime.curate.selection import Mapper
from kubedistill_runtime.curate.types import Outcome, PassRate, Trace
from kubedistill_runtime.data.storage import fsync_folder
from kubedistill_runtime.data.subset import chosen
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.stages.context import StageContext

RAY_FROM_BYTES = 100_000_000
"""Size of what is compared (token ids or text of all traces) from which on Ray pays for its start of some seconds."""

_PIECE = re.compile(r"\w+|[^\w\s]")


def run(context: StageContext, params: CurateParams) -> StageResult:
    """Writes corpus.parquet, trace_fates.parquet and question_fates.parquet. Raises BadInput on an empty corpus."""
    questions = pq.read_table(context.artifact("prepare", "questions"), columns=["question_id", "prompt"])
    asked = chosen(questions["question_id"].to_pylist(), params.subset)
    traces = pq.ParquetFile(context.artifact("sample", "traces"))
    with _mapper(pays_for_ray(context, params.curation)) as mapper:
        outcome = curate(
            _with_units(from_batches(traces.iter_batches(columns=list(COLUMNS)))),
            asked,
            _pass_rates(context),
            params.curation,
            match=_matched(context, params),
            mapper=mapper,
            progress=lambda done, total: context.progress(done, total, "questions", "choosing traces"),
        )
    funnel = outcome.funnel
    if not outcome.kept:
        raise BadInput(_empty(outcome))
    corpus = _corpus(traces, outcome, questions)
    outputs = {
        "corpus": _write(corpus, context.folder / "corpus.parquet"),
        "trace_fates": _write(_trace_fates(outcome), context.folder / "trace_fates.parquet"),
        "question_fates": _write(_question_fates(outcome), context.folder / "question_fates.parquet"),
    }
    selections = [fate.selection for fate in outcome.questions if fate.selection is not None]
    return context.finish(
        outputs,
        rows={"corpus": corpus.num_rows, "trace_fates": len(outcome.traces), "question_fates": len(outcome.questions)},
        metrics={
            "questions": funnel.questions,
            **asdict(funnel.traces),
            **{f"questions_{name}": count for name, count in asdict(funnel.of_questions).items()},
            "surplus": funnel.surplus,
            "selections": len(selections),
            "selections_exact": sum(selection.exact for selection in selections),
            "corpus_tokens": pc.sum(corpus["response_tokens"]).as_py(),
        },
    )


def _pass_rates(context: StageContext) -> dict[str, PassRate]:
    if "baseline" not in context.spec.inputs or "pass_rates" not in context.result_of("baseline").outputs:
        return {}
    table = pq.read_table(context.artifact("baseline", "pass_rates"))
    return {row["question_id"]: PassRate(row["correct"], row["samples"]) for row in table.to_pylist()}


def _matched(context: StageContext, params: CurateParams) -> Matched | None:
    """What the corpus that this one is matched with has. Raises BadInput where its stage does not tell."""
    if params.match is None:
        return None
    name = "questions_kept" if params.match == "questions" else "kept"
    number = context.result_of("matched").metrics.get(name)
    if not isinstance(number, int | float):
        raise BadInput(f"the stage that {context.spec.stage} is matched with does not tell {name}; run it again")
    return Matched(params.match, int(number))


def _with_units(traces: Iterable[Trace]) -> Iterator[Trace]:
    """A trace of an endpoint that gives no token ids is compared by its words, numbered as they come."""
    numbers: dict[str, int] = {}
    for trace in traces:
        if len(trace.response_token_ids) or not trace.response:
            yield trace
        else:
            words = (numbers.setdefault(word, len(numbers)) for word in _PIECE.findall(trace.response))
            yield replace(trace, response_token_ids=array("I", words))


def pays_for_ray(context: StageContext, spec: CurationSpec) -> bool:
    """Whether there is so much to compare that Ray's start is worth it."""
    if spec.diversity.select != "farthest":
        return False
    traces = pq.read_metadata(context.artifact("sample", "traces"))
    column = "response" if spec.diversity.unit == "char" else "response_token_ids"
    chunks = (
        traces.row_group(group).column(index)
        for group in range(traces.num_row_groups)
        for index in range(traces.num_columns)
    )
    size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.partition(".")[0] == column)
    return size >= RAY_FROM_BYTES


@contextlib.contextmanager
def _mapper(with_ray: bool) -> Iterator[Mapper]:
    """Ray tasks where there is work for them, this process where there is not."""
    if not with_ray:
        yield map
        return
    from kubedistill_runtime.engines.ray_cluster import ray_cluster

    with ray_cluster():
        from kubedistill_runtime.curate.ray_map import ray_map  # imports Ray, which is set up by now

        yield ray_map


def _corpus(traces: pq.ParquetFile, outcome: Outcome, questions: pa.Table) -> pa.Table:
    """The kept traces with the text they answer, in ascending order of their keys."""
    kept = set(outcome.kept)
    prompts = dict(zip(questions["question_id"].to_pylist(), questions["prompt"].to_pylist(), strict=True))
    parts = []
    for batch in traces.iter_batches():
        keys = zip(batch.column("question_id").to_pylist(), batch.column("sample_index").to_pylist(), strict=True)
        parts.append(pa.table(batch).filter(pa.array([key in kept for key in keys])))
    table = pa.concat_tables(parts).sort_by([("question_id", "ascending"), ("sample_index", "ascending")])
    return table.append_column("prompt", pa.array([prompts[q] for q in table["question_id"].to_pylist()]))


def _trace_fates(outcome: Outcome) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "question_id": fate.question_id,
                "sample_index": fate.sample_index,
                "kept": fate.kept,
                "stage": str(fate.stage),
                "reason": fate.reason.code,
                "text": fate.reason.text,
            }
            for fate in outcome.traces
        ]
    )


def _question_fates(outcome: Outcome) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {
            "question_id": fate.question_id,
            "pass_rate": fate.pass_rate,
            "kept": fate.kept,
            "stage": str(fate.stage),
            "reason": fate.reason.code,
            "text": fate.reason.text,
            "exact": fate.selection.exact if fate.selection else None,
            "min_distance": fate.selection.min_distance if fate.selection else None,
        }
        for fate in outcome.questions
    ]
    types = {"pass_rate": pa.float64(), "exact": pa.bool_(), "min_distance": pa.float64()}
    schema = pa.schema([(name, types.get(name, pa.bool_() if name == "kept" else pa.string())) for name in rows[0]])
    return pa.Table.from_pylist(rows, schema=schema)


def _write(table: pa.Table, path: Path) -> Path:
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, temporary)
    temporary.replace(path)
    fsync_folder(path.parent)
    return path


def _empty(outcome: Outcome) -> str:
    counts = outcome.funnel.traces
    reasons: dict[str, int] = {}
    for fate in outcome.traces:
        reasons[fate.reason.code] = reasons.get(fate.reason.code, 0) + 1
    most = ", ".join(f"{code} {n}" for code, n in sorted(reasons.items(), key=lambda item: -item[1])[:4])
    return (
        f"no trace is left to train on: {counts.sampled} sampled, {counts.well_formed} well formed, {counts.correct} "
        f"correct, {counts.hard} of hard questions (most dropped: {most or 'none'}); loosen spec.curation, or look at "
        "the traces with `kubedistill traces`"
    )
