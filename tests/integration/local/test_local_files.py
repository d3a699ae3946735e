"""Fingerprints, locks, delivery and the state that a run goes on from."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kubedistill_api.conditions import put
from kubedistill_api.graph import Graph
from kubedistill_api.manifest import load
from kubedistill_api.planning import plan
from kubedistill_api.status import JobStatus, StageStatus
from kubedistill_runtime.data.delivery import deliver
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.local import machine
from kubedistill_runtime.local.drive import taken_up
from kubedistill_runtime.local.fingerprints import WHOLE_CONTENT_BYTES, fingerprint, sources
from kubedistill_runtime.local.locks import FileLock
from kubedistill_runtime.local.process import last_words
from kubedistill_runtime.stages import supervise
from tests.integration.local.local_bench import Bench

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def graph_of(bench: Bench) -> Graph:
    resource = load(bench.manifest).resolved().resources[0]
    return plan(resource, sources=sources(resource))


def status_of(graph: Graph, state: str, attempt: int = 2, **conditions: str) -> JobStatus:
    stages = [StageStatus(name=n.name, kind=n.kind, digest=n.digest, state=state, attempt=attempt) for n in graph.nodes]
    status = JobStatus(stages=stages)
    for kind, reason in conditions.items():
        status = status.model_copy(update={"conditions": put(status.conditions, kind, "True", reason, "", NOW, 1)})
    return status


def test_a_small_file_is_known_by_its_content_and_a_large_one_by_its_time(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_text("a")
    with large.open("wb") as file:
        file.truncate(WHOLE_CONTENT_BYTES + 1)
    before = fingerprint(small), fingerprint(large)
    for path in (small, large):
        os.utime(path, ns=(1, 1))
    assert fingerprint(small) == before[0]
    assert fingerprint(large) != before[1]


def test_a_folder_is_known_by_the_names_and_contents_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    seen = {fingerprint(tmp_path)}
    (tmp_path / "a").write_text("2")
    seen.add(fingerprint(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    seen.add(fingerprint(tmp_path))
    assert len(seen) == 3


def test_embedded_files_have_fingerprints_and_hub_names_have_none(bench: Bench) -> None:
    bench.write(student={"uri": "embedded://models/student"})
    found = sources(load(bench.manifest).resolved().resources[0])
    assert found["embedded://models/student"].startswith("sha256:")
    assert not any(uri.startswith("hf://") for uri in found)


def test_all_missing_files_are_named_at_once(bench: Bench) -> None:
    bench.write(student={"uri": "models/none"}, questions=[{"uri": "embedded://questions/none"}])
    with pytest.raises(BadInput) as error:
        sources(load(bench.manifest).resolved().resources[0])
    assert "spec.student.uri" in str(error.value)
    assert "spec.questions[0].uri" in str(error.value)


def test_a_lock_is_held_once_and_tells_by_whom(tmp_path: Path) -> None:
    one, two = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert not two.is_held()
    assert one.acquire()
    assert not two.acquire()
    assert two.is_held()
    assert two.holder() == str(os.getpid())
    one.release()
    assert two.acquire()
    two.release()


def test_a_child_that_inherits_a_lock_keeps_it(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.acquire()
    inherited = os.dup(lock.fileno())
    lock.release()
    assert FileLock(tmp_path / "lock").is_held()
    os.close(inherited)
    assert not FileLock(tmp_path / "lock").is_held()


def test_an_output_is_brought_up_to_date_and_then_left_alone(bench: Bench) -> None:
    bench.run(quiet=True)
    out = bench.folder / "out"
    assert deliver(bench.workspace.made(graph_of(bench)), str(out))
    assert not deliver(bench.workspace.made(graph_of(bench)), str(out))
    (out / "report.html").unlink()
    assert deliver(bench.workspace.made(graph_of(bench)), f"file://{out}")
    assert sorted(p.name for p in out.iterdir()) == [
        ".kubedistill.json",
        "README.md",
        "corpus.parquet",
        "model",
        "report.html",
    ]


def test_a_complete_job_stays_so_while_every_result_is_there(bench: Bench) -> None:
    graph = graph_of(bench)
    status = status_of(graph, "Succeeded", Complete="StagesSucceeded")
    every = dict.fromkeys((node.digest for node in graph.nodes), object())
    assert taken_up(status, graph, every) is status
    without = {digest: result for digest, result in every.items() if digest != graph["train"].digest}
    again = taken_up(status, graph, without)
    assert again.conditions == []
    assert {s.name: (s.state, s.attempt) for s in again.stages}["train"] == ("Waiting", 3)
    assert {s.name: (s.state, s.attempt) for s in again.stages}["sample"] == ("Succeeded", 2)


def test_a_failed_job_begins_anew_with_new_attempts_and_no_failures(bench: Bench) -> None:
    graph = graph_of(bench)
    again = taken_up(status_of(graph, "Failed", Failed="BackoffLimitExceeded"), graph, {})
    assert again.conditions == []
    assert {(s.state, s.attempt, s.failures) for s in again.stages} == {("Waiting", 3, 0)}


def test_a_job_that_was_cut_off_keeps_its_state(bench: Bench) -> None:
    graph = graph_of(bench)
    status = status_of(graph, "Running")
    assert taken_up(status, graph, {}) == status


def test_a_log_says_why_it_ends() -> None:
    assert last_words(["working", "error: no questions", ""]) == "no questions"
    assert last_words(["Traceback", "  File x", "ValueError: bad", "[daemon] bye"]) == "ValueError: bad"
    assert last_words(["one", "two"]) == "two"
    assert last_words([]) == ""


def test_memory_kills_are_read_from_either_version_of_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two, one = tmp_path / "memory.events", tmp_path / "memory.oom_control"
    two.write_text("low 0\noom 3\noom_kill 2\n")
    one.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n")
    for files, kills in (([tmp_path / "none", two], 2), ([one], 7), ([], None)):
        monkeypatch.setattr(supervise, "_memory_events", lambda files=files: files)
        assert supervise.memory_kills() == kills


def test_hidden_gpus_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible, expected in (("", 0), ("-1", 0), ("0,1", 2), ("GPU-a", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert machine.gpus() == expected
        assert machine.default_runtime().trainer.processes == max(1, expected)
