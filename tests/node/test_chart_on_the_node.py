"""The chart as its users have it: installed with Helm, its operator and its test in pods, a tenant's job to its end."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chart.chart_case import CHART, NAMESPACE, Helm, HelmError
from tests.cluster.host_runtime import host_runtime
from tests.cluster.node import Node
from tests.node.charted import IMAGE, OPERATOR, install, operator_pod
from tests.node.node_case import JOB, NodeCase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

JOB_S = 900.0


@pytest.fixture(scope="module")
def helm(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    """The chart, installed. The node's other tests brought the CRDs; it takes them over, and leaves them."""
    helm = install(node, tmp_path_factory.mktemp("helm"), "--take-ownership")
    yield helm
    helm("uninstall", "kubedistill", "-n", NAMESPACE, "--wait")


def test_the_operator_is_a_pod_of_the_deployment(node: Node, helm: Helm) -> None:
    pod = operator_pod(node)
    assert pod["spec"]["serviceAccountName"] == "kubedistill"
    (status,) = pod["status"]["containerStatuses"]
    assert (status["ready"], status["restartCount"]) == (True, 0)


def test_helm_test_runs_in_a_pod_and_succeeds(node: Node, helm: Helm) -> None:
    told = helm("test", "kubedistill", "-n", NAMESPACE, "--logs")
    assert "Phase:          Succeeded" in told
    assert "the operator answers at http://kubedistill.kubedistill.svc:8080" in told


def test_a_tenants_job_completes_while_helm_test_of_a_broken_release_fails(
    node: Node, helm: Helm, tenant: str, tmp_path: Path
) -> None:
    """The two share their time: a broken installation is waited for a minute."""
    node.cluster.apply(host_runtime("single"))
    case = NodeCase(node, tenant, tmp_path / "none.log")
    case.apply(JOB.replace("name: host", "name: single"))
    with ThreadPoolExecutor(1) as beside:
        broken = beside.submit(_test_of_a_broken_release, helm)
        done = case.finished("djob/demo", JOB_S)
        assert "broken-kubedistill-test" in str(broken.exception())
    assert done["status"]["phase"] == "Complete", case.kubectl("describe", "djob/demo")
    assert all(stage["attempt"] == 0 for stage in done["status"]["stages"])
    assert done["status"]["scores"]
    told = node.cluster.kubectl("logs", "--namespace", "broken", "broken-kubedistill-test")
    assert "http://broken-kubedistill.broken.svc:8080/readyz does not answer" in told
    assert "the API server does not serve" not in told
    assert "Forbidden" not in node.cluster.kubectl("logs", *OPERATOR, "--tail=-1")


def _test_of_a_broken_release(helm: Helm) -> None:
    """Raises HelmError, as its operator does not start."""
    values = {
        "image": IMAGE,
        "crds": {"enabled": False},
        "watchNamespaces": ["broken"],
        "extraArgs": ["--no-such-option"],
    }
    helm("install", "broken", CHART, "-n", "broken", "--create-namespace", values=values)
    try:
        helm("test", "broken", "-n", "broken")
    except HelmError:
        helm("uninstall", "broken", "-n", "broken")
        raise
