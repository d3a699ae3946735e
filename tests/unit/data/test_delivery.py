"""Delivery: whole or not there, interrupted and gone on with."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kubedistill_api.stage import StageResult
from kubedistill_api.status import Artifact
from kubedistill_runtime.data import delivery
from kubedistill_runtime.data.delivery import MARKER, deliver
from kubedistill_runtime.data.storage import digest
from kubedistill_runtime.errors import BadInput

Stages = list[tuple[StageResult, Path]]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    """Train, curate and report, as they leave their folders."""
    files = {
        ("train", "model"): {"model/config.json": "{}", "model/a.safetensors": "a", "model/b.safetensors": "b"},
        ("curate", "corpus"): {"corpus.parquet": "corpus"},
        ("report", "report"): {"report.html": "<html>"},
        ("report", "card"): {"README.md": "# card"},
    }
    outputs: dict[str, dict[str, Artifact]] = {}
    for (kind, artifact), contents in files.items():
        for name, text in contents.items():
            path = tmp_path / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        uri = "model" if artifact == "model" else name
        outputs.setdefault(kind, {})[artifact] = Artifact(uri=uri, digest=digest(tmp_path / kind / uri))
    return [
        (StageResult(stage=kind, kind=kind, digest="0" * 64, outputs=made, started=NOW, finished=NOW), tmp_path / kind)
        for kind, made in outputs.items()
    ]


def remade(stages: Stages, path: str, text: str) -> Stages:
    """The stages after one has made something else."""
    found = []
    for result, folder in stages:
        outputs = dict(result.outputs)
        if (folder / path).exists():
            (folder / path).write_text(text)
            outputs = {
                name: made.model_copy(update={"digest": digest(folder / made.uri)}) for name, made in outputs.items()
            }
        found.append((result.model_copy(update={"outputs": outputs}), folder))
    return found


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


WHOLE = {
    "README.md": "# card",
    "corpus.parquet": "corpus",
    "model/a.safetensors": "a",
    "model/b.safetensors": "b",
    "model/config.json": "{}",
    "report.html": "<html>",
}


def without_marker(found: dict[str, str]) -> dict[str, str]:
    assert set(json.loads(found[MARKER])) == {"README.md", "corpus.parquet", "model", "report.html"}
    return {name: text for name, text in found.items() if name != MARKER}


def test_everything_is_there_once_and_then_left_alone(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert deliver(stages, str(out))
    assert without_marker(contents(out)) == WHOLE
    assert not deliver(stages, str(out))


def test_new_work_replaces_the_old_as_a_whole_and_only_where_it_differs(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "out"
    deliver(stages, str(out))
    (out / "model" / "of-another-run").touch()
    written = (out / "corpus.parquet").stat().st_ino
    assert deliver(remade(stages, "model/a.safetensors", "better"), str(out))
    assert without_marker(contents(out)) == WHOLE | {"model/a.safetensors": "better"}
    assert (out / "corpus.parquet").stat().st_ino == written


def dying_after(files: int) -> Callable[[Path, Path], None]:
    """`_copy` of a process that ends in the middle of a file."""
    copy, left = delivery._copy, iter(range(files))

    def one(source: Path, target: Path) -> None:
        if next(left, None) is None:
            target.with_name(f".{target.name}.part").write_text(source.read_text()[:1])
            raise KeyboardInterrupt
        copy(source, target)

    return one


@pytest.mark.parametrize("files", range(6))
def test_a_delivery_that_ends_after_any_file_shows_no_half_and_is_gone_on_with(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    out = tmp_path / "out"
    deliver(stages, str(out))
    better = remade(remade(stages, "model/a.safetensors", "better"), "corpus.parquet", "more")
    better = remade(remade(better, "README.md", "# new"), "report.html", "<new>")
    with monkeypatch.context() as patch:
        patch.setattr(delivery, "_copy", dying_after(files))
        with pytest.raises(KeyboardInterrupt):
            deliver(better, str(out))
    model = contents(out / "model")
    assert model["a.safetensors"] in ("a", "better")
    assert set(model) == {"a.safetensors", "b.safetensors", "config.json"}
    assert len(json.loads((out / MARKER).read_text())) < 4, "what is under way does not count"
    copied: list[Path] = []
    real = delivery._copy

    def copy(source: Path, target: Path) -> None:
        copied.append(source)
        real(source, target)

    monkeypatch.setattr(delivery, "_copy", copy)
    assert deliver(better, str(out))
    new = {"README.md": "# new", "corpus.parquet": "more", "model/a.safetensors": "better", "report.html": "<new>"}
    assert without_marker(contents(out)) == WHOLE | new
    assert len(copied) == 6 - files, "what was copied is not copied again"


def test_a_folder_between_two_renames_is_put_right(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "out"
    deliver(stages, str(out))
    (out / "model").rename(out / ".model.old")
    assert deliver(stages, str(out))
    assert without_marker(contents(out)) == WHOLE


def test_large_files_are_links_where_the_disk_is_the_same(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LINKED_BYTES", 4)
    deliver(stages, str(tmp_path / "out"))
    assert (tmp_path / "out" / "corpus.parquet").samefile(tmp_path / "curate" / "corpus.parquet")
    assert not (tmp_path / "out" / "model" / "config.json").samefile(tmp_path / "train" / "model" / "config.json")


def test_a_marker_that_is_no_marker_counts_for_nothing(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for text in ("", "[1]", '{"model": 3}'):
        out.mkdir(exist_ok=True)
        (out / MARKER).write_text(text)
        assert deliver(stages, str(out))
        assert without_marker(contents(out)) == WHOLE


def test_an_artifact_that_is_gone_is_named_before_anything_is_touched(stages: Stages, tmp_path: Path) -> None:
    (tmp_path / "curate" / "corpus.parquet").unlink()
    with pytest.raises(BadInput, match=r"corpus\.parquet cannot be delivered"):
        deliver(stages, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_store_gets_the_same_and_a_models_config_last(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    put: list[str] = []
    real = MemoryFileSystem.put_file

    def put_file(self: MemoryFileSystem, source: str, target: str) -> None:
        put.append(target)
        real(self, source, target)

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_file)
    store = MemoryFileSystem()
    assert deliver(stages, "memory://models/store")
    assert [name for name in put if "/model/" in name][-1].endswith("model/config.json")
    assert not deliver(stages, "memory://models/store")
    store.pipe_file("/models/store/model/of-another-run", b"")
    put.clear()
    assert deliver(remade(stages, "model/a.safetensors", "better"), "memory://models/store")
    assert len(put) == 3, "the model alone"
    found = {name.removeprefix("/models/store/"): store.cat_file(name).decode() for name in store.find("/models/store")}
    assert without_marker(found) == WHOLE | {"model/a.safetensors": "better"}
