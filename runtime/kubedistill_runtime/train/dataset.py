"""Training examples from a corpus of verified traces.

Token ids are prompt ids + response ids as they were sampled; nothing is decoded or encoded again, and the loss mask
follows from the position alone.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kubedistill_runtime.errors import BadInput

COLUMNS = ("prompt_token_ids", "response_token_ids")
KEYS = ("question_id", "sample_index")


@dataclass(frozen=True, slots=True)
class Example:
    """One trace: `token_ids` (N,) int32, and how many of them are the prompt. The loss is on the others."""

    token_ids: np.ndarray
    prompt_tokens: int

    @property
    def inputs(self) -> int:
        """Positions that go through the model: all but the last token, which predicts nothing."""
        return len(self.token_ids) - 1

    @property
    def targets(self) -> int:
        """Tokens with loss: the response."""
        return len(self.token_ids) - self.prompt_tokens


@dataclass(frozen=True)
class Dataset:
    """Examples in a fixed order, and what was left out or looked odd, by name."""

    examples: tuple[Example, ...]
    rows: int
    dropped_overlong: int
    """Rows longer than the context length."""
    dropped_empty: int
    """Rows without a prompt or without a response."""
    without_eos: int
    """Kept rows whose response does not end with an end-of-sequence token."""

    def counts(self) -> dict[str, int]:
        """The counts for summary.json."""
        return {
            "rows": self.rows,
            "examples": len(self.examples),
            "dropped_overlong": self.dropped_overlong,
            "dropped_empty": self.dropped_empty,
            "without_eos": self.without_eos,
        }


def load_dataset(path: Path, *, context_length: int, vocab_size: int, eos_token_ids: frozenset[int]) -> Dataset:
    """Reads a corpus file, or every `.parquet` and `.jsonl` file of a folder.

    Rows are ordered by (question_id, sample_index) where these columns exist, so that the way a corpus was cut into
    files does not change the batches. Raises BadInput for a missing or malformed corpus, for token ids outside the
    model's vocabulary, and where no example is left.
    """
    rows = sorted(_rows(path), key=lambda row: row[0])
    examples: list[Example] = []
    overlong = empty = without_eos = 0
    for _, prompt_N, response_N in rows:
        if not len(prompt_N) or not len(response_N):
            empty += 1
        elif len(prompt_N) + len(response_N) > context_length:
            overlong += 1
        else:
            token_ids = np.concatenate([prompt_N, response_N])
            if token_ids.min() < 0 or token_ids.max() >= vocab_size:
                raise BadInput(
                    f"corpus {path}: a token id is outside the student's vocabulary of {vocab_size}; "
                    "the traces were made with another tokenizer"
                )
            without_eos += int(response_N[-1]) not in eos_token_ids
            examples.append(Example(token_ids, len(prompt_N)))
    if not examples:
        raise BadInput(
            f"corpus {path} leaves no example: {len(rows)} rows, {overlong} longer than contextLength "
            f"{context_length}, {empty} without prompt or response"
        )
    return Dataset(tuple(examples), len(rows), overlong, empty, without_eos)


def _rows(path: Path) -> Iterator[tuple[tuple[str, int], np.ndarray, np.ndarray]]:
    for file in _files(path):
        for number, row in enumerate(_read_parquet(file) if file.suffix == ".parquet" else _read_jsonl(file)):
            missing = [column for column in COLUMNS if column not in row]
            if missing:
                raise BadInput(f"corpus {file}: row {number} has no {' and no '.join(missing)}")
            prompt_N, response_N = (_token_ids(row[column]) for column in COLUMNS)
            if prompt_N is None or response_N is None:
                raise BadInput(f"corpus {file}: row {number}: token ids must be a list of integers")
            yield (str(row.get(KEYS[0], "")), int(row.get(KEYS[1]) or 0)), prompt_N, response_N


def _token_ids(value: Any) -> np.ndarray | None:
    """int32 ids, or None for anything but a list of integers that fit."""
    if value is None or len(value) == 0:
        return np.empty(0, np.int32)
    array = np.asarray(value) if isinstance(value, list | np.ndarray) else np.empty(())
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.max() > np.iinfo(np.int32).max:
        return None
    return array.astype(np.int32)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise BadInput(f"corpus not found: {path}")
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".parquet", ".jsonl"))
    else:
        files = [path] if path.suffix in (".parquet", ".jsonl") else []
    if not files:
        raise BadInput(f"corpus {path}: expected a .parquet or .jsonl file, or a folder of them")
    return files


def _read_parquet(file: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(file).names
        table = pq.read_table(file, columns=[name for name in COLUMNS + KEYS if name in names])
    except pa.ArrowInvalid as error:
        raise BadInput(f"corpus {file} is not a Parquet file: {error}") from error
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in COLUMNS:
            if not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
                raise BadInput(f"corpus {file}: column {name} must hold lists of integers, not {column.type}")
            ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False))
            # Views of one flat array: a list of Python integers would take nine times the memory.
            columns[name] = np.split(column.flatten().to_numpy(zero_copy_only=False), ends[:-1]) if len(ends) else []
        else:
            columns[name] = column.to_pylist()
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _read_jsonl(file: Path) -> Iterator[dict[str, Any]]:
    with file.open() as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise BadInput(f"corpus {file}: line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise BadInput(f"corpus {file}: line {number} is not a JSON object")
            yield row
