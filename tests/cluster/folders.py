"""The folder of a running cluster, and what remains of clusters whose owner was killed."""

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "kd-cluster-"
OWNER = "owner.json"


def make() -> Path:
    """A new folder for a cluster of this process. What dead owners left is removed first."""
    remove_remains()
    # The path is part of socket paths, which may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    (folder / OWNER).write_text(json.dumps({"pid": os.getpid(), "started": start_time(os.getpid())}))
    return folder


def remove(folder: Path) -> None:
    """Remove a cluster's folder and its control groups. Its processes have ended."""
    for hierarchy in cgroup_hierarchies():
        _remove_cgroup(hierarchy / folder.name)
    shutil.rmtree(folder, ignore_errors=True)


def remove_remains() -> None:
    """Remove the folders and control groups of clusters whose owner is dead. The kernel ended their processes."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            owner = json.loads((folder / OWNER).read_text())
            if start_time(owner["pid"]) != owner["started"]:
                remove(folder)


def start_time(pid: int) -> str | None:
    """When a process started, in ticks since boot; None when there is none. With the pid it names one process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else fields[18]


def cgroup_hierarchies() -> list[Path]:
    """Roots of the mounted control group hierarchies: one of version 2, or one per controller of version 1."""
    table = Path("/proc/mounts")
    mounts = [line.split() for line in table.read_text().splitlines()] if table.exists() else []
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def _remove_cgroup(group: Path) -> None:
    if group.is_dir():
        for child in group.iterdir():
            if child.is_dir():
                _remove_cgroup(child)
        with contextlib.suppress(OSError):
            group.rmdir()
