"""Where a namespace's work lies on this machine.

ROOT/NAMESPACE/stages/KIND-DIGEST/{spec.json, result.json, progress.json, log/attempt-N.log, ...}
ROOT/NAMESPACE/jobs/KIND/NAME/{manifest.yaml, status.json}
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import ValidationError

from kubedistill_api.graph import Graph, Node, Resource
from kubedistill_api.stage import PROGRESS_FILE, RESULT_FILE, StageResult
from kubedistill_api.status import JobStatus, Progress
from kubedistill_runtime.data.storage import write_atomically
from kubedistill_runtime.local.locks import FileLock

DEFAULT_ROOT = Path(".kubedistill")
STATUS_FILE = "status.json"
MANIFEST_FILE = "manifest.yaml"


@dataclass
class Workspace:
    """The folder of one namespace."""

    folder: Path
    _results: dict[Path, tuple[int, StageResult]] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return f"file://{self.folder}"

    def stage(self, node: Node) -> Path:
        """Folder of a stage's work, the same for equal work of any job."""
        return self.folder / "stages" / node.folder

    def log(self, node: Node, attempt: int) -> Path:
        return self.stage(node) / "log" / f"attempt-{attempt}.log"

    def result(self, node: Node) -> StageResult | None:
        """The stage's result, when it is there and of the same work."""
        path = self.stage(node) / RESULT_FILE
        try:
            changed = path.stat().st_mtime_ns
            if self._results.get(path, (None,))[0] != changed:
                self._results[path] = (changed, StageResult.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError):
            return None
        result = self._results[path][1]
        return result if result.digest == node.digest else None

    def results(self, graph: Graph) -> dict[str, StageResult]:
        """The results that are there, by digest."""
        found = ((node.digest, self.result(node)) for node in graph.nodes)
        return {digest: result for digest, result in found if result}

    def made(self, graph: Graph) -> list[tuple[StageResult, Path]]:
        """The results that are there, each with the folder that its artifacts are named in."""
        found = ((self.result(node), self.stage(node)) for node in graph.nodes)
        return [(result, folder) for result, folder in found if result]

    def progress(self, node: Node) -> Progress | None:
        try:
            return Progress.model_validate_json((self.stage(node) / PROGRESS_FILE).read_bytes())
        except (OSError, ValidationError):
            return None

    def job(self, kind: str, name: str) -> "JobFolder":
        return JobFolder(self.folder / "jobs" / kind / name)

    def jobs(self) -> Iterator["JobFolder"]:
        """Every job and probe that was ever run here."""
        for path in sorted((self.folder / "jobs").glob(f"*/*/{STATUS_FILE}")):
            yield JobFolder(path.parent)


@dataclass(frozen=True)
class JobFolder:
    """The folder of one job or probe."""

    folder: Path

    @property
    def kind(self) -> str:
        return self.folder.parent.name

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def namespace(self) -> str:
        return self.folder.parents[2].name

    def lock(self) -> FileLock:
        """Held by the `kubedistill run` that is at it."""
        return FileLock(self.folder / ".lock")

    def read_status(self) -> JobStatus | None:
        """The last status; None before the first run, and after one that another version wrote."""
        try:
            return JobStatus.model_validate_json((self.folder / STATUS_FILE).read_bytes())
        except (OSError, ValidationError):
            return None

    def write_status(self, status: JobStatus) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = status.model_dump_json(by_alias=True, exclude_none=True, indent=1)
        write_atomically(self.folder / STATUS_FILE, text.encode())

    @property
    def manifest(self) -> Path:
        """What was run last."""
        return self.folder / MANIFEST_FILE

    def write_manifest(self, resource: Resource) -> None:
        """What was run last, with absolute paths."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = resource.model_dump(mode="json", by_alias=True, exclude={"status"}, exclude_unset=True)
        data = {"apiVersion": resource.api_version, "kind": resource.kind, **data}
        write_atomically(self.manifest, yaml.safe_dump(data, sort_keys=False).encode())


def workspaces(root: Path) -> Iterator[Workspace]:
    """The namespaces below `root`."""
    for folder in sorted(root.resolve().glob("*/jobs")):
        yield Workspace(folder.parent)
