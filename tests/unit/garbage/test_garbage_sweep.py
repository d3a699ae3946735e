"""Folders are found as they are, and go whole."""

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kubedistill_api.stage import SPEC_FILE
from kubedistill_runtime.garbage.decide import Folder, Verdict, decide
from kubedistill_runtime.garbage.survey import TRASH, survey
from kubedistill_runtime.garbage.sweep import sweep
from kubedistill_runtime.local.locks import FileLock

PREPARE, SAMPLE = f"prepare-{'a' * 16}", f"sample-{'b' * 16}"
LATER = datetime.now(UTC) + timedelta(days=40)
LIMIT = timedelta(days=30)


def found(stages: Any, now: datetime = LATER) -> dict[str, Folder]:
    return {folder.name: folder for folder in survey(stages.folder, now)}


def goes(stages: Any, name: str) -> Verdict:
    return next(v for v in decide(survey(stages.folder, LATER), {}, LIMIT) if v.folder.name == name)


def test_a_folder_is_found_with_its_age_its_size_and_what_it_was_made_from(stages: Any) -> None:
    stages.make(PREPARE)
    stages.make(SAMPLE, PREPARE, finished=False)
    (stages.folder / "notes").mkdir()
    (stages.folder / f"train-{'c' * 16}").symlink_to(stages.folder / PREPARE)
    there = found(stages)
    assert there[SAMPLE].needs == {PREPARE}
    assert (there[PREPARE].finished, there[SAMPLE].finished) == (True, False)
    assert 39 <= there[PREPARE].age.days <= 40
    assert there[PREPARE].bytes >= 1000
    assert there["notes"].strange
    assert there[f"train-{'c' * 16}"].strange, "what a link points to is somebody else's"


def test_a_folder_without_a_spec_is_told_by_the_contents_that_it_read(stages: Any) -> None:
    stages.make(PREPARE)
    sample = stages.make(SAMPLE)
    (sample / SPEC_FILE).unlink()
    read = {"prepare": {"data": {"uri": "data", "digest": f"sha256:{PREPARE}"}}}
    (sample / "result.json").write_text(json.dumps({"inputs": read, "outputs": {}}))
    assert found(stages)[SAMPLE].needs == {PREPARE}


def test_a_file_with_another_name_elsewhere_frees_nothing(stages: Any, tmp_path: Path) -> None:
    path = stages.make(PREPARE)
    before = found(stages)[PREPARE].bytes
    os.link(path / "data", tmp_path / "delivered")
    assert found(stages)[PREPARE].bytes == before - 1000


def test_whoever_holds_the_lock_is_writing(stages: Any) -> None:
    path = stages.make(SAMPLE)
    verdict = goes(stages, SAMPLE)
    with FileLock(path / ".lock") as lock:
        assert lock.acquire()
        assert found(stages)[SAMPLE].busy == f"process {os.getpid()}"
        assert "being written" in sweep(stages.folder, verdict, {}, LATER)
    assert not found(stages)[SAMPLE].busy
    assert path.exists()


def test_a_pod_that_wrote_within_the_hour_is_writing(stages: Any) -> None:
    path = stages.make(SAMPLE, finished=False)
    (path / ".owner").write_text("job-sample-0-xyz 123")
    now = datetime.now(UTC)
    assert found(stages, now + timedelta(minutes=59))[SAMPLE].busy.startswith("pod job-sample-0-xyz")
    assert not found(stages, now + timedelta(minutes=61))[SAMPLE].busy
    shutil.copy(stages.make(PREPARE) / "result.json", path)
    assert not found(stages, now + timedelta(minutes=1))[SAMPLE].busy, "it has its result: nobody writes any more"


def test_what_goes_is_gone_and_the_rest_is_not(stages: Any) -> None:
    stages.make(PREPARE)
    kept = stages.make(SAMPLE)
    assert sweep(stages.folder, goes(stages, PREPARE), {}, LATER) == ""
    assert stages.names() == [SAMPLE]
    assert (kept / "data").exists()


def test_killed_while_it_removes_nothing_half_there_has_a_stages_name(
    stages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.make(PREPARE)
    remove: Callable[..., None] = shutil.rmtree

    def killed(path: Path) -> None:
        (path / "result.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            sweep(stages.folder, goes(stages, PREPARE), {}, LATER)
    assert shutil.rmtree is remove
    (rest,) = stages.names()
    assert rest.startswith(TRASH)
    verdict = goes(stages, rest)
    assert not verdict.keep
    sweep(stages.folder, verdict, {}, LATER)
    assert stages.names() == []


def test_a_folder_that_somebody_came_to_want_stays(stages: Any) -> None:
    path = stages.make(PREPARE)
    verdict = goes(stages, PREPARE)
    assert sweep(stages.folder, verdict, {"a" * 16: "DistillationJob a/new"}, LATER).startswith("DistillationJob a/new")
    os.utime(path / "data", (LATER.timestamp(), LATER.timestamp()))
    assert sweep(stages.folder, verdict, {}, LATER) == "it was written to meanwhile"
    shutil.rmtree(path)
    assert sweep(stages.folder, verdict, {}, LATER) == "it is gone"


def test_half_written_files_go_and_artifacts_stay_whatever_they_are_called(stages: Any) -> None:
    path = stages.make(SAMPLE)
    for name in (
        "model.tmp/weights",
        ".corpus.parquet.123.tmp",
        ".progress.json.77",
        "log/attempt-0.log",
        "data/x.tmp",
    ):
        if name.startswith("data/"):
            (path / "data").unlink()
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text("x")
    (verdict,) = decide(survey(stages.folder, LATER), {"b" * 16: "DistillationJob a/one"}, LIMIT)
    assert sorted(rest.path for rest in verdict.leftovers) == [
        ".corpus.parquet.123.tmp",
        ".progress.json.77",
        "model.tmp",
    ]
    assert sweep(stages.folder, verdict, {"b" * 16: "DistillationJob a/one"}, LATER) == ""
    assert sorted(p.name for p in path.iterdir()) == ["data", "log", "result.json", "spec.json"]
    assert (path / "data" / "x.tmp").exists()
