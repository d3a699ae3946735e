"""What people see while a job runs, at its end, and later."""

import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from kubedistill_api.status import JobStatus, Progress, StageStatus
from kubedistill_runtime.cli.live import LiveView, describe, duration, remark, stage_table
from kubedistill_runtime.cli.status import status
from kubedistill_runtime.cli.summary import times
from kubedistill_runtime.errors import BadInput
from tests.integration.local.local_bench import STAGES, Bench

HEAVY = ("torch", "vllm", "ray", "transformers", "pyarrow", "numpy", "fsspec")


def stage(**fields: object) -> StageStatus:
    return StageStatus.model_validate({"name": "sample", "kind": "sample", "digest": "0", **fields})


def drawn(what: object, width: int = 80) -> str:
    shown = io.StringIO()
    Console(file=shown, width=width).print(what)
    return shown.getvalue()


def test_progress_says_how_much_how_fast_and_how_long() -> None:
    progress = Progress(done=48, total=400, unit="questions", rate=3.2, eta_seconds=110, message="61 % verified")
    assert describe(progress) == "48/400 questions, 3.2/s, 1 min 50 s left, 61 % verified"
    assert describe(Progress(done=1200, unit="steps")) == "1,200 steps"


def test_durations_have_no_digits_that_nobody_reads() -> None:
    shown = [duration(seconds) for seconds in (-1, 0.42, 9.97, 59.6, 200, 7500)]
    assert shown == ["0.0 s", "0.4 s", "10 s", "1 min 00 s", "3 min 20 s", "2 h 05 min"]


def test_a_stage_shows_what_matters_in_its_state() -> None:
    later = datetime.now(UTC) + timedelta(seconds=9)
    assert remark(stage(state="Succeeded", reused=True)) == "reused"
    assert remark(stage(message="waits for prepare")) == "waits for prepare"
    assert remark(stage(state="Running", attempt=2, progress=Progress(done=3, unit="x"))) == "attempt 2 · 3 x"
    retry = stage(reason="ApplicationError", message="exit code 1:\n boom", retry_after=later)
    assert remark(retry) == "ApplicationError: exit code 1: boom"


def test_a_table_has_one_line_for_each_stage_however_long_its_message() -> None:
    stages = [stage(name=name, message="waits for " + "everything, " * 20) for name in STAGES]
    lines = drawn(stage_table(stages), width=60).splitlines()
    assert [line.split()[1] for line in lines] == list(STAGES)
    assert all(len(line) <= 60 for line in lines)


def test_names_and_messages_are_no_markup() -> None:
    assert "[/red] [bold]" in drawn(stage_table([stage(state="Failed", message="[/red] [bold]")]))


def test_a_terminal_shows_the_stages_while_they_run() -> None:
    shown = io.StringIO()
    view = LiveView(Console(file=shown, force_terminal=True, width=80))
    view.begin("DistillationJob demo", lambda stage: stage.name)
    view.show(JobStatus(stages=[stage(state="Running", progress=Progress(done=1, total=2, unit="questions"))]))
    view.show(JobStatus(stages=[stage(attempt=1, reason="TryAgain", message="disk", retry_after=datetime.now(UTC))]))
    view.end()
    text = shown.getvalue()
    assert "sample: TryAgain: disk; is tried again" in text


def test_a_log_has_a_line_for_each_start_and_end(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.behave(sample=["exit 75", "ok"])
    bench.run()
    text = capsys.readouterr().out
    lines = [line.split(maxsplit=2)[1:] for line in text.splitlines() if " sample " in line and ":" in line[:3]]
    said = [words[1].split()[0] for words in lines]
    assert [word for word in said if not word.startswith("started")] == ["TryAgain:", "done"]


def test_quiet_is_quiet_unless_something_fails(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(quiet=True)
    assert capsys.readouterr().out == ""
    bench.write("other", training={"epochs": 2})
    bench.behave(train=["exit 65"])
    bench.run(quiet=True)
    assert "told to exit with 65" in capsys.readouterr().out


def test_status_lists_jobs_and_shows_one(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    status(bench.root)
    assert "no jobs in" in capsys.readouterr().out
    bench.run(quiet=True)
    status(bench.root)
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split() == ["default", "DistillationJob", "demo", "Complete", "7/7", "sums", "62.0", "[55.0,", "69.0]"]
    status(bench.root, "demo")
    assert "questions 10 → sampled 80" in capsys.readouterr().out
    status(bench.root, as_json=True)
    (item,) = json.loads(capsys.readouterr().out)
    assert item["status"]["phase"] == "Complete"


def test_status_of_a_job_that_is_not_there_names_those_that_are(bench: Bench) -> None:
    bench.run(quiet=True)
    with pytest.raises(BadInput, match=r"no job or probe none in .*\(there: demo\)"):
        status(bench.root, "none")
    command = [sys.executable, "-m", "kubedistill_runtime.cli", "status", "none", "--json", "--root", str(bench.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (65, "")
    assert done.stderr.startswith("error: no job or probe none")


def test_status_of_a_failed_job_is_shown_like_any_other(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.behave(train=["exit 65"])
    assert bench.run(quiet=True) == 65
    capsys.readouterr()
    status(bench.root, "demo")
    shown = capsys.readouterr().out
    assert "demo: Failed" in shown
    assert "told to exit with 65" in shown


def test_the_summary_tells_the_clock_from_the_work_of_the_stages() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    moment = [start + timedelta(seconds=seconds) for seconds in (0, 60, 90)]
    both = [  # side by side
        stage(name="baseline", state="Succeeded", started=moment[0], finished=moment[1]),
        stage(name="sample", state="Succeeded", started=moment[0], finished=moment[2]),
        stage(name="prepare", state="Succeeded", started=moment[0], finished=moment[2], reused=True),
    ]
    ended = JobStatus(stages=both, start_time=start, completion_time=moment[2])
    assert times(ended) == ", 1 min 30 s from start to end, 2 min 30 s in stages"
    assert "since the start, 2 min 30 s in stages" in times(JobStatus(stages=both, start_time=start))
    assert times(JobStatus()) == ""


def test_status_tells_a_run_that_was_killed_from_one_that_is_at_it(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.behave(prepare=["hang"])
    process = bench.start()
    bench.started("prepare")
    status(bench.root)
    assert "Running" in capsys.readouterr().out
    process.kill()
    process.wait()
    status(bench.root)
    assert "Interrupted" in capsys.readouterr().out


def test_the_command_loads_no_engine() -> None:
    program = (
        "import sys, kubedistill_runtime.cli.run, kubedistill_runtime.cli.status;"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
