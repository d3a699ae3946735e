"""The chart on a node: the operator is a pod of its Deployment, with the chart's rights and no others."""

from pathlib import Path
from typing import Any

from tests.chart.chart_case import CHART, NAMESPACE, Helm
from tests.cluster import build, operator_image
from tests.cluster.node import Node

OPERATOR = ("--namespace", NAMESPACE, "--selector", "app.kubernetes.io/component=operator")
"""Chooses the operator's pod, for kubectl."""
IMAGE = {"repository": operator_image.REPOSITORY}


def install(node: Node, folder: Path, *options: str, **values: Any) -> Helm:
    """Installs the chart with default values but for the image and `values`; returns when the operator is ready.

    Its namespace takes pods of the `restricted` level only. Raises HelmError.
    """
    operator_image.add_to(node)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    node.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    helm = Helm(build.find("helm"), folder, node.cluster.kubeconfig)
    helm("install", "kubedistill", CHART, "-n", NAMESPACE, "--wait", *options, values={"image": IMAGE, **values})
    return helm


def operator_pod(node: Node) -> dict[str, Any]:
    """The operator's newest pod."""
    pods = node.cluster.get("pods", *OPERATOR)["items"]
    return max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))  # type: ignore[no-any-return]
