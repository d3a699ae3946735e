"""A root with stages in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from kubedistill_api.stage import RESULT_FILE, SPEC_FILE


class Stages:
    """The folder `stages` of a namespace."""

    def __init__(self, root: Path, namespace: str = "team-a") -> None:
        self.root = root
        self.namespace = root / namespace
        self.folder = self.namespace / "stages"
        self.folder.mkdir(parents=True)

    def make(self, name: str, *needs: str, finished: bool = True, content: bytes = b"x" * 1000) -> Path:
        """A stage made from others, with one artifact."""
        path = self.folder / name
        path.mkdir()
        (path / "data").write_bytes(content)
        inputs = {need.partition("-")[0]: f"pvc://storage/kubedistill/team-a/stages/{need}" for need in needs}
        (path / SPEC_FILE).write_text(json.dumps({"inputs": inputs}))
        if finished:
            artifact = {"uri": "data", "digest": f"sha256:{name}"}
            (path / RESULT_FILE).write_text(json.dumps({"outputs": {"data": artifact}}))
        return path

    def record(self, name: str, *digests: str) -> Path:
        """A local job's record that has stages of these digests."""
        path = self.namespace / "jobs" / "DistillationJob" / name
        path.mkdir(parents=True)
        status: dict[str, Any] = {"stages": [{"digest": digest} for digest in digests], "from": "a later version"}
        (path / "status.json").write_text(json.dumps(status))
        return path

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(tmp_path / "root")
