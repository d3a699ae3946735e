"""A tenant on a real node, and an operator in a process of its own that serves it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from kubedistill_runtime.train.checkpoint import committed_steps
from tests.cluster.host_runtime import PROJECT
from tests.cluster.node import Node
from tests.cluster.processes import without_proxies

Object = dict[str, Any]

KINDS = {"DistillationJob": "djob", "TeacherProbe": "tprobe"}
TIMES = ["latency_seconds", "verify_seconds"]
"""Columns that measure time."""

ENGINE = "{dtype: float32, maxModelLen: 256, maxNumSeqs: 16, enforceEager: true}"
JOB = f"""
apiVersion: kubedistill.io/v1alpha1
kind: DistillationJob
metadata: {{name: demo}}
spec:
  runtimeRef: {{kind: ClusterDistillationRuntime, name: host}}
  questions:
  - {{uri: "embedded://questions/train.jsonl", domain: math, limit: 40}}
  teacher:
    model: {{uri: "embedded://models/careless-teacher"}}
    sampling: {{samples: 6, temperature: 1.0, topP: 1.0, maxTokens: 128, stopAfterVerified: 3}}
    engine: {ENGINE}
  student:
    uri: "embedded://models/student"
    engine: {ENGINE}
  curation:
    difficulty: {{samples: 4, temperature: 1.0, topP: 1.0, maxTokens: 128, keepHardest: 0.8}}
    diversity: {{trajectories: 3}}
  training: {{epochs: 12, learningRate: 3e-4, globalBatchSize: 8, contextLength: 256, checkpointEverySteps: 10}}
  evaluation:
    samples: 4
    temperature: 1.0
    topP: 1.0
    maxTokens: 128
    benchmarks: [{{name: sums, uri: "embedded://questions/benchmark.jsonl", domain: math, limit: 30}}]
"""


@dataclass
class NodeCase:
    """A namespace of the node, and the operator's process, where no other operator serves it."""

    node: Node
    namespace: str
    log: Path
    operators: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_operator(self) -> None:
        environment = without_proxies() | {"KUBECONFIG": str(self.node.cluster.kubeconfig), "PYTHONPATH": ""}
        options = ["--namespace", self.namespace, "--lease-namespace", self.namespace, "--port", "0"]
        options += ["--progress-seconds", "1", "--log-format", "text", "--identity", "the-one"]
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "kubedistill_operator", *options]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=PROJECT)
        self.operators.append(process)

    def kill_operator(self) -> None:
        self.operators[-1].kill()
        self.operators[-1].wait()

    def end(self) -> None:
        for process in self.operators:
            process.send_signal(signal.SIGTERM)
        for process in self.operators:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()

    def apply(self, *manifests: Object | str) -> None:
        items = [yaml.safe_load(m) if isinstance(m, str) else m for m in manifests]
        self.node.cluster.apply(*items, namespace=self.namespace)

    def kubectl(self, *arguments: str) -> str:
        return self.node.cluster.kubectl(*arguments, "--namespace", self.namespace)

    def get(self, *what: str) -> Object:
        found: Object = json.loads(self.kubectl("get", *what, "--output=json"))
        return found

    def until(self, resource: str, is_so: Callable[[Object], bool], seconds: float) -> Object:
        """The resource (`djob/demo`) once its status is so.

        Fails with what is known when it takes too long, or when the resource ended before.
        """
        end = time.monotonic() + seconds
        has_ended = False
        while time.monotonic() < end and not has_ended:
            item = self.get(resource)
            status = item.get("status") or {}
            if is_so(status):
                return item
            has_ended = status.get("phase") in ("Complete", "Failed")
            assert not self.operators or self.operators[-1].poll() is None, self.log.read_text()[-4000:]
            time.sleep(0.3)
        told = self.kubectl("describe", resource) + self.kubectl("get", "pods", "--output=wide") + self.pod_logs()
        raise AssertionError(f"{resource} did not get there (within {seconds} s):\n{told[-12000:]}")

    def finished(self, resource: str, seconds: float) -> Object:
        return self.until(resource, lambda s: s.get("phase") in ("Complete", "Failed"), seconds)

    def pod_logs(self) -> str:
        names = [pod["metadata"]["name"] for pod in self.get("pods")["items"]]
        return "\n".join(f"== {name}\n{self._log_of(name)}" for name in names)

    def _log_of(self, pod: str) -> str:
        try:
            return self.kubectl("logs", pod, "--tail=30")
        except Exception as error:
            return str(error)

    def pod_of(self, stage: str, index: int = 0) -> str | None:
        """The running pod of a stage with that index."""
        selector = f"kubedistill.io/stage={stage},batch.kubernetes.io/job-completion-index={index}"
        for pod in self.get("pods", "--selector", selector)["items"]:
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]:
                return str(pod["metadata"]["name"])
        return None

    def kill_pod(self, stage: str, index: int, after_s: float) -> str:
        """Kills every process of a stage's pod with SIGKILL, some time after it was seen to run."""
        end = time.monotonic() + 300
        while (pod := self.pod_of(stage, index)) is None:
            assert time.monotonic() < end, self.kubectl("get", "pods", "--output=wide")
            time.sleep(0.2)
        time.sleep(after_s)
        for pid in self.node.pod_processes(self.namespace, pod):
            if "pause" not in (command := _command(pid)) and "sleep infinity" not in command:
                os.kill(pid, signal.SIGKILL)
        return pod

    @property
    def storage(self) -> Path:
        """Where the stages of the namespace lie on this machine."""
        return self.node.storage(self.namespace) / "kubedistill" / self.namespace


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return "pause"


def stage_folder(root: Path, stage: str) -> Path:
    (folder,) = (root / "stages").glob(f"{stage}-????????????????")
    return folder


def rows(path: Path) -> list[Object]:
    """A table's rows without what measures time, and without surplus traces: whether an answer that is not needed is
    drawn before that is known is a matter of time too."""
    table = pq.read_table(path)
    found: list[Object] = table.drop_columns([n for n in TIMES if n in table.column_names]).to_pylist()
    return [row for row in found if not row.get("surplus")]


def recorded(root: Path) -> int:
    """Answers of the sampling stage that are durable by now."""
    parts = (root / "stages").glob("sample-????????????????/traces/*.arrow")
    return sum(pa.ipc.open_file(part).read_all().num_rows for part in parts)


def newest_checkpoint(root: Path) -> int:
    """The step of the training stage's newest complete checkpoint; 0 when there is none yet."""
    steps = [step for folder in (root / "stages").glob("train-*/checkpoints") for step in committed_steps(folder)]
    return max(steps, default=0)


def metrics(root: Path, stage: str) -> Object:
    found: Object = json.loads((stage_folder(root, stage) / "result.json").read_text())["metrics"]
    return found


def losses(root: Path) -> list[tuple[int, float]]:
    lines = (stage_folder(root, "train") / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["loss"]) for row in map(json.loads, lines)]


def run_locally(folder: Path, *manifests: Object | str) -> Path:
    """`kubedistill run` of the same manifest on this machine; returns the root of its stages."""
    folder.mkdir(parents=True, exist_ok=True)
    items = [yaml.safe_load(m) if isinstance(m, str) else m for m in manifests]
    path, root = folder / "job.yaml", folder / "root"
    path.write_text(yaml.safe_dump_all(items))
    command = [sys.executable, "-m", "kubedistill_runtime.cli", "run", str(path), "--root", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return root / "default"
