"""The answers to a benchmark as arrays, with nothing missing and nothing twice.

Averaging what happens to be there is a bug that other harnesses had (a score that halves when more samples are asked
for than were drawn); here unequal draws are an error with a name.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.evaluate.estimators import Bools, Votes
from kubedistill_runtime.verify.vote import VOTING, vote

COLUMNS = ("benchmark", "question_id", "sample_index", "correct", "error", "response_tokens", "truncated")


VOTE = "vote"
BATCH_ROWS = 1024


class MissingSamples(BadInput):
    """A question lacks samples, or a benchmark lacks questions."""


@dataclass(frozen=True)
class Answers:
    """One model's answers to one benchmark. Arrays are questions x samples."""

    benchmark: str
    questions: tuple[str, ...]
    correct: Bools
    truncated: Bools
    tokens: NDArray[np.int64]
    errors: int
    """Answers that could not be judged, or whose program failed (column `error` says why); they count as wrong."""
    votes: Votes | None = None
    """What each says, equal answers as equal text; None where it was not read, or answers cannot be equal (code)."""
    once: bool = False
    """Each question was asked once whatever the evaluation says, as the harness does: there is no pass@k but for 1."""

    @property
    def samples(self) -> int:
        return self.correct.shape[1]


def read_answers(
    path: Path,
    samples: int,
    expected: Mapping[str, Sequence[str]] | None = None,
    domains: Mapping[str, str] | None = None,
    once: Collection[str] = (),
) -> dict[str, Answers]:
    """Answers by benchmark, from a results.parquet. Raises BadInput as `answers_of` does.

    With the `domains` of the benchmarks, votes are read from the responses where a domain has any. `once` names the
    benchmarks that have one answer to each question.
    """
    schema = pq.read_schema(path)
    absent = [name for name in COLUMNS if name not in schema.names]
    if absent:
        raise BadInput(f"{path} has no column {', '.join(absent)}; it is not a table of benchmark results")
    table = pq.read_table(path, columns=list(COLUMNS))
    if domains is not None:
        table = table.append_column(VOTE, _votes(path, domains))
    return answers_of(table, samples, expected, once)


def _votes(path: Path, domains: Mapping[str, str]) -> pa.Array:
    """A vote for each row, null where the benchmark's domain has none. Responses are read a batch at a time."""
    votes: list[str | None] = []
    for batch in pq.ParquetFile(path).iter_batches(batch_size=BATCH_ROWS, columns=["benchmark", "response"]):
        for row in batch.to_pylist():
            domain = domains.get(row["benchmark"])
            votes.append(vote(domain, row["response"] or "") if domain in VOTING else None)
    return pa.array(votes, pa.string())


def answers_of(
    table: pa.Table,
    samples: int,
    expected: Mapping[str, Sequence[str]] | None = None,
    once: Collection[str] = (),
) -> dict[str, Answers]:
    """Answers by benchmark, each question with exactly the samples 0..samples-1, in those of `once` with sample 0.

    `expected` names the questions of every benchmark; the answers come in its order. Without it, in the table's.
    Raises MissingSamples when a sample or a question is missing, BadInput when one is there twice or was not asked for.
    """
    names = pc.unique(table["benchmark"]).to_pylist()
    if expected is not None:
        for name in expected:
            if name not in names:
                raise MissingSamples(f"benchmark {name} has no results at all; run the stage again")
    return {
        name: _answers(
            name,
            table.filter(pc.equal(table["benchmark"], name)),
            1 if name in once else samples,
            expected[name] if expected else None,
            name in once,
        )
        for name in (expected or names)
    }


def _answers(name: str, table: pa.Table, samples: int, expected: Sequence[str] | None, once: bool) -> Answers:
    for column in ("correct", "truncated", "response_tokens", "sample_index"):
        if table[column].null_count:
            raise BadInput(f"benchmark {name}: {table[column].null_count} results have no value for {column}")
    questions = list(expected) if expected is not None else pc.unique(table["question_id"]).to_pylist()
    places = pc.index_in(table["question_id"], value_set=pa.array(questions, pa.string()))
    if places.null_count:
        stranger = table["question_id"].filter(pc.is_null(places))[0].as_py()
        raise BadInput(f"benchmark {name}: question {stranger} has results but is not in the benchmark")
    question = places.to_numpy()
    sample = table["sample_index"].to_numpy()
    outside = (sample < 0) | (sample >= samples)
    if outside.any():
        at = int(np.argmax(outside))
        raise BadInput(
            f"benchmark {name}: question {questions[question[at]]} has a sample {sample[at]}, "
            f"but only {samples} samples were asked for"
        )
    cell = question.astype(np.int64) * samples + sample
    counts = np.bincount(cell, minlength=len(questions) * samples).reshape(len(questions), samples)
    if (counts == 0).any():
        at = int(np.argmax((counts == 0).any(axis=1)))
        lost = np.flatnonzero(counts[at] == 0)
        raise MissingSamples(
            f"benchmark {name}: question {questions[at]} has {samples - len(lost)} of {samples} samples "
            f"(missing: {', '.join(map(str, lost[:8]))}{', ...' if len(lost) > 8 else ''}); "
            "a score of unequal draws would be wrong, so none is given: run the stage again"
        )
    if (counts > 1).any():
        at, twice = map(int, np.argwhere(counts > 1)[0])
        raise BadInput(
            f"benchmark {name}: sample {twice} of question {questions[at]} is there {counts[at, twice]} times"
        )
    order = np.argsort(cell)

    def grid(column: str) -> NDArray[np.generic]:
        return table[column].to_numpy()[order].reshape(len(questions), samples)

    return Answers(
        benchmark=name,
        questions=tuple(questions),
        correct=grid("correct").astype(np.bool_),
        truncated=grid("truncated").astype(np.bool_),
        tokens=grid("response_tokens").astype(np.int64),
        errors=len(table) - table["error"].null_count,
        votes=grid(VOTE).astype(np.str_) if VOTE in table.column_names and not table[VOTE].null_count else None,
        once=once,
    )
