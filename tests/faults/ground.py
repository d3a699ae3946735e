"""Two tenants on one node, each with a small real job and a disk of its own; the operator as the chart installs it."""

import contextlib
import hashlib
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.host_runtime import host_runtime
from tests.cluster.node import Node
from tests.cluster.processes import wait_until
from tests.faults.watch import Watch
from tests.node import charted
from tests.node.node_case import JOB, NodeCase, losses, rows, stage_folder

Object = dict[str, Any]

TENANTS = ("team-a", "team-b")
DISK = "100m"
GONE_S = 180.0
STAGE = "train"
"""In the midst of it the faults are made: it has several pods, is up again sooner than an engine, and can be as long as
is needed."""
ANEW = (STAGE, "evaluate", "report")
"""Stages that each round does anew; what they are made from is done once."""


def job() -> Object:
    """The job of the node's tests, which trains for longer."""
    manifest: Object = yaml.safe_load(JOB)
    manifest["spec"]["training"]["epochs"] = 80
    return manifest


def runtime() -> Object:
    """Training over two pods. One stage at a time: two tenants on two cores are enough."""
    made = host_runtime(trainer={"replicas": 2})
    made["spec"]["limits"] = {"maxParallelStages": 1}
    return made


@dataclass(frozen=True)
class Work:
    """How far a tenant's training is."""

    attempt: int
    step: int
    total: int
    moment: float
    """When it made that step."""


@dataclass(frozen=True)
class Outcome:
    """What a job came to: two that lost nothing are equal."""

    phase: str
    corpus: str
    """Digest of the corpus, without what measures time."""
    losses: str
    """Digest of the training's losses, step by step."""
    scores: str


class Ground:
    """Where faults are made."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        charted.install(node, folder)
        node.cluster.apply(runtime())
        for tenant in TENANTS:
            node.add_tenant(tenant, disk=DISK)
        self.cases = {tenant: NodeCase(node, tenant, folder / "none.log") for tenant in TENANTS}
        self.watch = Watch(node.cluster, TENANTS)
        self._running: dict[tuple[str, int], float] = {}
        """Since when each attempt of a tenant is known to run."""

    def begin(self) -> None:
        """The jobs of both tenants. The stages before the training are done in the first round, and reused then."""
        for case in self.cases.values():
            case.kubectl("delete", "djob", "--all")
        for tenant, case in self.cases.items():
            wait_until(lambda case=case: not case.get("pods")["items"], f"the pods of {tenant} to be gone", GONE_S)
            for stage in ANEW:
                for folder in (case.storage / "stages").glob(f"{stage}-*"):
                    shutil.rmtree(folder)
            self.watch.status.pop(tenant, None)
        self._running.clear()
        for case in self.cases.values():
            case.apply(job())

    def have_ended(self) -> bool:
        phases = {self.watch.status.get(tenant, {}).get("phase") for tenant in TENANTS}
        return phases <= {"Complete", "Failed"}

    def training(self, tenant: str) -> Object:
        """What the job's status has of its training; empty while there is none."""
        stages = self.watch.status.get(tenant, {}).get("stages", ())
        return next((stage for stage in stages if stage["name"] == STAGE), {})

    def at_work(self, tenant: str) -> Work | None:
        """The training, if it runs and has made a step since it does."""
        training = self.training(tenant)
        if training.get("state") != "Running":
            return None
        running = self._running.setdefault((tenant, training["attempt"]), time.time())
        for file in (self.cases[tenant].storage / "stages").glob(f"{STAGE}-*/metrics.jsonl"):
            with contextlib.suppress(FileNotFoundError):
                moment = file.stat().st_mtime
                rows = file.read_bytes().split(b"\n")[:-1]  # the last one may be half written
                if rows and moment > running:
                    row = json.loads(rows[-1])
                    return Work(training["attempt"], row["step"], row["total_steps"], moment)
        return None

    def under_way(self, tenant: str) -> Work | None:
        """The training that is in the midst of its work: there is something to lose, and something left to do."""
        work = self.at_work(tenant)
        return work if work and work.step < 0.8 * work.total else None

    def works_again(self, tenant: str, attempt: int, since: float) -> bool:
        """Whether the training has made a step since the moment, in this attempt or a later one, or is done."""
        if self.training(tenant).get("state") == "Succeeded":
            return True
        work = self.at_work(tenant)
        return work is not None and work.attempt >= attempt and work.moment > since

    def pods(self, tenant: str) -> list[Object]:
        """The running pods of the training."""
        found = self.cases[tenant].get("pods", "--selector", f"kubedistill.io/stage={STAGE}")["items"]
        return [pod for pod in found if pod["status"]["phase"] == "Running"]

    def outcome(self, tenant: str) -> Outcome:
        """What the tenant's job came to. It has ended."""
        status, root = self.watch.status[tenant], self.cases[tenant].storage
        if status["phase"] != "Complete":
            return Outcome(f"{status['phase']}: {status['conditions']}", "", "", "")
        corpus = rows(stage_folder(root, "curate") / "corpus.parquet")
        return Outcome(status["phase"], _digest(corpus), _digest(losses(root)), json.dumps(status["scores"]))

    def counted(self) -> dict[str, int]:
        """Attempts that count against a limit, so far: application errors, and tries against something outside."""
        stages = [self.training(tenant) for tenant in TENANTS]
        failures = sum(stage.get("failures", 0) for stage in stages)
        return {"failures": failures, "tryAgains": sum(int(s.get("metrics", {}).get("tryAgains") or 0) for s in stages)}

    def told(self) -> str:
        return "\n".join(case.kubectl("describe", "djob/demo") for case in self.cases.values())


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:12]
