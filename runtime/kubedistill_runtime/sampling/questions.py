"""Questions as prepare left them, ready to be asked."""

from pathlib import Path

import pyarrow.parquet as pq

from kubedistill_api.verification import CodeTests
from kubedistill_runtime.sampling.draw import Question

COLUMNS = ("question_id", "domain", "prompt", "gold", "tests")


def read_questions(path: Path, key: tuple[str, ...] = ("question_id",)) -> list[Question]:
    """Rows of questions.parquet or benchmarks.parquet in their order; `key` names what makes a row unique."""
    columns = list(dict.fromkeys((*key, *COLUMNS)))
    return [
        Question(
            key=tuple(row[name] for name in key),
            question_id=row["question_id"],
            prompt=row["prompt"],
            domain=row["domain"],
            gold=row["gold"],
            tests=CodeTests.model_validate_json(row["tests"]) if row["tests"] else None,
        )
        for row in pq.read_table(path, columns=columns).to_pylist()
    ]
