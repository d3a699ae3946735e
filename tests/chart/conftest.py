"""Helm, a real API server that writes down what is asked of it, and a machine that has Prometheus."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.chart.chart_case import Helm
from tests.cluster import build, prometheus
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError

AUDITED = "system:serviceaccounts"


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster."""
    return Helm(build.find("helm"), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def audit_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the API server writes every request of a ServiceAccount outside kube-system."""
    return tmp_path_factory.mktemp("audit") / "audit.log"


@pytest.fixture(scope="module")
def control_plane(audit_log: Path) -> Iterator[ControlPlane]:
    """A control plane of the file's own that never saw our CRDs, strict about owner references as OpenShift is."""
    policy = audit_log.with_name("policy.yaml")
    rules = [
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "userGroups": [AUDITED], "omitStages": ["RequestReceived"]},
        {"level": "None"},
    ]
    policy.write_text(yaml.safe_dump({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))
    flags = (
        f"--audit-policy-file={policy}",
        f"--audit-log-path={audit_log}",
        "--audit-log-mode=blocking",
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
    )
    with ControlPlane(apiserver_flags=flags) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster_helm(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm as the cluster's administrator."""
    return Helm(build.find("helm"), tmp_path_factory.mktemp("cluster-helm"), control_plane.kubeconfig)


@pytest.fixture(scope="session")
def with_prometheus() -> None:
    """Skips where Prometheus cannot be had, but not in CI."""
    try:
        prometheus.find("promtool")
    except ClusterError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
