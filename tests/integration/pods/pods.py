"""Pods of a stage played by process trees of this machine, each below a supervisor, as in a pod."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from kubedistill_api.runtime import RoleSpec
from kubedistill_api.stage import StageParams, StageResult, StageSpec
from kubedistill_runtime.stages import supervise

GRACE_S = 20.0
TIMEOUT_S = 240.0
STAGE = ("-m", "kubedistill_runtime.stages")
ADDRESSES = ("127.0.0.1", "127.0.0.2")


@dataclass
class PlayedPod:
    """One pod: its first process, its log, its termination message."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def message(self) -> str:
        return (self.folder / "termination-log").read_text()

    def lose(self) -> None:
        """All of it ends at once, as when its node goes away."""
        whole = psutil.Process(self.process.pid)
        for one in [*whole.children(recursive=True), whole]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()

    def wait(self, timeout: float = TIMEOUT_S) -> int:
        return self.process.wait(timeout)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def stage_spec(folder: Path, params: StageParams, inputs: dict[str, Path], replicas: int = 1) -> StageSpec:
    return StageSpec(
        resource="DistillationJob/default/test",
        stage=params.kind,
        digest="0" * 64,
        params=params,
        inputs={role: str(path) for role, path in inputs.items()},
        output_uri=str(folder),
        role=RoleSpec(replicas=replicas),
    )


@contextlib.contextmanager
def started_pods(
    folder: Path,
    spec: StageSpec,
    *,
    attempt: int = 0,
    indices: Sequence[int] | None = None,
    program: Sequence[str] = STAGE,
    **environment: str,
) -> Iterator[list[PlayedPod]]:
    """The stage's pods; nothing of them is left afterwards."""
    wanted = range(spec.role.replicas) if indices is None else indices
    shared = {
        "KUBEDISTILL_ATTEMPT": str(attempt),
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        **environment,
    }
    if spec.role.replicas > 1:
        shared |= {
            "MASTER_ADDR": ADDRESSES[0],
            "MASTER_PORT": str(free_port()),
            "RAY_GCS_SERVER_PORT": str(free_port()),
        } | environment
    pods = []
    with contextlib.ExitStack() as stack:
        for index in wanted:
            own = folder / f"attempt-{attempt}-pod-{index}"
            pods.append(stack.enter_context(_started(own, spec, index, shared, program)))
        yield pods


@contextlib.contextmanager
def _started(
    folder: Path, spec: StageSpec, index: int, shared: dict[str, str], program: Sequence[str]
) -> Iterator[PlayedPod]:
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(spec.model_dump_json(by_alias=True))
    (folder / "termination-log").touch()
    own = {
        "JOB_COMPLETION_INDEX": str(index),
        "POD_IP": ADDRESSES[index],
        "KUBEDISTILL_TERMINATION_LOG": str(folder / "termination-log"),
    }
    command = [sys.executable, *program, str(folder / "spec.json")]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", supervise.__file__, str(os.getpid()), str(GRACE_S), *command],
            env={**os.environ, **shared, **own},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield PlayedPod(process, folder)
    finally:
        process.terminate()
        process.wait(GRACE_S + 15)


def run_pods(
    folder: Path, spec: StageSpec, *, attempt: int = 0, program: Sequence[str] = STAGE, **environment: str
) -> tuple[StageResult, list[PlayedPod]]:
    """Runs all pods of a stage to their ends; index 0's result, and the pods."""
    with started_pods(folder, spec, attempt=attempt, program=program, **environment) as pods:
        codes = [pod.wait() for pod in pods]
    told = "\n\n".join(f"== {pod.folder.name}\n{pod.log[-4000:]}" for pod in pods)
    assert codes == [0] * len(pods), told
    return StageResult.model_validate_json((Path(spec.output_uri) / "result.json").read_bytes()), pods
