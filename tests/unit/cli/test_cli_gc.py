"""`kubedistill gc`: shown by default, done when told, refused where nothing says what is needed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.jobs_on_disk import DIGESTS, JobOnDisk

Call = Callable[..., Any]
LOST = f"train-{'9' * 16}"


@pytest.fixture
def stages(job: JobOnDisk) -> Path:
    """The stages of a job, and one that is nobody's."""
    job.sample()
    folder = job.workspace.folder / "stages"
    (folder / LOST).mkdir()
    (folder / LOST / "model").write_bytes(b"x" * 5000)
    return folder


def names(stages: Path) -> list[str]:
    return sorted(path.name for path in stages.iterdir())


def test_by_default_it_is_only_shown(kubedistill: Call, root: Path, stages: Path) -> None:
    before = names(stages)
    ran = kubedistill("gc", "--root", root, "--older-than", "0s")
    assert ran.code == 0
    assert names(stages) == before
    assert "1 of 2 folders would go, 5.0 kB would be freed; --delete does it" in ran.out
    assert "DistillationJob default/small" in ran.out
    assert "unfinished, and nobody refers to it" in ran.out


def test_what_nobody_refers_to_goes_when_told(kubedistill: Call, root: Path, stages: Path) -> None:
    ran = kubedistill("gc", "--root", root, "--older-than", "0s", "--delete")
    assert (ran.code, "1 of 2 folders removed, 5.0 kB freed" in ran.out) == (0, True)
    assert names(stages) == [f"sample-{DIGESTS['sample'][:16]}"]


def test_what_is_young_stays(kubedistill: Call, root: Path, stages: Path) -> None:
    before = names(stages)
    ran = kubedistill("gc", "--root", root, "--delete")
    assert (ran.code, "0 of 2 folders removed" in ran.out) == (0, True)
    assert names(stages) == before


def test_a_job_whose_record_was_removed_keeps_nothing(kubedistill: Call, root: Path, stages: Path) -> None:
    shutil.rmtree(root / "default" / "jobs" / "DistillationJob" / "small")
    assert kubedistill("gc", "--root", root, "--older-than", "0s", "--delete").code == 0
    assert names(stages) == []


def test_a_storage_without_records_wants_the_clusters(
    kubedistill: Call, root: Path, stages: Path, tmp_path: Path
) -> None:
    shutil.rmtree(root / "default" / "jobs")
    before = names(stages)
    ran = kubedistill("gc", "--root", root, "--older-than", "0s", "--delete")
    assert ran.code == 65
    assert "--keep-from" in ran.err
    assert names(stages) == before
    none = json.dumps({"kind": "List", "items": []})
    (tmp_path / "kept.json").write_text(none)
    for source, stdin in ((tmp_path / "kept.json", None), ("-", none)):
        ran = kubedistill("gc", "--root", root, "--older-than", "0s", "--keep-from", source, "--json", stdin=stdin)
        assert [entry["keep"] for entry in json.loads(ran.out)["folders"]] == [False, False]
    assert kubedistill("gc", "--root", root, "--keep-from", tmp_path / "none.json").code == 65


def test_json_has_what_the_table_has(kubedistill: Call, root: Path, stages: Path) -> None:
    shown = json.loads(kubedistill("gc", "--root", root, "--older-than", "0s", "--json").out)
    assert shown["deleted"] is False
    lost = next(entry for entry in shown["folders"] if entry["folder"] == LOST)
    assert (lost["namespace"], lost["keep"], lost["bytes"], lost["freed"]) == ("default", False, 5000, 5000)


def test_what_cannot_be_removed_is_said_and_the_rest_goes(
    kubedistill: Call, root: Path, stages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stages / f"curate-{'8' * 16}").mkdir()
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == LOST:
            raise PermissionError(13, "Permission denied", os.fspath(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    ran = kubedistill("gc", "--root", root, "--older-than", "0s", "--delete")
    assert ran.code == 1
    assert "not removed: Permission denied" in ran.out
    assert names(stages) == [f"sample-{DIGESTS['sample'][:16]}", LOST]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--older-than", "30"), 2, "as 30d"),
        (("--older-than", "-1d"), 2, "as 30d"),
        (("--older-than", "9" * 30 + "w"), 2, "write less"),
        (("-n", "nobody"), 65, "nobody/stages"),
        (("--root", "nowhere"), 65, "NAMESPACE/stages"),
    ],
)
def test_what_is_wrong_is_named_with_its_fix(
    kubedistill: Call, root: Path, stages: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ran = kubedistill("gc", "--root", root, *arguments)
    assert ran.code == code
    assert said in ran.err
