"""What a Prometheus scrapes by the chart's monitors, as the Prometheus operator would have it.

Debian's Prometheus is built without the discovery of Kubernetes, so what they select is looked up here, once.
"""

import re
from collections.abc import Iterator
from typing import Any

from tests.cluster.controlplane import ControlPlane

Object = dict[str, Any]
Labels = dict[str, str]


def scrape_config(cluster: ControlPlane, monitor: Object, address: str) -> Object:
    """Of a ServiceMonitor or a PodMonitor, for the fields that ours have.

    All that it selects is scraped at `address`: pods that are played have no process behind their own.
    """
    spec = monitor["spec"]
    is_pod = monitor["kind"] == "PodMonitor"
    (endpoint,) = spec["podMetricsEndpoints" if is_pod else "endpoints"]
    assert spec.keys() <= {"selector", "namespaceSelector", "sampleLimit", "podMetricsEndpoints", "endpoints"}
    assert endpoint.keys() <= {"port", "path", "interval", "scrapeTimeout", "honorLabels", "relabelings"}
    assert spec["selector"].keys() == {"matchLabels"}
    chosen = ["--selector", ",".join(f"{name}={value}" for name, value in spec["selector"]["matchLabels"].items())]
    scopes = [["--namespace", name] for name in spec["namespaceSelector"].get("matchNames", ())] or [["-A"]]
    look_up = _pods if is_pod else _services
    found = [labels for scope in scopes for labels in look_up(cluster, [*scope, *chosen], endpoint["port"])]
    name = f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}"
    common = {"endpoint": endpoint["port"]} | ({"job": name} if is_pod else {})
    return {
        "job_name": f"{monitor['kind']}/{name}",
        "static_configs": [{"targets": [address], "labels": labels | common} for labels in found],
        "relabel_configs": [
            {"source_labels": rule["sourceLabels"], "regex": rule["regex"], "action": rule["action"]}
            for rule in endpoint.get("relabelings", ())
        ],
        "metrics_path": endpoint["path"],
        "scrape_interval": endpoint["interval"],
        "scrape_timeout": endpoint["scrapeTimeout"],
        "honor_labels": endpoint.get("honorLabels", False),
        "sample_limit": spec.get("sampleLimit", 0),
    }


def _services(cluster: ControlPlane, chosen: list[str], port: str) -> Iterator[Labels]:
    """The pods that are ready behind a port of a Service."""
    for service in cluster.get("services", *chosen)["items"]:
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        of = ["--namespace", namespace, "--selector", f"kubernetes.io/service-name={name}"]
        for part in cluster.get("endpointslices", *of)["items"]:
            for one in part["endpoints"] or ():
                if one["conditions"]["ready"] and any(p["name"] == port for p in part["ports"]):
                    pod = one["targetRef"]["name"]
                    yield {"job": name, "namespace": namespace, "service": name, "pod": pod}


def _pods(cluster: ControlPlane, chosen: list[str], port: str) -> Iterator[Labels]:
    """Pods that have not ended, with a port of that name, and the labels that a relabeling may ask for."""
    for pod in cluster.get("pods", *chosen)["items"]:
        metadata = pod["metadata"]
        asked = {
            f"__meta_kubernetes_pod_label_{re.sub('[^a-zA-Z0-9_]', '_', n)}": v for n, v in metadata["labels"].items()
        }
        for container in pod["spec"]["containers"]:
            named = any(p.get("name") == port for p in container.get("ports", ()))
            if named and pod["status"]["phase"] not in ("Succeeded", "Failed"):
                own = {"namespace": metadata["namespace"], "pod": metadata["name"], "container": container["name"]}
                yield own | asked
