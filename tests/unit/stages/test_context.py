"""What stages share: results, artifacts, and errors that help."""

import json
from pathlib import Path

import pytest

from kubedistill_api.stage import StageSpec
from kubedistill_runtime.data.storage import digest, local_path, write_atomically
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.stages.context import StageContext

PARAMS = {"kind": "report", "manifest": {}}


def spec(folder: Path, **changes: object) -> StageSpec:
    fields = {
        "resource": "DistillationJob/default/a",
        "stage": "report",
        "digest": "d1",
        "params": PARAMS,
        "outputUri": str(folder),
    }
    return StageSpec.model_validate(fields | changes)


def finish(folder: Path, content: str = "hello") -> None:
    context = StageContext(spec(folder))
    (folder / "page.html").write_text(content)
    context.finish({"page": folder / "page.html"}, metrics={"answer": 42})


def test_a_finished_stage_is_found_again(tmp_path: Path) -> None:
    finish(tmp_path / "a")
    result = StageContext(spec(tmp_path / "a")).finished()
    assert result is not None
    assert result.metrics == {"answer": 42}
    assert StageContext(spec(tmp_path / "a", digest="d2")).finished() is None


def test_artifacts_are_found_where_the_storage_is_mounted_now(tmp_path: Path) -> None:
    finish(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "moved")
    context = StageContext(spec(tmp_path / "b", inputs={"earlier": str(tmp_path / "moved")}))
    assert context.artifact("earlier", "page").read_text() == "hello"


def test_a_missing_or_changed_artifact_is_named_with_what_to_do(tmp_path: Path) -> None:
    finish(tmp_path / "a")
    context = StageContext(spec(tmp_path / "b", inputs={"earlier": str(tmp_path / "a")}))
    (tmp_path / "a" / "page.html").write_text("longer than before")
    with pytest.raises(BadInput, match=r"18 bytes instead of 5.*Remove"):
        context.artifact("earlier", "page")
    (tmp_path / "a" / "page.html").unlink()
    with pytest.raises(BadInput, match="is missing"):
        context.artifact("earlier", "page")


def test_a_stage_that_was_not_given_its_input_says_so(tmp_path: Path) -> None:
    context = StageContext(spec(tmp_path / "b", inputs={"earlier": str(tmp_path / "nothing")}))
    with pytest.raises(BadInput, match="has not finished"):
        context.artifact("earlier", "page")
    with pytest.raises(BadInput, match="was not given other"):
        context.artifact("other", "page")


def test_progress_is_whole_json_with_a_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 102.0])
    monkeypatch.setattr("kubedistill_runtime.stages.context.time.monotonic", lambda: next(clock))
    context = StageContext(spec(tmp_path))
    context.progress(0, 100, "traces")
    context.progress(20, 100, "traces", "going well")
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress["done"] == 20
    assert progress["rate"] == 10
    assert progress["etaSeconds"] == 8
    assert progress["message"] == "going well"


def test_a_folders_digest_changes_with_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = digest(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    second = digest(tmp_path / "a")
    (tmp_path / "a" / "y").write_text("2")
    assert len({first, second, digest(tmp_path / "a")}) == 3


def test_uris_become_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEDISTILL_PVC_ROOT", "/claims")
    assert local_path("file:///data/x") == Path("/data/x")
    assert local_path("pvc://models/x") == Path("/claims/models/x")
    assert local_path("relative/x") == Path("relative/x")
    assert local_path("s3://bucket/x") is None
    with pytest.raises(BadInput, match="no-such-thing"):
        local_path("embedded://no-such-thing")


def test_a_full_disk_says_to_free_space_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kubedistill_runtime.data.storage.os.fsync", full)
    with pytest.raises(TryAgain, match="free space and run again"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
