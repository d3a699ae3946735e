"""What the train stage tells the trainer."""

from pathlib import Path

import pytest

from kubedistill_api.stage import StageSpec
from kubedistill_runtime.stages import train
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.tiny import embedded_path
from kubedistill_runtime.train.job import read_job


class Started(Exception):
    """The trainer would run now."""


@pytest.mark.parametrize("trusted", [False, True])
def test_trust_in_the_students_code_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    def start(*_: object) -> None:
        raise Started

    monkeypatch.setattr(train, "_train", start)
    monkeypatch.setattr(train, "_encode", lambda *_: (tmp_path / "corpus.parquet", 0))
    model = {"uri": str(embedded_path("models/student")), "trustRemoteCode": trusted}
    spec = StageSpec.model_validate(
        {
            "resource": "DistillationJob/default/a",
            "stage": "train",
            "digest": "d1",
            "params": {"kind": "train", "model": model, "training": {}},
            "outputUri": str(tmp_path / "out"),
        }
    )
    context = StageContext(spec)
    with pytest.raises(Started):
        train.run(context, spec.params)
    assert read_job(context.folder / train.JOB_FILE).trust_remote_code is trusted
