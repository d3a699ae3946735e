"""A pod beside index 0 as a node of the stage's Ray cluster."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from kubedistill_runtime.engines.ray_cluster import OBJECT_STORE_BYTES, POD_RESOURCE, RAY_PORT, SETTINGS
from kubedistill_runtime.errors import TryAgain
from kubedistill_runtime.stages import supervise
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.stages.pod import HEAD_S, POLL_S, Pod, answers, wait_for_head
from kubedistill_runtime.verify.pool import usable_cores

JOIN_S = 90.0
"""`ray start` may take so long: with a head that went away meanwhile, or another token, it waits."""
GONE_S = 5.0
"""Index 0 does not answer for so long: its cluster has ended."""


def serve(context: StageContext, pod: Pod, token_file: Path) -> None:
    """Joins index 0's cluster and stays until that has ended.

    Raises TryAgain when there is none to join within ten minutes, or this node falls out of it.
    """
    until = time.monotonic() + HEAD_S
    supervise.adopt_orphans()  # `ray start` leaves daemons
    try:
        # Ray waits a minute for a head that does not listen yet, and fails.
        while wait_for_head(context, pod, RAY_PORT, until=until):
            # Read again each time: pods of a suspended job come again under the same attempt, and find the old token.
            if token_file.exists() and _start(pod, token_file.read_text()):
                print(f"joined the Ray cluster of {pod.head}", flush=True)
                _stay(pod)
                return
            supervise.clear()
            if time.monotonic() > until:
                raise TryAgain(
                    f"could not join the Ray cluster of index 0 at {pod.head}:{RAY_PORT}; see the lines above"
                )
            time.sleep(POLL_S)
        print("the stage's result is there: nothing to help with", flush=True)
    finally:
        supervise.clear()


def _start(pod: Pod, token: str) -> bool:
    """Whether this pod has become a node of the cluster."""
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start",
        "--address", f"{pod.head}:{RAY_PORT}",
        "--node-ip-address", pod.ip,
        "--num-cpus", str(usable_cores()),
        "--object-store-memory", str(OBJECT_STORE_BYTES),
        "--resources", json.dumps({POD_RESOURCE: 1}),
        "--disable-usage-stats",
    ]  # fmt: skip
    environment = {**SETTINGS, **os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    try:
        return subprocess.run(command, env=environment, timeout=JOIN_S, stdin=subprocess.DEVNULL).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _stay(pod: Pod) -> None:
    silent = lost = None
    while True:
        time.sleep(POLL_S)
        supervise.reap()
        now = time.monotonic()
        silent = None if answers(pod.head, RAY_PORT) else silent or now
        lost = None if _has_raylet() else lost or now
        if silent and now - silent >= GONE_S:
            print("index 0 has ended the Ray cluster", flush=True)
            return
        if lost and not silent and now - lost >= GONE_S:
            raise TryAgain("this pod's part of the Ray cluster ended before index 0's; see the log of index 0")


def _has_raylet() -> bool:
    names = (Path(f"/proc/{pid}/comm") for pid in supervise.descendants(os.getpid()))
    return any(_read(name) == "raylet" for name in names)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # the process has ended meanwhile
        return ""
