"""The operator's image, made of what this machine has: its Python, and what images/operator/Containerfile installs.

Unlike the image `HOST` it has everything in it, so the chart's pods need no volumes of the machine.
"""

import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path

from packaging.requirements import Requirement

from kubedistill_api import __version__
from tests.cluster import images
from tests.cluster.host_runtime import PROJECT
from tests.cluster.node import Node

REPOSITORY = "localhost/kubedistill/operator"
TAG = __version__
SITE = "/opt/kubedistill"
"""Where the packages are in the image."""
PACKAGES = (PROJECT / "crds" / "kubedistill_api", PROJECT / "operator" / "kubedistill_operator")
UNUSED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "ensurepip", "turtledemo"}
"""Of the standard library."""


def add_to(node: Node) -> None:
    """Give a node the image `REPOSITORY:TAG`."""
    layer = [*images.host_layer(), *_operator_layer()]
    node.import_image(f"{REPOSITORY}:{TAG}", layer, ["python", "-m", "kubedistill_operator"], {"PYTHONPATH": SITE})


def _operator_layer() -> images.Layer:
    python = Path(sys.executable).resolve()
    standard = Path(sysconfig.get_path("stdlib"))
    files = {str(python): python}
    files |= {str(path): path for path in _files(standard) if not UNUSED & set(path.relative_to(standard).parts)}
    files |= {f"{SITE}/{inside}": path for inside, path in _site()}
    binaries = [path for path in files.values() if path == python or ".so" in path.suffixes]
    files |= {str(library.parent.resolve() / library.name): library for library in _libraries(binaries)}
    files |= dict(_compiled(files))
    layer = [images.link("usr/local/bin/python", str(python))]
    # Without an entry of its own a folder would be for root alone.
    parents = {parent for inside in files for parent in Path(inside).parents if parent != Path("/")}
    layer += [images.folder(str(parent).lstrip("/")) for parent in sorted(parents)]
    for inside, path in sorted(files.items()):
        stat = path.stat()
        info, content = images.file(inside.lstrip("/"), path.read_bytes(), 0o755 if stat.st_mode & 0o111 else 0o644)
        # A compiled module names the time of its source.
        info.mtime = int(stat.st_mtime)
        layer.append((info, content))
    return layer


def _compiled(files: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    """What is there compiled of the modules among the files."""
    for inside, path in files.items():
        if path.suffix == ".py" and (cache := Path(cache_from_source(str(path)))).is_file():
            yield cache_from_source(inside), cache


def _site() -> Iterator[tuple[str, Path]]:
    """Every file of the packages, with its place below `SITE`."""
    pins = (PROJECT / "requirements" / "operator.txt").read_text()
    for line in re.findall(r"^[a-zA-Z].*", pins, re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            for file in metadata.files(requirement.name) or ():
                # What is beside the packages, as scripts, is not imported.
                if ".." not in file.parts and (path := Path(str(file.locate()))).is_file():
                    yield str(file), path
    for package in PACKAGES:
        for path in _files(package):
            yield str(path.relative_to(package.parent)), path


def _files(folder: Path) -> Iterator[Path]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".a")
    return (path for path in found if "__pycache__" not in path.parts)


def _libraries(binaries: list[Path]) -> set[Path]:
    """What the dynamic linker loads for them, itself included."""
    told = subprocess.run(["ldd", *binaries], capture_output=True, text=True).stdout
    return {Path(found) for found in re.findall(r"(/\S+) \(0x", told)}
