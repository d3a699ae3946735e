"""What is taken from Debian: installed, for the node; or unpacked into the cache."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster import build
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


def unpacked(package: str) -> Path:
    """The files of a package below a folder of the cache. Nothing is installed, and nothing of it started.

    Raises `ClusterError` where it cannot be had here.
    """
    target = build.cache_folder().parent / "debian" / package
    target.parent.mkdir(parents=True, exist_ok=True)
    with build.alone(target.with_name(f".{package}.lock")):
        if not target.is_dir():
            _unpack(package, target)
    return target


def _unpack(package: str, target: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ClusterError(f"the Debian package {package} is unpacked with apt-get and dpkg-deb, which are not here")
    print(f"== downloading {package}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:

        def run(*command: str) -> str:
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
            return done.stderr if done.returncode else ""

        told = run(*APT, "download", package)
        if told and os.geteuid() == 0:
            # The lists of a fresh machine are empty or old.
            told = run(*APT, "update") or run(*APT, "download", package)
        files = Path(scratch) / "files"
        told = told or run("dpkg-deb", "--extract", *(path.name for path in Path(scratch).glob("*.deb")), files.name)
        if told:
            raise ClusterError(f"the Debian package {package} cannot be had: {told.strip()[-500:]}")
        files.rename(target)
