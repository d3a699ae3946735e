"""The operator as the chart starts it: its command, its options and its ServiceAccount."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.chart.chart_case import NAMESPACE
from tests.cluster.controlplane import ControlPlane, _free_port
from tests.cluster.processes import without_proxies

Object = dict[str, Any]


@dataclass(frozen=True)
class Running:
    """An operator at work."""

    process: asyncio.subprocess.Process
    url: str
    log: Path
    kubeconfig: Path


def account_kubeconfig(cluster: ControlPlane, namespace: str, account: str) -> Path:
    """A kubeconfig with a token of the ServiceAccount and nothing else."""
    token = cluster.kubectl("create", "token", account, "--namespace", namespace).strip()
    admin = yaml.safe_load(cluster.kubeconfig.read_text())
    admin["users"] = [{"name": account, "user": {"token": token}}]
    admin["contexts"] = [
        {"name": account, "context": {"cluster": admin["clusters"][0]["name"], "user": account, "namespace": namespace}}
    ]
    admin["current-context"] = account
    file = cluster.folder / f"{namespace}-{account}.yaml"
    file.write_text(yaml.safe_dump(admin))
    return file


def deployment(cluster: ControlPlane, namespace: str = NAMESPACE) -> Object:
    return cluster.get("deployment", "--namespace", namespace)["items"][0]  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def operating(cluster: ControlPlane, deployment: Object) -> AsyncIterator[Running]:
    """Runs what the Deployment's container would, and ends it as the kubelet would."""
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    namespace = deployment["metadata"]["namespace"]
    kubeconfig = account_kubeconfig(cluster, namespace, spec["serviceAccountName"])
    port = _free_port("127.0.0.1")
    told = [argument for argument in container["args"] if not argument.startswith("--port=")]
    command = [*container["command"], *told, f"--port={port}", f"--kubeconfig={kubeconfig}"]
    assert command[0] == "python"
    given = {item["name"]: item["value"] for item in container["env"]}
    log = cluster.folder / "logs" / f"operator-{namespace}.log"
    with tempfile.TemporaryDirectory() as home, log.open("ab") as out:
        environment = without_proxies() | given | {"HOME": home, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command[1:], env=environment, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            yield Running(process, f"http://127.0.0.1:{port}", log, kubeconfig)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                await process.wait()
