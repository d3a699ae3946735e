"""Traces out of Arrow tables."""

from array import array
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from kubedistill_runtime.curate.types import Trace

COLUMNS = (
    "question_id",
    "sample_index",
    "response_token_ids",
    "response_tokens",
    "response",
    "finish_reason",
    "correct",
    "method",
    "error",
    "surplus",
)
"""What curation reads of a stored trace; ask the Parquet reader for these only."""


def from_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[Trace]:
    """Traces of record batches, one at a time, with their token ids as `array('I')`: 4 bytes a token.

    Plain lists of integers would take ten times the memory, hence no `to_pylist` for that column.
    """
    for batch in batches:
        column = batch.column("response_token_ids")
        offsets = column.offsets.to_numpy()
        ids = column.values.to_numpy(zero_copy_only=False).astype(np.uint32, copy=False)
        rest = batch.select([name for name in COLUMNS if name in batch.schema.names and name != "response_token_ids"])
        for row, record in enumerate(rest.to_pylist()):
            tokens = array("I", ids[offsets[row] : offsets[row + 1]].tobytes())
            yield Trace.from_record({**record, "response_token_ids": tokens})
