"""A job on this machine whose stages are a small program (`stage_program.py`), run by the real executor."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kubedistill_api.retries import RetryPolicy
from kubedistill_api.status import JobStatus, StageStatus
from kubedistill_runtime.cli.run import run
from kubedistill_runtime.local.runner import Settings
from kubedistill_runtime.local.workspace import Workspace

RUN_PROGRAM = "tests.integration.local.run_program"
WAIT_S = 60.0
"""For things that must happen; a machine under load is slow."""
GRACE_S = 1.0
STAGES = ("prepare", "baseline", "sample", "curate", "train", "evaluate", "report")
SETTINGS = Settings(
    command=(sys.executable, str(Path(__file__).with_name("stage_program.py"))),
    grace_s=GRACE_S,
    policy=RetryPolicy(0.05, 0.05, 2, 0, 0.2),
)


def eventually(holds: Callable[[], Any]) -> Any:
    """Waits for something and returns it."""
    end = time.monotonic() + WAIT_S
    while not (found := holds()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return found


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class Bench:
    """One manifest, its root, and the journal of its stages."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def manifest(self) -> Path:
        return self.folder / "job.yaml"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root / "default")

    def write(self, name: str = "demo", **spec: object) -> None:
        """The manifest, with fields of the spec to add or to replace."""
        for file in ("questions.jsonl", "benchmark.jsonl"):
            if not (self.folder / file).exists():
                (self.folder / file).write_text('{"question": "1 + 1", "answer": "2"}\n')
        whole = {
            "questions": [{"uri": "questions.jsonl"}],
            "teacher": {"model": {"uri": "hf://org/teacher"}},
            "student": {"uri": "hf://org/student"},
            "evaluation": {"benchmarks": [{"name": "sums", "uri": "benchmark.jsonl"}]},
            **spec,
        }
        head = {"apiVersion": "kubedistill.io/v1alpha1", "kind": "DistillationJob", "metadata": {"name": name}}
        self.manifest.write_text(json.dumps({**head, "spec": whole}))

    def behave(self, **stages: list[str]) -> None:
        (self.folder / "behaviour.json").write_text(json.dumps(stages))

    def run(self, *, slots: int = 1, **options: Any) -> int:
        return run(self.manifest, self.root, settings=replace(SETTINGS, slots=slots), **options)

    def start(self, manifest: Path | None = None) -> subprocess.Popen[bytes]:
        """The same in a process of its own."""
        command = [sys.executable, "-m", RUN_PROGRAM, str(manifest or self.manifest), str(self.root)]
        with (self.folder / "output.txt").open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        self.processes.append(process)
        return process

    def status(self, name: str = "demo") -> JobStatus:
        status = self.workspace.job("DistillationJob", name).read_status()
        assert status is not None
        return status

    def stage(self, stage: str) -> StageStatus:
        return next(s for s in self.status().stages if s.name == stage)

    def events(self, event: str, stage: str | None = None) -> list[dict[str, Any]]:
        journal = self.folder / "journal.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [e for e in map(json.loads, lines) if e["event"] == event and stage in (None, e["stage"])]

    def log(self, stage: str, attempt: int) -> str:
        """What an attempt logged."""
        (folder,) = (self.workspace.folder / "stages").glob(f"{stage}-*")
        return (folder / "log" / f"attempt-{attempt}.log").read_text()

    def started(self, stage: str) -> int:
        """Process id of the stage's newest start, once there is one."""
        return eventually(lambda: self.events("start", stage))[-1]["pid"]
