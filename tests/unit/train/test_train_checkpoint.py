"""Which checkpoints count."""

import pytest

from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.train.checkpoint import committed_steps
from kubedistill_runtime.train.loop import train
from kubedistill_runtime.train.metrics import MetricsFile, read_metrics


def steps_and_leftovers(job):
    return committed_steps(job.checkpoint_dir), list(job.checkpoint_dir.glob("*.tmp"))


def test_only_the_newest_checkpoints_are_kept(make_job, world):
    job = make_job(checkpoint_every_steps=1, keep_checkpoints=2)
    train(job, world)
    assert steps_and_leftovers(job) == ([7, 8], [])


def test_a_half_written_checkpoint_is_ignored_and_cleaned_up(make_job, world):
    job = make_job()
    train(job, world)
    job.summary_path.unlink()
    job.checkpoint_dir.joinpath("step-00000008").rename(job.checkpoint_dir / "step-00000008.tmp")
    (job.checkpoint_dir / "step-00000008.tmp" / ".metadata").unlink()
    summary = train(job, world)
    assert summary["resumed_from_step"] == 6
    assert steps_and_leftovers(job) == ([6, 8], [])
    assert [row["step"] for row in read_metrics(job.metrics_path)] == list(range(1, 9))


def test_checkpoints_of_another_training_are_not_taken_up(make_job, world):
    job = make_job()
    train(job, world)
    job.summary_path.unlink()
    with pytest.raises(BadInput, match="another training"):
        train(make_job(learning_rate=0.5), world)
    assert train(make_job(checkpoint_every_steps=2, loss_chunk_tokens=9), world)["resumed_from_step"] == 8


def test_a_half_written_row_of_metrics_is_made_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    metrics = MetricsFile(path, resumed_step=2)
    metrics.add({"step": 3, "again": True})
    metrics.close()
    assert read_metrics(path) == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]
