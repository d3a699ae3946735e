"""Records that survive crashes, full disks and restarts."""

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubedistill_runtime.data import traces
from kubedistill_runtime.data.traces import TraceStore
from kubedistill_runtime.errors import TryAgain

SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("sample_index", pa.int32()),
        ("ids", pa.list_(pa.int32())),
        ("surplus", pa.bool_()),
    ]
)


def row(question: str, index: int) -> dict[str, Any]:
    return {"question_id": question, "sample_index": index, "ids": list(range(index)), "surplus": False}


def store_in(folder: Path) -> TraceStore:
    return TraceStore(folder, SCHEMA)


def keys(store: TraceStore) -> set[tuple[Any, ...]]:
    return {key for key, _ in store.records([])}


def test_a_record_is_durable_within_two_seconds_without_being_asked(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.add(row("a", 0))
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("part-*.arrow")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert traces.FLUSH_EVERY_S <= 2
        assert keys(store_in(tmp_path)) == {("a", 0)}


def test_a_record_is_given_back_whole_before_and_after_it_is_durable(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.add(row("a", 3))
        assert store.get(("a", 3)) == row("a", 3)
        store.flush()
        assert store.get(("a", 3)) == row("a", 3)
        assert store.get(("a", 4)) is None
    assert store_in(tmp_path).get(("a", 3)) == row("a", 3)


def test_leaving_makes_everything_durable(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        for index in range(1000):
            store.add(row("a", index))
    assert len(store_in(tmp_path)) == 1000


def test_records_are_found_again_and_can_be_added_to(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.add(row("a", 0))
    with store_in(tmp_path) as store:
        assert ("a", 0) in store
        assert ("a", 1) not in store
        store.add(row("a", 1))
    assert keys(store_in(tmp_path)) == {("a", 0), ("a", 1)}


def test_a_record_that_is_there_cannot_be_added_again(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.add(row("a", 0))
        with pytest.raises(AssertionError, match="recorded before"):
            store.add(row("a", 0))


def test_what_a_crash_left_half_written_is_removed(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.add(row("a", 0))
    (part,) = tmp_path.glob("*.arrow")
    whole = part.read_bytes()
    (tmp_path / ".part-00000001.arrow.tmp").write_bytes(whole[:10])
    (tmp_path / "part-00000002.arrow").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "part-00000003.arrow").write_bytes(b"")
    assert keys(store_in(tmp_path)) == {("a", 0)}
    assert [path.name for path in tmp_path.iterdir()] == [part.name]


def test_a_key_that_is_in_two_parts_counts_once(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.add(row("a", 0))
    (part,) = tmp_path.glob("*.arrow")
    (tmp_path / "merged-00000007.arrow").write_bytes(part.read_bytes())
    with store_in(tmp_path) as store:
        assert len(store) == 1
        assert len(list(store.records([]))) == 1
        assert store.compact(tmp_path / "out.parquet", [("a",)]) == 1


def test_many_parts_become_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MERGE_PARTS", 4)
    with store_in(tmp_path) as store:
        for index in range(30):
            store.add(row("a", index))
            store.flush()
        assert len(list(tmp_path.glob("*.arrow"))) < 12
        assert len(keys(store)) == 30
    assert len(keys(store_in(tmp_path))) == 30


def test_the_final_file_is_sorted_and_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    order = [("b",), ("a",), ("c",)]
    records = [row(question, index) for (question,) in order for index in range(7)]
    contents = []
    for seed in range(3):
        shuffled = random.Random(seed).sample(records, len(records))
        with store_in(tmp_path / str(seed)) as store:
            for number, record in enumerate(shuffled):
                store.add(record)
                if number % (seed + 2) == 0:
                    store.flush()
            path = tmp_path / f"{seed}.parquet"
            assert store.compact(path, order) == len(records)
        contents.append(path.read_bytes())
        assert pq.read_table(path).to_pylist() == records
        assert not (tmp_path / str(seed)).exists()
    assert contents[0] == contents[1] == contents[2]


def test_columns_known_only_at_the_end_are_filled_in(tmp_path: Path) -> None:
    with store_in(tmp_path / "parts") as store:
        store.add(row("a", 0))
        store.add(row("a", 1))
        store.compact(tmp_path / "out.parquet", [("a",)], {"surplus": {("a", 1): True}})
    assert pq.read_table(tmp_path / "out.parquet")["surplus"].to_pylist() == [False, True]


def test_a_file_of_no_records_still_has_its_columns(tmp_path: Path) -> None:
    with store_in(tmp_path / "parts") as store:
        assert store.compact(tmp_path / "out.parquet", []) == 0
    assert pq.read_schema(tmp_path / "out.parquet").names == SCHEMA.names


def test_records_of_other_questions_are_not_dropped_in_silence(tmp_path: Path) -> None:
    with store_in(tmp_path / "parts") as store:
        store.add(row("stranger", 0))
        with pytest.raises(ValueError, match="stranger"):
            store.compact(tmp_path / "out.parquet", [("a",)])


def test_parts_of_another_version_are_refused(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.add(row("a", 0))
    with pytest.raises(ValueError, match="other columns"):
        TraceStore(tmp_path, pa.schema([("question_id", pa.string()), ("sample_index", pa.int32())]))


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = False
    real = os.fsync

    def fsync(handle: int) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with store_in(tmp_path / "parts") as store:
        store.add(row("a", 0))
        store.flush()
        full = True
        store.add(row("a", 1))
        with pytest.raises(TryAgain, match="no space left"):
            store.flush()
        assert keys(store_in(tmp_path / "parts")) == {("a", 0)}, "what was durable stays so"
        full = False
        store.flush()
    assert keys(store_in(tmp_path / "parts")) == {("a", 0), ("a", 1)}


def test_a_full_disk_surfaces_in_the_next_call_of_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "FLUSH_EVERY_S", 0.05)
    with store_in(tmp_path) as store:
        with monkeypatch.context() as patch:
            patch.setattr(traces, "fsync_folder", _no_space)
            store.add(row("a", 0))
            with pytest.raises(TryAgain, match="no space left"):
                _add_until_it_fails(store)
        store.flush()
    assert ("a", 0) in store_in(tmp_path)


def _add_until_it_fails(store: TraceStore) -> None:
    for index in range(1, 1000):
        store.add(row("a", index))
        time.sleep(0.05)


def _no_space(folder: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import pyarrow as pa
    from kubedistill_runtime.data import traces
    traces.FLUSH_EVERY_S, traces.FLUSH_RECORDS, traces.MERGE_PARTS = 0.01, 5, 6
    schema = pa.schema([("question_id", pa.string()), ("sample_index", pa.int32())])
    with traces.TraceStore(Path(sys.argv[1]), schema) as store:
        for index in range(10**9):
            if ("a", index) not in store:
                store.add({"question_id": "a", "sample_index": index})
                if index % 3 == 0:
                    store.flush()
                    print(index, flush=True)
    """
)


def test_killed_at_any_moment_it_keeps_every_record_that_it_called_durable(tmp_path: Path) -> None:
    schema = pa.schema([("question_id", pa.string()), ("sample_index", pa.int32())])
    for round_ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            durable = -1
            for line in child.stdout:
                durable = int(line)
                if durable >= 100 * (round_ + 1) + 7 * round_:
                    break
            os.kill(child.pid, signal.SIGKILL)
        store = TraceStore(tmp_path, schema)
        found = [key[1] for key, _ in store.records([])]
        assert len(found) == len(set(found)), "a record is there twice"
        assert set(range(durable + 1)) <= set(found), "a durable record is gone"
        assert set(found) == set(range(len(found))), "records in between are gone"
