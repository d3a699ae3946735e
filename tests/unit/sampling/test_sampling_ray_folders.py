"""Folders of Ray sessions whose driver is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kubedistill_runtime.engines import ray_cluster


def test_what_dead_drivers_left_is_removed_and_living_ones_keep_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "FOLDERS", tmp_path)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folders = [f"kd-ray-{os.getpid()}-abc", f"kd-ray-{dead.pid}-abc", "kd-ray-abc", "other"]
    for name in folders:
        (tmp_path / name).mkdir()
    ray_cluster._sweep()
    assert {path.name for path in tmp_path.iterdir()} == {folders[0], folders[2], folders[3]}
