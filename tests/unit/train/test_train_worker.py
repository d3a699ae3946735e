"""The command: exit codes and what it says."""

import subprocess
import sys

import pytest
from tiny_runs import rows, write_jsonl

from kubedistill_runtime.train import worker


def write_job(job):
    job.output_dir.mkdir()
    path = job.output_dir / "job.json"
    path.write_text(job.model_dump_json(by_alias=True))
    return str(path)


@pytest.fixture
def bad_jobs(make_job, tmp_path):
    """Jobs with one mistake each, and what is said about it."""
    (tmp_path / "no-model").mkdir()
    other = write_jsonl(tmp_path / "other.jsonl", [rows(1)[0] | {"response_token_ids": [4000]}])
    return {
        "corpus not found": make_job("a", data=tmp_path / "none.jsonl"),
        "no config.json": make_job("b", model=tmp_path / "no-model"),
        "longer than contextLength 4": make_job("c", context_length=4),
        "another tokenizer": make_job("d", data=other),
        "needs a GPU": make_job("e", attention="flash"),
        "lora.targetModules": make_job("f", lora={"target_modules": ["nothing"]}),
    }


def test_bad_input_exits_65_with_one_clear_line(bad_jobs, world, monkeypatch, capsys):
    from kubedistill_runtime.train import parallel

    monkeypatch.setattr(parallel, "join_world", lambda device: world)
    monkeypatch.setattr(parallel, "leave_world", lambda: None)
    for message, job in bad_jobs.items():
        assert worker.main([write_job(job)]) == 65, message
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("bad input: ")
        assert message in line


def test_a_job_file_that_is_none_exits_65(tmp_path, capsys):
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"modelPath": "m", "corpusPath": "c", "outputDir": "o", "training": {"epochs": 0}}')
    for path, message in ((tmp_path / "none.json", "not found"), (wrong, "training.epochs")):
        assert worker.main([str(path)]) == 65
        assert message in capsys.readouterr().err
    assert worker.main([]) == 65


def test_bad_input_exits_65_under_torchrun_too(make_job, tmp_path):
    command = [sys.executable, "-m", "kubedistill_runtime.train"]
    job = write_job(make_job("a", attention="flex"))
    done = subprocess.run(
        [*command, job, "--nproc-per-node", "1", "--master-port", "0"], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 65, done.stderr
    assert "needs a GPU" in done.stderr
