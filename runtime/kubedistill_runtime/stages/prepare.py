"""prepare: questions and benchmarks loaded, checked, freed from doubles and from overlaps with the benchmarks."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kubedistill_api.data import Benchmark, DecontaminationSpec
from kubedistill_api.harness import HARNESS
from kubedistill_api.stage import PrepareParams, StageResult
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.data.decontaminate import Overlap
from kubedistill_runtime.data.questions import Drop, Question, load_source, without_doubles
from kubedistill_runtime.data.storage import write_atomically
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.harness.tasks import load_tasks
from kubedistill_runtime.harness.tasks import questions as questions_of_tasks
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.verify.math import words_in_a_row

QUESTIONS = pa.schema(
    [
        ("question_id", pa.string()),
        ("source", pa.int32()),
        ("row", pa.int32()),
        ("domain", pa.string()),
        ("question", pa.string()),
        ("prompt", pa.string()),
        ("gold", pa.string()),
        ("tests", pa.string()),
    ]
)
BENCHMARKS = QUESTIONS.append(pa.field("benchmark", pa.string()))


def run(context: StageContext, params: PrepareParams) -> StageResult:
    """Writes questions.parquet, benchmarks.parquet and drops.jsonl.

    Raises BadInput when a source cannot be used or no question is left, TryAgain when a server fails.
    """
    read = _Rows(context)
    benchmarks, benchmark_drops = _load_benchmarks(params.benchmarks, params.verification, read)
    benchmark_rows = read.count
    where = [f"spec.questions[{index}]" for index in range(len(params.questions))]
    questions, drops = without_doubles(
        (
            item
            for index, source in enumerate(params.questions)
            for item in read.counted(load_source(source, index, where[index], params.verification), source.uri)
        ),
        where,
    )
    context.progress(read.count, read.count, "rows", "comparing questions with benchmarks", force=True)
    questions, contaminated, overlaps = decontaminated(questions, benchmarks, params.decontamination)
    drops += contaminated
    reasons = Counter(drop.reason for drop in drops)
    rows_read = read.count - benchmark_rows
    drops += benchmark_drops
    path = context.folder / "drops.jsonl"
    write_atomically(path, "".join(drop.json() + "\n" for drop in drops).encode())
    if not questions:
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        example = f", the first: row {drops[0].row}: {drops[0].detail}" if drops else ""
        raise BadInput(f"spec.questions: none of {rows_read} rows is left ({counts}); {path} names each{example}")
    benchmark_table = [{**asdict(q), "benchmark": name} for name, group in benchmarks.items() for q in group]
    outputs = {
        "questions": _write(context.folder / "questions.parquet", map(asdict, questions), QUESTIONS),
        "benchmarks": _write(context.folder / "benchmarks.parquet", benchmark_table, BENCHMARKS),
        "drops": path,
    }
    return context.finish(
        outputs,
        rows={"questions": len(questions), "benchmarks": len(benchmark_table), "drops": len(drops)},
        metrics={
            "rows_read": rows_read,
            **dict.fromkeys(("duplicate", "contradicting_gold", "contaminated"), 0),
            **dict(sorted(reasons.items())),
            **{f"overlap_{name}": overlaps[name] for name in benchmarks},
            "golds_in_words": sum(map(_in_words, questions)),
            "questions": len(questions),
            "benchmark_rows_read": benchmark_rows,
            "benchmark_dropped": len(benchmark_drops),
            "benchmark_questions": len(benchmark_table),
            **(
                {"harness_questions": of_harness}
                if (of_harness := sum(map(_asked_by_harness, benchmark_table)))
                else {}
            ),
        },
    )


def decontaminated(
    questions: list[Question], benchmarks: Mapping[str, list[Question]], spec: DecontaminationSpec
) -> tuple[list[Question], list[Drop], Counter[str]]:
    """The questions that stay, a drop for each other one, and how many overlap with each benchmark.

    Where the spec turns it off, all stay and overlaps are counted only.
    """
    overlap = Overlap({name: [q.question for q in group] for name, group in benchmarks.items()}, spec.ngram)
    kept: list[Question] = []
    drops: list[Drop] = []
    counts = Counter[str]()
    for question in questions:
        names = overlap.of(question.question)
        counts.update(names)
        if names and spec.enabled:
            detail = f"overlaps with {', '.join(names)}"
            drops.append(Drop(question.source, question.row, question.question_id, "contaminated", detail))
        else:
            kept.append(question)
    return kept, drops, counts


class _Rows:
    """Counts rows over all sources and reports them."""

    def __init__(self, context: StageContext) -> None:
        self.count = 0
        self._context = context

    def counted(self, items: Iterable[Question | Drop], uri: str) -> Iterator[Question | Drop]:
        for item in items:
            self.count += 1
            self._context.progress(self.count, None, "rows", f"reading {uri}")
            yield item


def _load_benchmarks(
    benchmarks: list[Benchmark], verification: VerificationSpec, read: _Rows
) -> tuple[dict[str, list[Question]], list[Drop]]:
    loaded: dict[str, list[Question]] = {}
    drops: list[Drop] = []
    where = [f"spec.evaluation.benchmarks[{index}]" for index in range(len(benchmarks))]
    for index, benchmark in enumerate(benchmarks):
        if benchmark.harness:
            # The harness asks all of its questions, also where one is there twice.
            asked = questions_of_tasks(benchmark, index, load_tasks(benchmark, where[index]))
            loaded[benchmark.name] = [q for q in read.counted(asked, benchmark.uri) if isinstance(q, Question)]
            continue
        items = read.counted(load_source(benchmark, index, where[index], verification), benchmark.uri)
        # A benchmark is its own set: the same question may well be in two of them.
        loaded[benchmark.name], dropped = without_doubles(items, where)
        drops += [replace(drop, benchmark=benchmark.name) for drop in dropped]
        if not loaded[benchmark.name]:
            raise BadInput(f"{where[index]}: none of its rows is left; {dropped[0].reason}: {dropped[0].detail}")
    return loaded, drops


def _in_words(question: Question) -> bool:
    """Whether answers are compared with the gold letter by letter."""
    return question.domain == "math" and question.gold is not None and words_in_a_row(question.gold) > 0


def _asked_by_harness(row: Mapping[str, Any]) -> bool:
    return row["domain"] == HARNESS


def _write(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
    return path
