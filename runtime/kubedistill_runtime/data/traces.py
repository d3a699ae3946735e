"""Durable records of what was drawn: part files while the stage runs, one Parquet file at its end.

A record is written once and is never changed. A part file is an Arrow IPC file put by temp + fsync + rename, so that
a crash leaves whole parts only, and a reader maps it without copying. Records are durable `FLUSH_EVERY_S` after they
were added, or sooner where many come.
"""

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from kubedistill_runtime.data.storage import disk_error, fsync_folder

log = logging.getLogger(__name__)

TRACES = pa.schema(
    [
        ("question_id", pa.string()),
        ("sample_index", pa.int32()),
        ("domain", pa.string()),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("response_token_ids", pa.list_(pa.int32())),
        ("prompt_tokens", pa.int32()),
        ("response_tokens", pa.int32()),
        ("response", pa.string()),
        ("finish_reason", pa.string()),
        ("correct", pa.bool_()),
        ("method", pa.string()),
        ("error", pa.string()),
        ("verify_seconds", pa.float64()),
        ("latency_seconds", pa.float64()),
        ("seed", pa.int64()),
        ("surplus", pa.bool_()),
        ("teacher", pa.string()),
    ]
)
"""A trace: a teacher's response with its verdict.

The token ids are empty where an endpoint gives text only, and the numbers of tokens null where it does not count them.
"""

RESULTS = pa.schema(
    [
        ("benchmark", pa.string()),
        ("question_id", pa.string()),
        ("sample_index", pa.int32()),
        ("correct", pa.bool_()),
        ("method", pa.string()),
        ("error", pa.string()),
        ("response", pa.string()),
        ("response_tokens", pa.int32()),
        ("truncated", pa.bool_()),
        ("seed", pa.int64()),
    ]
)
"""A model's answer to a benchmark's question."""

Key = tuple[Any, ...]
"""Values of a store's key columns; the last is the sample index."""

FLUSH_EVERY_S = 1.5
"""Age at which a record is put into a part file."""
FLUSH_RECORDS = 512
"""Records at which a part file is put before that."""
MERGE_PARTS = 128
"""Small parts at which they become one: a job of days would otherwise keep more files open than a process may."""
ROW_GROUP = 1024
"""Rows of one row group of the final file; bounds the memory that making it takes."""

_PART, _MERGED = "part", "merged"


@dataclass(frozen=True)
class _Row:
    """Where a record lies."""

    part: pa.Table
    row: int


