"""Reads the stages' tables, column by column: a corpus of long traces never lies in memory as a whole."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kubedistill_runtime.report.contents import Fate, Ints, Lengths, PassRates

BATCH_ROWS = 1024
TEXT_CHARACTERS = 160
PASSED_CORRECTNESS = ("difficulty", "diversity", "kept")

Key = tuple[str, int]


def fates(path: Path) -> tuple[Fate, ...]:
    """Counts by stage and reason, in the order of the curation, the commonest first."""
    order = {name: at for at, name in enumerate(("sampling", "quality", "correctness", "difficulty", "diversity"))}
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for row in rows(path, ["stage", "reason", "text"]):
        key = (row["stage"], row["reason"])
        counts[key] += 1
        examples.setdefault(key, row["text"])
    ordered = sorted(counts.items(), key=lambda item: (order.get(item[0][0], len(order)), -item[1], item[0]))
    return tuple(Fate(stage, reason, examples[stage, reason], count) for (stage, reason), count in ordered)


def rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file; a column that the file lacks is None."""
    file = pq.ParquetFile(path)
    present = [name for name in columns if name in file.schema_arrow.names]
    absent = dict.fromkeys(set(columns) - set(present))
    for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=present):
        for row in batch.to_pylist():
            yield absent | row


def lengths(traces: Path, kept: set[Key]) -> Lengths | None:
    """Tokens of the samples that count, and of those that were kept; None where no trace tells its tokens."""
    drawn: list[Ints] = []
    chosen: list[Ints] = []
    columns = ["question_id", "sample_index", "response_tokens", "surplus"]
    for batch in pq.ParquetFile(traces).iter_batches(batch_size=BATCH_ROWS, columns=columns):
        batch = batch.filter(pc.is_valid(batch.column("response_tokens")))
        tokens = _filled(batch.column("response_tokens"), 0)
        keys = zip(batch.column("question_id").to_pylist(), batch.column("sample_index").to_pylist(), strict=True)
        drawn.append(tokens[_filled(batch.column("surplus").cast(pa.int8()), 0) == 0])
        chosen.append(tokens[np.array([key in kept for key in keys], bool)])
    found = Lengths(drawn=_joined(drawn), kept=_joined(chosen))
    return found if len(found.drawn) else None


def verified_share(traces: Path) -> float | None:
    """Share of correct responses among the samples that count."""
    table = pq.read_table(traces, columns=["correct", "surplus"])
    table = table.filter(pc.invert(pc.fill_null(table["surplus"], False)))
    return None if len(table) == 0 else float(pc.mean(table["correct"].cast(pa.int8())).as_py())


def kept_keys(trace_fates: Path) -> set[Key]:
    """(question_id, sample_index) of the corpus."""
    table = pq.read_table(trace_fates, columns=["question_id", "sample_index"], filters=[("kept", "=", True)])
    return set(zip(table["question_id"].to_pylist(), table["sample_index"].to_pylist(), strict=True))


def pass_rates(path: Path, question_fates: Path | None) -> PassRates | None:
    """Questions by the student's right responses; None for an empty table."""
    table = pq.read_table(path, columns=["question_id", "samples", "correct"]).to_pylist()
    samples = max((row["samples"] for row in table), default=0)
    if samples == 0:
        return None
    stages = (
        {row["question_id"]: row["stage"] for row in rows(question_fates, ["question_id", "stage"])}
        if (question_fates)
        else {}
    )
    counts = {name: np.zeros(samples + 1, np.int64) for name in ("hard", "easy", "unsolved")}
    for row in table:
        if row["samples"] == 0:
            continue
        stage = stages.get(row["question_id"], "kept")
        where = "easy" if stage == "difficulty" else "hard" if stage in PASSED_CORRECTNESS else "unsolved"
        # Questions with fewer samples than the others are put where their rate lies.
        counts[where][round(row["correct"] / row["samples"] * samples)] += 1
    return PassRates(samples, **counts)


def answer_tokens(results: Path) -> dict[str, Ints]:
    """Tokens of the answers by benchmark."""
    table = pq.read_table(results, columns=["benchmark", "response_tokens"])
    return {
        name: _filled(table["response_tokens"].filter(pc.equal(table["benchmark"], name)).combine_chunks(), 0)
        for name in pc.unique(table["benchmark"]).to_pylist()
    }


def question_texts(path: Path) -> dict[str, dict[str, str]]:
    """The beginning of every question, by benchmark and id."""
    texts: dict[str, dict[str, str]] = {}
    for row in rows(path, ["benchmark", "question_id", "question"]):
        texts.setdefault(row["benchmark"], {})[row["question_id"]] = (row["question"] or "")[:TEXT_CHARACTERS]
    return texts


def _filled(array: pa.Array, value: int) -> Ints:
    return pc.fill_null(array, value).to_numpy(zero_copy_only=False).astype(np.int64)


def _joined(parts: list[np.ndarray]) -> Ints:
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)
