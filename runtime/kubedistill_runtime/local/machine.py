"""What this machine has: GPUs for the default runtime, and whether the kernel killed for memory."""

import os
import shutil
import subprocess
from pathlib import Path

from kubedistill_api.runtime import RoleSpec, RuntimeSpec

QUERY_TIMEOUT_S = 20


def default_runtime() -> RuntimeSpec:
    """This machine as it is: every GPU for the stages with an engine or a trainer, one process on the CPU."""
    engine = RoleSpec(gpus_per_replica=min(gpus(), 64))
    return RuntimeSpec(sampler=engine, trainer=engine, evaluator=engine)


def gpus() -> int:
    """GPUs that a stage would see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([entry for entry in visible.split(",") if entry.strip() not in ("", "-1")])
    command = shutil.which("nvidia-smi")
    if command is None:
        return 0
    try:
        listed = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=QUERY_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def memory_kills() -> int | None:
    """Processes of this control group that the kernel has killed for memory; None where that cannot be told."""
    for path in _memory_events():
        try:
            for line in path.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        except (OSError, ValueError):
            continue
    return None


def _memory_events() -> list[Path]:
    """Files that count kills, the nearest group first; version 2, then version 1."""
    mount = Path("/sys/fs/cgroup")
    found: list[Path] = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        number, controllers, group = line.split(":", 2)
        if number == "0":
            found += [mount / group.lstrip("/") / "memory.events", mount / "memory.events"]
        elif "memory" in controllers.split(","):
            v1 = mount / "memory"
            found += [v1 / group.lstrip("/") / "memory.oom_control", v1 / "memory.oom_control"]
    return found
