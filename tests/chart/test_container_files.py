"""The container files: what they copy is there, and they run as the chart and the operator's templates ask."""

import ast
import fnmatch
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from kubedistill_operator.templates import USER
from tests.chart.chart_case import CHART

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "images").glob("*/Containerfile"))


def lines(file: Path, word: str) -> list[str]:
    """What follows the word in each of its lines."""
    return re.findall(rf"^{word} (.*)$", file.read_text(), re.MULTILINE)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_what_is_copied_is_there_and_not_ignored(file: Path) -> None:
    sources = [s for line in lines(file, "COPY") if not line.startswith("--from") for s in line.split()[:-1]]
    assert sources
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(source == name or fnmatch.fnmatch(source, f"{name}/*") for name in kept), source


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_the_user_is_the_one_that_pods_run_as(file: Path) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert lines(file, "USER")[-1] == f"{USER}:{USER}"
    assert values["podSecurityContext"]["runAsUser"] == USER


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_what_cannot_keep_bytecode_has_it(file: Path) -> None:
    assert any("PYTHONDONTWRITEBYTECODE=1" in line for line in lines(file, "ENV"))
    assert "-m compileall" in file.read_text()


def imported(package: Path) -> set[str]:
    """Top-level names of everything that a package imports."""
    found: set[str] = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found


def test_everything_that_the_operator_imports_is_in_its_image() -> None:
    packages = [ROOT / "crds/kubedistill_api", ROOT / "operator/kubedistill_operator"]
    wanted = set().union(*map(imported, packages)) - sys.stdlib_module_names - {p.name for p in packages}
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements/operator.txt").read_text(), re.MULTILINE))
    distributions = importlib.metadata.packages_distributions()
    missing = {name for name in wanted if not {d.lower().replace("_", "-") for d in distributions[name]} & pinned}
    assert wanted
    assert not missing


def test_the_command_is_the_one_of_the_deployment() -> None:
    (command,) = lines(ROOT / "images/operator/Containerfile", "CMD")
    assert f"command: {command}" in (CHART / "templates" / "deployment.yaml").read_text()


def test_the_base_of_the_data_plane_has_the_engine_that_is_pinned() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (version,) = [pin.split("==")[1] for pin in extras["cuda"]]
    assert lines(ROOT / "images/runtime/Containerfile", "FROM") == [f"docker.io/vllm/vllm-openai:v{version}"]


def test_the_charts_version_is_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (chart["version"], chart["appVersion"]) == (version, version)
