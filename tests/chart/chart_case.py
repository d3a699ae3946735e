"""Helm on the chart, what it renders, and a job for it."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kubedistill_api.base import API_VERSION
from tests.cluster.processes import without_proxies

Object = dict[str, Any]

CHART = Path(__file__).parents[2] / "charts" / "kubedistill"
NAMESPACE = "kubedistill"
SERVED = ("--api-versions", "kubedistill.io/v1alpha1/ClusterDistillationRuntime")
"""As on a cluster that has the CRDs."""


class HelmError(Exception):
    """Helm refused; the message is its own."""


class Helm:
    """The program, with folders of its own."""

    def __init__(self, program: Path, folder: Path, kubeconfig: Path | None = None) -> None:
        self._program = program
        self._folder = folder
        self._environment = without_proxies() | {
            f"HELM_{name}_HOME": str(folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")
        }
        if kubeconfig:
            self._environment["KUBECONFIG"] = str(kubeconfig)

    def __call__(self, *arguments: str | Path, values: Mapping[str, Any] | None = None) -> str:
        """What it prints. Raises HelmError."""
        command = [str(part) for part in (self._program, *arguments)]
        if values is not None:
            command += ["--values", "-"]
        text = json.dumps(values) if values is not None else None
        done = subprocess.run(command, env=self._environment, input=text, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise HelmError(done.stderr + done.stdout)
        return done.stdout

    def template(
        self, values: Mapping[str, Any] | None = None, *options: str, release: str = "kubedistill"
    ) -> list[Object]:
        """Every object of the chart, hooks included, but for the CRDs where nothing is said of them."""
        given = {"crds": {"enabled": False}} | dict(values or {})
        out = self("template", release, CHART, "--namespace", NAMESPACE, *options, values=given)
        return [item for item in yaml.safe_load_all(out) if item]


def rules(items: Sequence[Object]) -> dict[str, Object]:
    """The rules of the PrometheusRule by their alert."""
    (group,) = one(items, "PrometheusRule")["spec"]["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def one(items: Sequence[Object], kind: str, name: str = "") -> Object:
    """The only object of a kind, or the one of a name."""
    found = [item for item in items if item["kind"] == kind and name in ("", item["metadata"]["name"])]
    assert len(found) == 1, f"{kind} {name}: {[(i['kind'], i['metadata']['name']) for i in items]}"
    return found[0]


def pod(items: Sequence[Object]) -> Object:
    """The operator's pod."""
    return one(items, "Deployment")["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def container(items: Sequence[Object]) -> Object:
    """The operator's container."""
    (found,) = pod(items)["containers"]
    return found  # type: ignore[no-any-return]


def nested(path: str, value: Any) -> Object:
    """`{"a": {"b": value}}` of `a.b`."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value  # type: ignore[no-any-return]


def job(name: str, **spec: object) -> Object:
    """A DistillationJob on the runtime named default."""
    own: Object = {
        "questions": [{"uri": "embedded://questions/train.jsonl"}],
        "teacher": {"model": {"uri": "embedded://models/careless-teacher"}, "sampling": {"maxTokens": 128}},
        "student": {"uri": "embedded://models/student"},
        "curation": {"difficulty": {"maxPassRate": 0.5, "maxTokens": 128}},
    }
    return {"apiVersion": API_VERSION, "kind": "DistillationJob", "metadata": {"name": name}, "spec": own | spec}
