"""Reading rows: formats, and what is said of sources that cannot be read."""

import gzip
import json
import sys
import types
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubedistill_api.data import QuestionSource, SecretKeyRef
from kubedistill_runtime.data.rows import at_revision, read_rows
from kubedistill_runtime.errors import BadInput, TryAgain

WHERE = "spec.questions[0]"


def rows(uri: str, columns: list[str] | None = None, **fields: Any) -> list[dict[str, Any]]:
    return list(read_rows(QuestionSource(uri=uri, **fields), WHERE, columns))


def test_jsonl_with_blank_lines_and_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n{"a": 2}')
    assert rows(str(path)) == [{"a": 1}, {"a": 2}]


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n'))
    assert rows(f"file://{path}") == [{"a": 1}]


def test_parquet_reads_only_the_columns_needed(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    pq.write_table(pa.table({"a": [1, 2], "trace": ["long", "long"], "s": [{"x": 1}, {"x": 2}]}), path)
    assert rows(str(path), ["a", "s"]) == [{"a": 1, "s": {"x": 1}}, {"a": 2, "s": {"x": 2}}]
    assert set(rows(str(path), ["a", "missing"])[0]) == {"a", "trace", "s"}


def test_the_limit_stops_before_later_rows_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\nnot json\n')
    assert rows(str(path), limit=2) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": \n', r"q\.jsonl:2: not JSON"),
        (b'{"a": 1}\n[1]\n', r"q\.jsonl:2: a row must be an object"),
        (b'{"a": "\xff"}\n', r"q\.jsonl:1: not UTF-8"),
        (b"[" * 100_000, r"q\.jsonl:1: not JSON"),
        (b"", r"spec\.questions\[0\]\.uri: .* has no rows"),
        (b"\n\n", "has no rows"),
    ],
)
def test_a_corrupt_line_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        rows(str(path))


def test_a_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(BadInput, match=r"q\.parquet: not a Parquet file"):
        rows(str(path))


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.parquet"])
def test_a_missing_file_names_the_field(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"spec\.questions\[0\]\.uri: .*missing.*no such file"):
        rows(str(tmp_path / name))


def test_a_hub_name_without_its_scheme_is_recognised() -> None:
    with pytest.raises(BadInput, match="hf://"):
        rows("simplescaling/s1K-1.1")


def test_an_unknown_embedded_name_lists_what_there_is() -> None:
    with pytest.raises(BadInput, match=r"questions/train\.jsonl"):
        rows("embedded://questions/nothing.jsonl")


class FakeDataset(list):  # type: ignore[type-arg]
    """What `datasets` gives, as far as it is used."""

    column_names = ("a", "b")

    def select_columns(self, names: list[str]) -> "FakeDataset":
        return FakeDataset({name: row[name] for name in names} for row in self)


class FakeHub:
    def __init__(self, answer: FakeDataset | Exception) -> None:
        self.answer = answer
        self.asked: tuple[Any, ...] = ()

    def load_dataset(self, name: str, subset: str | None, **options: Any) -> FakeDataset:
        self.asked = (name, subset, options)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(FakeDataset([{"a": 1, "b": 2}]))
    module, exceptions = types.ModuleType("datasets"), types.ModuleType("datasets.exceptions")
    module.load_dataset = fake.load_dataset  # type: ignore[attr-defined]
    exceptions.DatasetsError = type("DatasetsError", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setitem(sys.modules, "datasets.exceptions", exceptions)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return fake


def test_a_hub_dataset_is_asked_for_split_subset_revision_and_token(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_TOKEN", "secret")
    found = rows(
        "hf://org/set",
        ["a"],
        split="train",
        subset="main",
        revision="abc",
        token_secret_ref=SecretKeyRef(name="hub", key="HUB_TOKEN"),
    )
    assert found == [{"a": 1}]
    assert hub.asked == ("org/set", "main", {"split": "train", "revision": "abc", "token": "secret"})


def test_a_secret_that_is_not_set_names_the_variable(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUB_TOKEN", raising=False)
    with pytest.raises(BadInput, match=r"tokenSecretRef: the environment variable HUB_TOKEN is not set"):
        rows("hf://org/set", token_secret_ref=SecretKeyRef(name="hub", key="HUB_TOKEN"))


def test_a_wrong_split_is_the_users_mistake(hub: FakeHub) -> None:
    hub.answer = ValueError('Unknown split "tran". Should be one of ["train"].')
    with pytest.raises(BadInput, match=r'split tran.*Should be one of \["train"\]'):
        rows("hf://org/set", split="tran")


def test_an_unreachable_hub_can_be_tried_again(hub: FakeHub) -> None:
    hub.answer = ConnectionError("no route")
    with pytest.raises(TryAgain, match="no route"):
        rows("hf://org/set")


def test_an_offline_machine_is_not_asked_to_try_again(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.answer = ConnectionError("offline")
    with pytest.raises(BadInput, match="HF_HUB_OFFLINE is set"):
        rows("hf://org/set")


def test_rows_come_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps({"a": i}) + "\n" for i in range(10)) + "broken\n")
    reader = read_rows(QuestionSource(uri=str(path)), WHERE)
    assert [next(reader)["a"] for _ in range(10)] == list(range(10))
    with pytest.raises(BadInput):
        next(reader)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b'{"a": 1}\n' * 1000)[:-20]])
def test_a_compressed_file_that_is_damaged_is_bad_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "q.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"its compression is damaged.*spec\.questions\[0\]\.uri"):
        rows(str(path))


@pytest.mark.parametrize(
    ("uri", "revision", "read"),
    [
        ("hf://datasets/org/set/a/b.jsonl", "abc", "hf://datasets/org/set@abc/a/b.jsonl"),
        ("hf://datasets/org/set/b.parquet", None, "hf://datasets/org/set/b.parquet"),
        ("hf://datasets/org/set@def/b.jsonl", "abc", "hf://datasets/org/set@def/b.jsonl"),
        ("hf://org/set", "abc", "hf://org/set"),
        ("s3://bucket/org/set/b.jsonl", "abc", "s3://bucket/org/set/b.jsonl"),
    ],
)
def test_a_file_of_the_hub_is_read_at_its_revision(uri: str, revision: str | None, read: str) -> None:
    assert at_revision(uri, revision) == read