class TraceStore:
    """Records keyed by (question id, sample index) in a folder; each key at most once.

    Use it as a context manager: it writes from a thread of its own, and leaving flushes. Errors of that thread
    surface in the next call. Raises TryAgain when the disk is full; what was durable stays so, and what was not yet
    is kept in memory and put by the next flush that succeeds.
    """

    def __init__(self, folder: Path, schema: pa.Schema, key: Sequence[str] = ("question_id", "sample_index")) -> None:
        self._folder = folder
        self._schema = schema
        self._key = tuple(key)
        self._rows: dict[Key, _Row] = {}
        self._buffer: dict[Key, dict[str, Any]] = {}
        self._oldest: float | None = None
        self._small: list[Path] = []
        self._numbers: Iterator[int] = itertools.count()
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._error: Exception | None = None
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._load()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._write, name="trace-store", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        if error is None:
            self.flush()
            return
        with contextlib.suppress(Exception):  # the first error is the one to tell; this one came of the same disk
            self.flush()

    def __len__(self) -> int:
        return len(self._rows) + len(self._buffer)

    def __contains__(self, key: Key) -> bool:
        return key in self._rows or key in self._buffer

    def get(self, key: Key) -> dict[str, Any] | None:
        """One record, whole."""
        with self._changed:
            if (record := self._buffer.get(key)) is not None:
                return dict(record)
            place = self._rows.get(key)
        if place is None:
            return None
        (record,) = place.part.slice(place.row, 1).to_pylist()
        return record

    def records(self, columns: Sequence[str]) -> Iterator[tuple[Key, dict[str, Any]]]:
        """Every durable record's key with the columns asked for."""
        names = [*self._key, *(name for name in columns if name not in self._key)]
        for table in {id(row.part): row.part for row in self._rows.values()}.values():
            for number, record in enumerate(table.select(names).to_pylist()):
                key = self._key_of(record)
                place = self._rows[key]
                if place.part is table and place.row == number:
                    yield key, record

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes a record; durable soon. A key that is there already is an error of the caller."""
        key = self._key_of(record)
        with self._changed:
            self._raise()
            assert key not in self, f"{key} was recorded before"
            self._buffer[key] = dict(record)
            if self._oldest is None:
                self._oldest = time.monotonic()
                self._changed.notify()
            elif len(self._buffer) >= FLUSH_RECORDS:
                self._changed.notify()

    def flush(self) -> None:
        """Returns when every record is durable."""
        with self._changed:
            self._error = None
        self._flush()

    def compact(self, path: Path, order: Sequence[Key], columns: Mapping[str, Mapping[Key, Any]] | None = None) -> int:
        """Writes all records to one Parquet file and removes the parts; returns the number of rows.

        Rows are sorted by the place of their question (the key without the sample index) in `order`, then by sample
        index; equal records give equal bytes. `columns` replaces values that are known only at the end.
        Raises ValueError when a record's question is not in `order`.
        """
        self.flush()
        place = {question: number for number, question in enumerate(order)}
        strangers = {key[:-1] for key in self._rows if key[:-1] not in place}
        if strangers:
            raise ValueError(f"{self._folder} holds records of other questions: {sorted(strangers)[:3]}")
        keys = sorted(self._rows, key=lambda key: (place[key[:-1]], key[-1]))
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                with pq.ParquetWriter(file, self._schema, compression="zstd") as writer:
                    for start in range(0, len(keys), ROW_GROUP):
                        writer.write_table(self._gather(keys[start : start + ROW_GROUP], columns or {}))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            fsync_folder(path.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise disk_error(error, path) from error
        self.discard()
        return len(keys)

    def discard(self) -> None:
        """Removes the parts; for when what they hold is durable elsewhere."""
        self._rows.clear()
        self._small.clear()
        for part in self._folder.glob("*.arrow"):
            part.unlink()
        with contextlib.suppress(OSError):  # something else lies in it
            self._folder.rmdir()

    def _gather(self, keys: list[Key], columns: Mapping[str, Mapping[Key, Any]]) -> pa.Table:
        table = pa.concat_tables([self._rows[key].part.slice(self._rows[key].row, 1) for key in keys])
        for name, values in columns.items():
            index = self._schema.get_field_index(name)
            before = table[name].to_pylist()
            after = [values.get(key, old) for key, old in zip(keys, before, strict=True)]
            table = table.set_column(index, self._schema.field(name), pa.array(after, self._schema.field(name).type))
        # Chunks as they happened to be would show in the file's pages.
        return table.combine_chunks()

    def _key_of(self, record: Mapping[str, Any]) -> Key:
        return tuple(record[name] for name in self._key)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _load(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._folder.glob(".*.tmp"):
            leftover.unlink()
        numbers = [-1]
        for path in sorted(self._folder.glob("*.arrow")):
            try:
                table = _open(path)
            except (pa.ArrowInvalid, OSError) as error:
                log.warning("%s cannot be read and is removed, its records are drawn again: %s", path, error)
                path.unlink()
                continue
            if table.schema != self._schema:
                raise ValueError(f"{path} has other columns than this version writes; remove {self._folder}")
            self._index(table)
            numbers.append(int(path.stem.partition("-")[2]))
            if path.name.startswith(_PART):
                self._small.append(path)
        self._numbers = itertools.count(max(numbers) + 1)

    def _index(self, table: pa.Table) -> None:
        columns = [table[name].to_pylist() for name in self._key]
        for number, key in enumerate(zip(*columns, strict=True)):
            self._rows.setdefault(key, _Row(table, number))

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._stopped and len(self._buffer) < FLUSH_RECORDS:
                    due = None if self._oldest is None else self._oldest + FLUSH_EVERY_S - time.monotonic()
                    if due is not None and due <= 0:
                        break
                    self._changed.wait(due)
                if self._stopped:
                    return
            error: Exception | None = None
            try:
                self._flush()
            except Exception as caught:  # told to whoever calls next, and tried again
                error = caught
            with self._changed:
                self._error = error
                if error is not None and not self._stopped:
                    self._changed.wait(FLUSH_EVERY_S)

    def _flush(self) -> None:
        with self._writing:
            with self._changed:
                records = dict(self._buffer)
                self._oldest = None
            if not records:
                return
            try:
                table = self._put(_PART, pa.Table.from_pylist(list(records.values()), schema=self._schema).to_batches())
            except BaseException:
                with self._changed:
                    self._oldest = time.monotonic()
                raise
            with self._changed:
                self._index(table)
                for key in records:
                    del self._buffer[key]
            if len(self._small) >= MERGE_PARTS:
                self._merge()

    def _put(self, kind: str, batches: Sequence[pa.RecordBatch]) -> pa.Table:
        path = self._folder / f"{kind}-{next(self._numbers):08d}.arrow"
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                with pa.ipc.new_file(file, self._schema) as writer:
                    for batch in batches:
                        writer.write_batch(batch)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            fsync_folder(self._folder)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise disk_error(error, path) from error
        if kind == _PART:
            self._small.append(path)
        return _open(path)

    def _merge(self) -> None:
        """Small parts into one. A crash in between leaves records twice, of which loading keeps one."""
        small = list(self._small)
        merged = self._put(_MERGED, [batch for path in small for batch in _open(path).to_batches()])
        self._small.clear()
        with self._changed:
            columns = [merged[name].to_pylist() for name in self._key]
            for number, key in enumerate(zip(*columns, strict=True)):
                self._rows[key] = _Row(merged, number)
        for path in small:
            path.unlink()


def _open(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
