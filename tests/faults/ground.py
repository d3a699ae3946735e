"""Two tenants on one node, each with a small real job and a disk of its own; the operator as the chart installs it."""

import contextlib
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kubedistill_api.stage import PROGRESS_FILE
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
    """How far a tenant's training is, in which attempt."""

    attempt: int
    done: float
    total: float | None


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
        self._first: dict[tuple[str, int], float] = {}
        """Where each tenant's attempts stood when they were first seen: an attempt begins with what was told before."""

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
        self._first.clear()
        for case in self.cases.values():
            case.apply(job())

    def have_ended(self) -> bool:
        phases = {self.watch.status.get(tenant, {}).get("phase") for tenant in TENANTS}
        return phases <= {"Complete", "Failed"}

    def training(self, tenant: str) -> Object:
        """What the job's status has of its training; empty while there is none."""
        stages = self.watch.status.get(tenant, {}).get("stages", ())
        return next((stage for stage in stages if stage["name"] == STAGE), {})

    def work(self, tenant: str) -> Work | None:
        """How far the training is by what it tells in storage; None before it works."""
        for file in (self.cases[tenant].storage / "stages").glob(f"{STAGE}-*/{PROGRESS_FILE}"):
            with contextlib.suppress(OSError, ValueError):
                told = json.loads(file.read_text())
                return Work(self.training(tenant).get("attempt", 0), told["done"], told.get("total"))
        return None

    def under_way(self, tenant: str) -> Work | None:
        """The training that is in the midst of its work: there is something to lose, and something left to do."""
        work = self.work(tenant)
        if work is None or self.training(tenant).get("state") != "Running":
            return None
        moves = work.done != self._first.setdefault((tenant, work.attempt), work.done)
        return work if moves and work.done < 0.8 * (work.total or 0) else None

    def works_again(self, tenant: str, before: Work) -> bool:
        """Whether the training is further than it was, or done."""
        training, now = self.training(tenant), self.work(tenant)
        if training.get("state") == "Succeeded":
            return True
        return training.get("state") == "Running" and now is not None and now.done > before.done

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
