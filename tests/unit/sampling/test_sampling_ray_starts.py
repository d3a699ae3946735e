"""A Ray that takes its time to start, as on a busy machine, or does not start at all."""

from pathlib import Path
from typing import Any

import pytest
from ray._private import services

from kubedistill_runtime.engines import ray_cluster
from kubedistill_runtime.errors import TryAgain


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of a node that registers at the fourth time."""
    asked: list[str] = []

    def get_node(address: str, node: str) -> dict[str, str]:
        asked.append(node)
        if len(asked) < 4:
            raise RuntimeError("no node of that id yet")
        return {"id": node}

    monkeypatch.setattr(services, "get_node", get_node)
    monkeypatch.setattr(ray_cluster, "POLL_S", 0.01)
    return asked


def test_a_node_that_registers_late_is_waited_for(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "_has_node", lambda: True)
    with ray_cluster._on_a_busy_machine():
        assert services.get_node("address", "a") == {"id": "a"}
    assert len(asked) == 4


def test_but_not_for_ever(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "START_S", -1)
    with ray_cluster._on_a_busy_machine(), pytest.raises(RuntimeError, match="no node of that id yet"):
        services.get_node("address", "a")


def test_and_not_when_it_has_ended(asked: list[str]) -> None:
    with ray_cluster._on_a_busy_machine(), pytest.raises(ConnectionError, match="ended while it started"):
        services.get_node("address", "a")
    assert len(asked) == 1


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The folders that a start was tried in; each holds what the try left. The first two tries fail."""
    tried: list[Path] = []

    def init(_temp_dir: str, **_: Any) -> None:
        tried.append(Path(_temp_dir))
        (tried[-1] / "log").touch()
        if len(tried) < 3:
            raise Exception("The current node timed out during startup. This could be.\nMore.")

    monkeypatch.setattr(ray_cluster, "FOLDERS", tmp_path)
    monkeypatch.setattr(ray_cluster, "PAUSE_S", 0)
    monkeypatch.setattr(ray_cluster, "_init", init)
    return tried


def test_what_did_not_start_is_started_once_more_in_a_folder_of_its_own(
    starts: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with ray_cluster._own_cluster():
        assert len(set(starts)) == 3
        assert [folder.exists() for folder in starts] == [False, False, True]
    assert not starts[2].exists()
    assert capsys.readouterr().err.count("it is started once more") == 2


def test_at_last_it_is_given_up(starts: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "STARTS", 2)
    with pytest.raises(TryAgain, match="Ray did not start: The current node timed out"), ray_cluster._own_cluster():
        raise AssertionError("it has not started")
    assert [folder.exists() for folder in starts] == [False, False]
