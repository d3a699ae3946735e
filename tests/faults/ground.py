"""Two tenants on one node, each with a small real job and a disk of its own; the operator as the chart installs it."""

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
DISK = "600m"
GONE_S = 180.0
WORKING = ("sample", "baseline", "train", "evaluate")
"""Stages that take so long that something can happen to them."""


def job() -> Object:
    """The job of the node's tests, with more to do: there must be time for a fault while a stage works."""
    manifest: Object = yaml.safe_load(JOB)
    spec = manifest["spec"]
    spec["questions"][0]["limit"] = 100
    spec["training"]["epochs"] = 8
    spec["evaluation"]["samples"] = 24
    return manifest


def runtime() -> Object:
    """Training over two pods. One stage at a time: two tenants on two cores are enough."""
    made = host_runtime(trainer={"replicas": 2})
    made["spec"]["limits"] = {"maxParallelStages": 1}
    return made


@dataclass(frozen=True)
class Work:
    """A stage of a tenant's job, in one attempt, and how much of it is done."""

    stage: str
    attempt: int
    done: float
    total: float | None
    written: float
    """When the stage last told so."""


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

    def begin(self) -> None:
        """The jobs of both tenants, from nothing."""
        for case in self.cases.values():
            case.kubectl("delete", "djob", "--all")
        for tenant, case in self.cases.items():
            wait_until(lambda case=case: not case.get("pods")["items"], f"the pods of {tenant} to be gone", GONE_S)
            shutil.rmtree(case.storage.parent, ignore_errors=True)
            self.watch.status.pop(tenant, None)
        for case in self.cases.values():
            case.apply(job())

    def have_ended(self) -> bool:
        return all(self.phase(tenant) in ("Complete", "Failed") for tenant in TENANTS)

    def phase(self, tenant: str) -> str:
        return str(self.watch.status.get(tenant, {}).get("phase", ""))

    def stage(self, tenant: str, name: str) -> Object:
        """The newest status of a stage; empty while there is none."""
        stages = self.watch.status.get(tenant, {}).get("stages", ())
        return next((stage for stage in stages if stage["name"] == name), {})

    def work(self, tenant: str, name: str) -> Work | None:
        """How far a stage is by what it tells in storage; None before it works."""
        status = self.stage(tenant, name)
        files = (self.cases[tenant].storage / "stages").glob(f"{name}-????????????????/{PROGRESS_FILE}")
        for file in files:
            try:
                told, written = json.loads(file.read_text()), file.stat().st_mtime
            except (OSError, ValueError):
                return None
            return Work(name, status.get("attempt", 0), told["done"], told.get("total"), written)
        return None

    def under_way(self, tenant: str) -> Work | None:
        """The stage that is in the midst of its work: there is something to lose, and something left to do."""
        for name in WORKING:
            if self.stage(tenant, name).get("state") == "Running" and (work := self.work(tenant, name)):
                return work if 0 < work.done < 0.6 * (work.total or float("inf")) else None
        return None

    def works_again(self, tenant: str, before: Work, since: float) -> bool:
        """Whether the stage is done, or got further than it was, in this attempt or the next, since the moment."""
        status = self.stage(tenant, before.stage)
        if status.get("state") == "Succeeded":
            return True
        now = self.work(tenant, before.stage)
        if status.get("state") != "Running" or now is None or now.written < since:
            return False
        return now.attempt > before.attempt or now.done != before.done

    def pods(self, tenant: str, stage: str) -> list[Object]:
        """The running pods of a stage."""
        found = self.cases[tenant].get("pods", "--selector", f"kubedistill.io/stage={stage}")["items"]
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
        stages = [s for tenant in TENANTS for s in self.watch.status.get(tenant, {}).get("stages", ())]
        failures = sum(stage.get("failures", 0) for stage in stages)
        return {"failures": failures, "tryAgains": sum(int(s.get("metrics", {}).get("tryAgains") or 0) for s in stages)}

    def told(self) -> str:
        return "\n".join(case.kubectl("describe", "djob/demo") for case in self.cases.values())


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:12]
