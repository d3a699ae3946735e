"""What this machine has: GPUs for the default runtime."""

import os
import shutil
import subprocess

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
