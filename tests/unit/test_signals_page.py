"""docs/signals.md has every condition, reason, event, metric and alert that there is, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

from kubedistill_api.status import ConditionType
from kubedistill_operator.metrics import Metrics
from kubedistill_operator.store import Store
from kubedistill_operator.workqueue import WorkQueue
from kubedistill_runtime.stages.progress_server import HELP, PREFIX

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "signals.md"
API = "advance conditions observed outcome reconcile retries standings status summary"
SOURCES = [
    *(ROOT / "operator" / "kubedistill_operator").glob("*.py"),
    *(ROOT / "runtime" / "kubedistill_runtime" / "local").glob("*.py"),
    *(ROOT / "crds" / "kubedistill_api" / f"{name}.py" for name in API.split()),
]
"""Everything that puts a word into a status or an event."""
WORD = re.compile(r"[A-Z][A-Za-z]*[a-z][A-Za-z]*")
OTHER = {
    "kinds of objects": "ClusterDistillationRuntime ConfigMap DistillationJob DistillationRuntime DistillationStudy "
    "Event Job Lease Node Pod Service TeacherProbe",
    "phases and states": "Pending Running Skipped Starting Succeeded Waiting",
    "outcomes in the log": "Retried Stopped",
    "values of Kubernetes that are read": "ContainerCreating ContainerStatusUnknown DeletionByPodGC "
    "DeletionByTaintManager DisruptionTarget EvictionByEvictionAPI OOMKilled PodFailurePolicy PodInitializing PodScheduled PreemptionByScheduler Ready "
    "TerminationByKubelet",
    "values of Kubernetes that are written": "FailJob False File Foreground In Indexed Memory Never None Normal "
    "OnRootMismatch RuntimeDefault True Unknown Warning",
    "of the API server's protocol": "Accept BearerToken NamespaceTerminating ServiceUnavailable",
    "names of Python": "Cluster Interrupt JobFolder Key Stages",
}
"""Words of that form which are no reason. A new word in the code is a reason until it stands here."""
others = {word for words in OTHER.values() for word in words.split()}


def section(title: str) -> set[str]:
    """The names in the first column of a section's tables."""
    found = re.split(r"(?m)^## ", PAGE.read_text())
    (text,) = (part for part in found if part.startswith(f"{title}\n"))
    return set(re.findall(r"(?m)^\| `(\w+)` \|", text))


def words(path: Path) -> Iterator[str]:
    """Strings of one CamelCase word, which are not part of a sentence."""
    tree = ast.parse(path.read_text())
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in parts else None
        if isinstance(text, str) and WORD.fullmatch(text):
            yield text


def test_every_word_of_a_status_is_explained() -> None:
    there = {word for path in SOURCES for word in words(path)}
    explained = section("Conditions") | section("Reasons") | section("Events")
    assert there - others - explained == set(), "add a row to docs/signals.md, or a word to OTHER"
    assert explained - there == set(), "docs/signals.md explains what is nowhere said"
    assert others - there == set(), "OTHER has words that nobody uses"
    assert not others & explained


def test_the_conditions_are_those_of_the_api() -> None:
    assert section("Conditions") == set(get_args(ConditionType))


def events() -> set[str]:
    """Second argument of what is recorded, where it is a word of its own, and the conditions that are told."""
    found = {"Complete", "Failed", "Suspended", "Resumed"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name == "Happening" or (name == "warn" and WORD.fullmatch(str(node.args[1].value))):
                    found.add(str(node.args[1].value))
    return found


def test_the_events_are_those_that_are_recorded() -> None:
    assert section("Events") == events()


def figures() -> set[str]:
    """What stages measure while they run."""
    for path in (ROOT / "runtime" / "kubedistill_runtime" / "stages").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            targets = [getattr(target, "id", "") for target in node.targets] if isinstance(node, ast.Assign) else []
            if "figures" in targets and isinstance(node, ast.Assign):
                return {
                    c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant) and isinstance(c.value, str)
                }
    raise AssertionError("no stage has figures")


def test_the_metrics_are_those_that_are_served() -> None:
    registry = Metrics(Store(), WorkQueue(), SimpleNamespace(writes={})).registry  # type: ignore[arg-type]
    operator = {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()}
    stage = {f"{PREFIX}_info"} | {f"{PREFIX}_progress_{name}" for name in HELP}
    assert section("Metrics") == operator | stage | {f"{PREFIX}_{name}" for name in figures()}


def test_the_alerts_are_those_of_the_chart() -> None:
    rules = (ROOT / "charts" / "kubedistill" / "templates" / "prometheusrule.yaml").read_text()
    assert section("Alerts") == set(re.findall(r"- alert: (\w+)", rules))


@pytest.mark.parametrize("title", ["Reasons", "Events", "Metrics", "Alerts"])
def test_a_name_is_explained_once(title: str) -> None:
    text = next(part for part in re.split(r"(?m)^## ", PAGE.read_text()) if part.startswith(f"{title}\n"))
    names = re.findall(r"(?m)^\| `(\w+)` \|", text)
    assert len(names) == len(set(names))
