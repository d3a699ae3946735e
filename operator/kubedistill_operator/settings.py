"""How the operator is run: options, or environment variables of the same names."""

import argparse
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from uuid import uuid4

from kubedistill_api.retries import RetryPolicy

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
PREFIX = "KUBEDISTILL_"


@dataclass(frozen=True)
class Settings:
    """The operator's settings."""

    namespaces: tuple[str, ...] = ()
    """Namespaces to serve; none: all of them."""
    workers: int = 32
    """Resources that are looked at side by side; a look is mostly waiting for the API server."""
    port: int = 8080
    """Port of /healthz, /readyz and /metrics; 0 takes any."""
    lease_namespace: str = "default"
    """Where the Lease is that keeps a second operator from acting."""
    lease_name: str = "kubedistill-operator"
    """Its name: operators that serve different namespaces need different ones."""
    progress_seconds: float = 10.0
    """Between two questions to a running stage for its progress."""
    resync_seconds: float = 300.0
    """Between two full lists, which find what the watches missed."""
    pending_seconds: float = RetryPolicy.pending_s
    """A stage with nodes for some of its pods only gives them back after so long; one with none for its only pod gives
    its place on the runtime to who waits for one."""
    silence_seconds: float = 90.0
    """/healthz fails when the watches have told nothing for so long."""
    log_format: str = "json"
    """json or text."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    kubeconfig: str | None = None
    """Kubeconfig file outside a cluster."""
    identity: str = ""
    """Holder of the Lease; by default the pod's name, outside a pod the host's name and a random end."""

    @property
    def watched_namespaces(self) -> frozenset[str]:
        """The served ones and the Lease's; none: all of them."""
        return frozenset({*self.namespaces, self.lease_namespace} if self.namespaces else ())


def parse(argv: Sequence[str] | None = None) -> Settings:
    """Settings from the command line, where that is silent from KUBEDISTILL_*, else the defaults."""
    parser = argparse.ArgumentParser(
        prog="python -m kubedistill_operator",
        description="Reconciles DistillationJobs, TeacherProbes and DistillationStudies into Jobs that sample, train "
        "and evaluate.",
        epilog="Every option can be given as an environment variable: --log-level as KUBEDISTILL_LOG_LEVEL.",
    )
    add = parser.add_argument
    add("--namespace", action="append", dest="namespaces", metavar="NAME", help="serve this one; repeat; all without")
    add("--workers", type=int, help=f"resources looked at side by side (default {Settings.workers})")
    add("--port", type=int, help=f"of /healthz, /readyz and /metrics (default {Settings.port})")
    add("--lease-namespace", help="where the Lease is (default: the pod's namespace)")
    add("--lease-name", help=f"name of the Lease (default {Settings.lease_name})")
    add("--progress-seconds", type=float, help="between two questions for progress (default 10)")
    add("--resync-seconds", type=float, help="between two full lists (default 300)")
    add(
        "--pending-seconds",
        type=float,
        help="a stage with nodes for some of its pods only gives them back, and one with none its place on the runtime "
        "where others wait for it (default 480)",
    )
    add("--silence-seconds", type=float, help="/healthz fails when the watches are silent for so long (default 90)")
    add("--log-format", choices=("json", "text"), help="(default json)")
    add("--log-level", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="(default INFO)")
    add("--kubeconfig", help="outside a cluster (default: KUBECONFIG, ~/.kube/config)")
    add("--identity", help="holder of the Lease (default: the pod's name)")
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    for field in fields(Settings):
        text = os.environ.get(PREFIX + field.name.upper())
        if text and field.name not in given:
            given[field.name] = _converted(field.name, text)
    if "namespaces" in given:
        given["namespaces"] = tuple(given["namespaces"])
    in_pod, host = NAMESPACE_FILE.exists(), socket.gethostname()
    given.setdefault("lease_namespace", NAMESPACE_FILE.read_text().strip() if in_pod else "default")
    # A container that is started again in its pod need not wait until the Lease of the one before it expires.
    given.setdefault("identity", host if in_pod else f"{host}-{uuid4().hex[:6]}")
    return Settings(**given)


def _converted(name: str, text: str) -> object:
    if name == "namespaces":
        return text.replace(",", " ").split()
    return type(getattr(Settings, name))(text) if name in ("workers", "port") or name.endswith("_seconds") else text
