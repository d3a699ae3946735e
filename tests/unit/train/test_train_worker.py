"""The command: exit codes and what it says."""

import subprocess
import sys
from pathlib import Path
from traceback import StackSummary

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException

from kubedistill_runtime.train import worker
from tests.unit.train.tiny_runs import rows, write_jsonl


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


def of_python():
    with Path("/dev/full").open("w") as file:
        file.write("more than there is room for")


def of_pytorch():
    torch.save(torch.zeros(1_000_000), "/dev/full")


def of_a_checkpoint():
    try:
        of_pytorch()
    except RuntimeError as error:
        raise CheckpointException("save", {0: (error, StackSummary())}) from None


@pytest.mark.parametrize("write", [of_python, of_pytorch, of_a_checkpoint])
def test_a_full_disk_exits_75_with_one_clear_line(write, make_job, world, monkeypatch, capsys):
    from kubedistill_runtime.train import loop, parallel

    monkeypatch.setattr(parallel, "join_world", lambda device: world)
    monkeypatch.setattr(parallel, "leave_world", lambda: None)
    monkeypatch.setattr(loop, "train", lambda job, world: write())
    job = make_job("a")
    assert worker.main([write_job(job)]) == 75
    assert f"try again: no space left for {job.output_dir}" in capsys.readouterr().err


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
