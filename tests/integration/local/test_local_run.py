"""`kubedistill run` with real processes."""

import json
import os
import re
import shutil
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from kubedistill_api.conditions import find
from kubedistill_api.status import JobStatus
from kubedistill_runtime.cli.gc import gc_command
from tests.integration.local.local_bench import STAGES, Bench, eventually, is_alive


def test_a_job_runs_to_its_end_and_delivers(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write(output={"uri": "out"})
    assert bench.run() == 0
    status = bench.status()
    assert status.phase == "Complete"
    assert [e["stage"] for e in bench.events("start")] == list(STAGES)
    assert (status.corpus.questions, status.corpus.kept) == (10, 12)
    assert [score.mean for score in status.scores] == [0.3, 0.62]
    assert status.usage.completion_tokens == 100 * len(STAGES)
    out = bench.folder / "out"
    assert (out / "report.html").read_text() == "report made by report"
    assert (out / "model" / "config.json").exists()
    assert (out / "corpus.parquet").exists()
    text = capsys.readouterr().out
    for said in ("sample", "kept 12", "30.0 [25.0, 35.0]", "+32.0 [22.0, 41.0]", str(out / "model")):
        assert said in text


def test_a_second_run_has_nothing_to_do(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run()
    before = len(bench.events("start"))
    capsys.readouterr()
    assert bench.run() == 0
    assert len(bench.events("start")) == before
    text = capsys.readouterr().out
    assert "nothing to do: all stages reused" in text
    assert "62.0 [55.0, 69.0]" in text


def test_a_changed_manifest_reuses_what_is_equal(bench: Bench) -> None:
    bench.run()
    bench.write(training={"epochs": 3})
    assert bench.run() == 0
    again = [e["stage"] for e in bench.events("start")][len(STAGES) :]
    assert again == ["train", "evaluate", "report"]


def test_changed_questions_are_other_work(bench: Bench) -> None:
    bench.run()
    (bench.folder / "questions.jsonl").write_text('{"question": "2 + 2", "answer": "4"}\n')
    assert bench.run() == 0
    assert len(bench.events("start")) == 2 * len(STAGES)


def test_another_job_takes_what_is_there(bench: Bench) -> None:
    bench.run()
    bench.write("other", training={"epochs": 3})
    assert bench.run() == 0
    reused = {stage.name: stage.reused for stage in bench.status("other").stages}
    assert [name for name in STAGES if reused[name]] == ["prepare", "baseline", "sample", "curate"]


def test_a_result_that_was_removed_is_made_anew(bench: Bench) -> None:
    bench.run()
    for folder in (bench.workspace.folder / "stages").glob("curate-*"):
        (folder / "result.json").unlink()
    assert bench.run() == 0
    assert len(bench.events("start", "curate")) == 2
    assert len(bench.events("start")) == len(STAGES) + 1


def test_stages_that_do_not_need_each_other_run_side_by_side(bench: Bench) -> None:
    bench.behave(baseline=["meet sample"], sample=["meet baseline"])
    bench.write(activeDeadlineSeconds=60)
    assert bench.run(slots=2) == 0


def test_one_at_a_time_is_the_default(bench: Bench) -> None:
    bench.write(activeDeadlineSeconds=2)
    bench.behave(baseline=["meet sample"])
    assert bench.run() == 1
    assert bench.events("start", "sample") == []


def test_an_error_is_tried_again_and_then_ends_well(bench: Bench) -> None:
    bench.behave(sample=["exit 1", "kill", "exit 75", "lose", "ok"])
    assert bench.run() == 0
    sample = bench.stage("sample")
    assert (sample.attempt, sample.failures) == (4, 2)
    assert "told to exit with 1" in bench.log("sample", 0)


def test_a_stage_that_always_fails_fails_the_job_and_shows_its_log(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.write(backoffLimit=1)
    bench.behave(sample=["exit 1"])
    assert bench.run() == 1
    assert len(bench.events("start", "sample")) == 2
    text = capsys.readouterr().out
    assert "BackoffLimitExceeded" in text
    assert "error: told to exit with 1" in text
    assert "attempt-1.log" in text


def test_a_failed_job_goes_on_when_it_is_run_again(bench: Bench) -> None:
    bench.behave(train=["exit 65", "ok"])
    assert bench.run() == 65
    assert bench.run() == 0
    assert len(bench.events("start", "sample")) == 1
    assert [e["attempt"] for e in bench.events("start", "train")] == [0, 1]


@pytest.mark.parametrize(
    ("behaviour", "code", "reason", "starts"),
    [
        ("exit 65", 65, "BadInput", 1),
        ("exit 75", 75, "TryAgainLimitExceeded", 3),
        ("memory", 1, "OutOfMemory", 1),
        ("kill", 1, "BackoffLimitExceeded", 4),
    ],
)
def test_the_exit_code_tells_the_kind_of_failure(
    bench: Bench, behaviour: str, code: int, reason: str, starts: int
) -> None:
    bench.behave(prepare=[behaviour])
    assert bench.run(quiet=True) == code
    assert find(bench.status().conditions, "Failed").reason == reason
    assert len(bench.events("start")) == starts


def test_a_deadline_ends_a_stage_that_hangs(bench: Bench) -> None:
    bench.write(activeDeadlineSeconds=1)
    bench.behave(prepare=["hang"])
    assert bench.run() == 1
    assert find(bench.status().conditions, "Failed").reason == "DeadlineExceeded"
    assert not any(is_alive(e["pid"]) for e in bench.events("start"))


def test_json_is_all_that_standard_output_gets(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run(as_json=True) == 0
    status = JobStatus.model_validate(json.loads(capsys.readouterr().out))
    assert status.phase == "Complete"


def test_a_file_that_is_missing_is_named_with_its_field(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    (bench.folder / "questions.jsonl").unlink()
    assert bench.run() == 65
    error = capsys.readouterr().err
    assert "spec.questions[0].uri" in error
    assert "questions.jsonl does not exist" in error


def test_a_broken_manifest_is_not_run(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write(trainning={})
    assert bench.run() == 65
    assert "trainning" in capsys.readouterr().err


def test_a_root_that_is_no_folder_is_an_error_in_a_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.root.touch()
    assert bench.run() == 1
    assert str(bench.root) in capsys.readouterr().err


def test_a_job_that_waits_for_a_probe_says_what_to_run_first(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write(teacher={"probeRef": {"name": "which"}})
    assert bench.run() == 65
    assert "TeacherProbe which was never run" in capsys.readouterr().err


def test_a_probe_in_rounds_ends_in_a_tie_and_a_job_takes_its_leader_and_the_work(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    job = bench.manifest
    bench.write()
    spec = json.loads(job.read_text())["spec"] | {
        "candidates": [{"name": name, "model": {"uri": f"hf://org/{name}"}} for name in "abc"],
        "procedure": {"rounds": 2},
    }
    del spec["teacher"]
    head = {"apiVersion": "kubedistill.io/v1alpha1", "kind": "TeacherProbe", "metadata": {"name": "which"}}
    job.write_text(json.dumps(head | {"spec": spec}))
    assert bench.run() == 0
    started = {event["stage"] for event in bench.events("start")}
    assert {"sample-c-r1", "sample-b-r2", "decide-r2"} < started
    assert not {"sample-c-r2", "curate-c-r2", "train-c-r2", "evaluate-c-r2"} & started
    status = bench.workspace.job("TeacherProbe", "which").read_status()
    assert (status.winner, status.outcome.tied) == ("a", ["a", "b"])
    shown = capsys.readouterr().out
    assert "4 were not needed" in find(status.conditions, "Complete").message
    assert re.search(r"evaluate-c-r2 +not needed", shown)
    assert re.search(r"a +60.0 .* best estimate", shown)
    assert re.search(r"c +60.0 .* left after round 1", shown)
    assert bench.run() == 0
    assert "nothing to do" in capsys.readouterr().out

    bench.write(teacher={"probeRef": {"name": "which"}, "sampling": {"samples": 1}})
    assert bench.run() == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "the teacher is a, the best estimate of TeacherProbe which: tie between a and b at this budget" in shown
    assert [e["stage"] for e in bench.events("start")][-1] == "report"
    assert {s.name: s.reused for s in bench.status().stages} == {name: name != "report" for name in STAGES}


def test_a_suspended_job_starts_nothing(bench: Bench) -> None:
    bench.write(suspend=True)
    assert bench.run() == 130
    assert bench.events("start") == []
    assert bench.status().phase == "Suspended"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_its_stages_and_goes_on_later(bench: Bench, number: signal.Signals) -> None:
    bench.behave(sample=["hang", "ok"])
    process = bench.start()
    pid = bench.started("sample")
    process.send_signal(number)
    assert process.wait() == 130
    assert not is_alive(pid)
    condition = find(bench.status().conditions, "Suspended")
    assert (condition.status, condition.reason) == ("True", "Interrupted")
    assert bench.run() == 0
    assert [e["attempt"] for e in bench.events("start", "sample")] == [0, 1]
    assert len(bench.events("start", "prepare")) == 1


def test_a_stage_that_is_deaf_to_the_request_is_killed(bench: Bench) -> None:
    bench.behave(prepare=["stubborn"])
    process = bench.start()
    pid = bench.started("prepare")
    eventually((bench.folder / "stubborn").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130
    assert not is_alive(pid)


def test_the_daemons_of_a_stage_end_with_it(bench: Bench) -> None:
    bench.behave(prepare=["family"])
    process = bench.start()
    daemon = int(eventually(lambda: read(bench.folder / "daemon")))
    assert is_alive(daemon)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130
    assert not is_alive(daemon)


def test_nothing_survives_a_run_that_is_killed(bench: Bench) -> None:
    bench.behave(prepare=["family", "ok"])
    process = bench.start()
    daemon = int(eventually(lambda: read(bench.folder / "daemon")))
    stage = bench.started("prepare")
    process.kill()
    process.wait()
    eventually(lambda: not is_alive(stage) and not is_alive(daemon))
    assert bench.run() == 0


def test_orphans_of_a_killed_supervisor_are_killed_before_the_next_start(bench: Bench) -> None:
    bench.behave(prepare=["family", "ok"])
    process = bench.start()
    daemon = int(eventually(lambda: read(bench.folder / "daemon")))
    stage = bench.started("prepare")
    supervisor = int(Path(f"/proc/{stage}/stat").read_text().rpartition(")")[2].split()[1])
    process.kill()
    os.kill(supervisor, signal.SIGKILL)
    process.wait()
    eventually(lambda: not is_alive(stage))
    assert bench.run() == 0
    assert not is_alive(daemon)


def read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def test_what_a_job_needs_survives_a_collection_and_what_it_gave_up_does_not(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    def collect() -> list[str]:
        gc_command(root=bench.root, older_than=timedelta(), delete=True, as_json=True)
        found = json.loads(capsys.readouterr().out)["folders"]
        return sorted(entry["folder"].partition("-")[0] for entry in found if not entry["keep"])

    bench.run()
    capsys.readouterr()
    assert collect() == []
    assert bench.run() == 0
    assert len(bench.events("start")) == len(STAGES)
    bench.write(training={"epochs": 3})
    bench.run()
    capsys.readouterr()
    assert collect() == ["evaluate", "report", "train"]
    assert bench.run() == 0
    assert len(bench.events("start")) == len(STAGES) + 3


def test_a_job_without_its_record_finds_its_artifacts(bench: Bench) -> None:
    bench.run()
    shutil.rmtree(bench.workspace.folder / "jobs")
    assert bench.run() == 0
    assert all(stage.reused for stage in bench.status().stages)
    assert len(bench.events("start")) == len(STAGES), "nothing started over"
