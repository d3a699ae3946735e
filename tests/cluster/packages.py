"""What the node takes from Debian."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.programs import DEBIAN_PACKAGES

APT = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]


def missing() -> list[str]:
    """Packages whose programs are not on this machine."""
    return [package for program, package in DEBIAN_PACKAGES.items() if not _has(program)]


def _has(program: str) -> bool:
    return Path(program).is_file() if program.startswith("/") else shutil.which(program) is not None


def ensure() -> None:
    """Install what is missing. Raises `ClusterError` with what to install where that cannot be done here."""
    packages = missing()
    if not packages:
        return
    wish = f"the node needs {', '.join(packages)}: install the Debian packages of these names"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ClusterError(wish)
    print(f"== installing {' '.join(packages)}", file=sys.stderr, flush=True)
    # The lists of a fresh machine are empty or old.
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        finished = subprocess.run([*APT, *command], capture_output=True, text=True)
    if missing():
        raise ClusterError(f"{wish}\napt-get says: {finished.stderr.strip()[-500:]}")
