"""Tables of benchmark results."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

ResultsTable = Callable[..., pa.Table]


@pytest.fixture
def results_table() -> ResultsTable:
    def build(correct: dict[str, dict[str, list[bool]]], *, tokens: int = 10, errors: int = 0) -> pa.Table:
        """Results by benchmark and question; the first `errors` answers have an error."""
        rows = [
            {
                "benchmark": benchmark,
                "question_id": question,
                "sample_index": index,
                "correct": right,
                "method": "rules",
                "error": None,
                "response": "<think>\n1\n</think>\n\\boxed{1}",
                "response_tokens": tokens + index,
                "truncated": not right and index == 0,
                "seed": index,
            }
            for benchmark, questions in correct.items()
            for question, answers in questions.items()
            for index, right in enumerate(answers)
        ]
        for row in rows[:errors]:
            row["error"] = "judge gave no verdict"
        types = {"sample_index": pa.int32(), "error": pa.string()}
        table = pa.Table.from_pylist(rows)
        for name, kind in types.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, table[name].cast(kind))
        return table

    return build


@pytest.fixture
def shuffled() -> Callable[[pa.Table], pa.Table]:
    def shuffle(table: pa.Table) -> pa.Table:
        return table.take(pa.array(np.random.default_rng(0).permutation(len(table))))

    return shuffle
