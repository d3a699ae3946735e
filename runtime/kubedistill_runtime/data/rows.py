"""Rows of a source of questions: a JSONL or Parquet file anywhere, or a dataset of the Hugging Face hub.

Rows are dictionaries and come one at a time, in the order of the source. Libraries of a kind of source are imported
when there is one. Everything that is wrong with a source is a BadInput that names the manifest's field.
"""

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any

from kubedistill_api.data import QuestionSource, SecretKeyRef
from kubedistill_runtime.data.storage import local_path
from kubedistill_runtime.errors import BadInput, TryAgain

Row = dict[str, Any]

JSONL_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz")
PARQUET_SUFFIXES = (".parquet",)
BATCH_ROWS = 256


def read_rows(source: QuestionSource, where: str, columns: list[str] | None = None) -> Iterator[Row]:
    """The first `limit` rows. `where` is the source's field in the manifest; `columns` are the ones needed, by the
    first part of their names, where the format can leave others unread.

    Raises BadInput when the source does not exist, cannot be read or is empty; TryAgain when a server fails.
    """
    rows = islice(_rows(source, where, columns), source.limit)
    first = next(rows, None)
    if first is None:
        raise BadInput(f"{where}.uri: {source.uri} has no rows; give a source with at least one question")
    yield first
    yield from rows


def is_file(uri: str) -> bool:
    """Whether a URI names a file rather than a dataset of the hub."""
    return uri.endswith(JSONL_SUFFIXES + PARQUET_SUFFIXES)


def secret(ref: SecretKeyRef | None, where: str) -> str | None:
    """The value of a secret, which executors provide as an environment variable. Raises BadInput when it is unset."""
    if ref is None:
        return None
    value = os.environ.get(ref.key)
    if not value:
        raise BadInput(f"{where}: the environment variable {ref.key} is not set; set it, or remove the field")
    return value


def at_revision(uri: str, revision: str | None) -> str:
    """The URI of a file of the hub at a commit or tag, `hf://datasets/ORG/NAME@REVISION/PATH`; others as they are."""
    scheme, _, rest = uri.partition("://")
    parts = rest.split("/", 3)
    if revision is None or scheme != "hf" or len(parts) < 4 or not is_file(uri) or "@" in parts[2]:
        return uri
    return f"hf://{parts[0]}/{parts[1]}/{parts[2]}@{revision}/{parts[3]}"


def _rows(source: QuestionSource, where: str, columns: list[str] | None) -> Iterator[Row]:
    uri = at_revision(source.uri, source.revision)
    if uri.endswith(JSONL_SUFFIXES):
        return _jsonl(uri, where)
    if uri.endswith(PARQUET_SUFFIXES):
        return _parquet(uri, where, columns)
    if uri.startswith("hf://"):
        return _hub(source, where, columns)
    hint = " (a dataset of the hub starts with hf://)" if "://" not in uri else ""
    raise BadInput(
        f"{where}.uri: {uri} is neither a file of a known format ({', '.join(JSONL_SUFFIXES + PARQUET_SUFFIXES)}) "
        f"nor a dataset of the hub{hint}"
    )


def _open(uri: str, where: str) -> IO[bytes]:
    import fsspec

    path = local_path(uri)
    try:
        # With a compression the opened object is a wrapper whose own close ends the file as well.
        return fsspec.open(str(path) if path else uri, "rb", compression="infer").open()
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise BadInput(f"{where}.uri: {path or uri}: {(error.strerror or 'cannot be opened').lower()}") from None
    except (ImportError, ValueError) as error:
        raise BadInput(f"{where}.uri: {uri} cannot be opened: {error}") from None
    except OSError as error:
        raise TryAgain(f"{where}.uri: {uri} cannot be opened: {error}") from error


def _jsonl(uri: str, where: str) -> Iterator[Row]:
    with _open(uri, where) as file:
        for number, line in enumerate(_whole(file, uri, where), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
            except UnicodeDecodeError:
                raise BadInput(f"{uri}:{number}: not UTF-8 ({where}.uri)") from None
            except (ValueError, RecursionError) as error:
                raise BadInput(f"{uri}:{number}: not JSON: {error} ({where}.uri)") from None
            if not isinstance(row, dict):
                raise BadInput(f"{uri}:{number}: a row must be an object like {{...}} ({where}.uri)")
            yield row


def _whole(file: IO[bytes], uri: str, where: str) -> Iterator[bytes]:
    """The lines of a file that may be compressed."""
    try:
        yield from file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"{uri}: its compression is damaged: {error} ({where}.uri)") from None


def _parquet(uri: str, where: str, columns: list[str] | None) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _open(uri, where) as file:
        try:
            table = pq.ParquetFile(file)
            there = table.schema_arrow.names
            wanted = [name for name in there if name in columns] if columns else there
            if columns and len(wanted) < len(columns):
                wanted = there  # the caller tells what there is instead
            for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
                yield from batch.to_pylist()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise BadInput(f"{uri}: not a Parquet file that can be read: {error} ({where}.uri)") from None


def _hub(source: QuestionSource, where: str, columns: list[str] | None) -> Iterator[Row]:
    import datasets
    from datasets.exceptions import DatasetsError

    token = secret(source.token_secret_ref, f"{where}.tokenSecretRef")
    name = source.uri.removeprefix("hf://").removeprefix("datasets/")
    asked = f"{source.uri} (subset {source.subset or 'none'}, split {source.split})"
    try:
        dataset = datasets.load_dataset(name, source.subset, split=source.split, revision=source.revision, token=token)
    except (DatasetsError, ValueError) as error:  # no such dataset, subset or split; the message lists what there is
        raise BadInput(f"{where}: {asked}: {error}") from error
    except OSError as error:
        if os.environ.get("HF_HUB_OFFLINE"):
            raise BadInput(f"{where}.uri: {asked} is not in the cache, and HF_HUB_OFFLINE is set") from error
        raise TryAgain(f"{where}.uri: {asked} cannot be fetched: {error}") from error
    if columns and set(columns) <= set(dataset.column_names):
        dataset = dataset.select_columns(columns)
    yield from dataset
