"""Every combination of values gives manifests that a real API server takes, with unknown fields as errors."""

import json
from typing import Any

import pytest

from tests.chart.chart_case import NAMESPACE, SERVED, Helm, Object, one
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError

FOREIGN = ("ServiceMonitor", "PodMonitor", "PrometheusRule")
"""Kinds whose CRDs are not ours, and not on a bare cluster."""
PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
RUNTIME: Object = {
    "image": "registry.example/kubedistill:0.1.0",
    "storage": {"uri": "pvc://kubedistill/artifacts"},
    "sampler": {"replicas": 2, "gpusPerReplica": 8, "template": {"spec": {"nodeSelector": {"gpu": "h100"}}}},
    "limits": {"allowedModels": ["hf://Qwen/*"], "allowedEndpointHosts": [], "maxParallelStages": 2, "maxStages": 8},
    "allowedNamespaces": {"names": ["team-a"], "matchLabels": {"gpu": "yes"}},
}
COMBINATIONS: dict[str, Object] = {
    "defaults": {},
    "no crds": {"crds": {"enabled": False}},
    "crds that go": {"crds": {"keep": False}},
    "runtimes": {"runtimes": {"default": RUNTIME, "small": {"image": "i"}}, "rbac": {"clusterRuntimeReaders": ["g"]}},
    "a few namespaces": {"watchNamespaces": ["default", "kube-public"], "networkPolicy": {"tenants": ["default"]}},
    "nothing optional": {
        "crds": {"enabled": False},
        "rbac": {"create": False, "aggregate": False},
        "serviceAccount": {"create": False, "name": "default"},
        "admission": {"enabled": False},
        "networkPolicy": {"enabled": False},
        # Null takes a default away; an empty map would be merged with it.
        "resources": None,
        "securityContext": None,
        "podSecurityContext": None,
    },
    "everything optional": {
        "metrics": {
            "serviceMonitor": {"enabled": True},
            "podMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
            "dashboard": {"enabled": True, "annotations": {"grafana_folder": "ml"}},
        },
        "podDisruptionBudget": {"enabled": True},
        "networkPolicy": {
            "metricsFrom": [PEER],
            "stageMetricsFrom": [PEER],
            "egress": {"enabled": True, "apiServer": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
            "tenants": ["default", "kube-public"],
        },
    },
    "a pinned image": {"image": {"digest": "sha256:" + "0" * 64, "pullPolicy": "Always"}, "imagePullSecrets": ["s"]},
    "where it runs": {
        "nodeSelector": {"role": "infra"},
        "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "arm", "operator": "DoesNotExist"}]}]
                }
            }
        },
        "priorityClassName": "system-cluster-critical",
    },
    "extras": {
        "extraArgs": ["--identity=me"],
        "extraEnv": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca", "optional": True}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/ca", "readOnly": True}],
        "podAnnotations": {"a": "b"},
        "podLabels": {"a": "b"},
        "deploymentAnnotations": {"a": "b"},
        "commonLabels": {"team": "platform"},
    },
    "priorities": {
        "priorityClasses": [{"name": "low", "value": -10, "preemptionPolicy": "Never"}, {"name": "top", "value": 10**6}]
    },
    "other names": {"fullnameOverride": "a" * 50, "nameOverride": "kd", "serviceAccount": {"name": "sa"}},
    "audit only": {"admission": {"actions": ["Warn", "Audit"]}, "operator": {"logFormat": "text", "workers": 64}},
}


@pytest.fixture(scope="module")
def ready(control_plane: ControlPlane) -> ControlPlane:
    """With the CRDs, and the release's namespace and accounts."""
    control_plane.install_crds()
    control_plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    # The pod of `helm test` is not taken without.
    for name in ("kubedistill", "sa"):
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}}
        control_plane.apply(account)
    return control_plane


def checked(cluster: ControlPlane, items: list[Any]) -> None:
    """Raises ClusterError with what the API server does not take."""
    everything = {"apiVersion": "v1", "kind": "List", "items": items}
    options = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict")
    cluster.kubectl("apply", *options, "-f", "-", stdin=json.dumps(everything))


@pytest.mark.parametrize("name", COMBINATIONS)
def test_the_api_server_takes(ready: ControlPlane, helm: Helm, name: str) -> None:
    crds = {"crds": {"enabled": True}}
    items = helm.template(crds | COMBINATIONS[name], *SERVED)
    known = [item for item in items if item["kind"] not in FOREIGN]
    assert known
    checked(ready, known)


def test_the_pods_pass_the_restricted_level(ready: ControlPlane, helm: Helm) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    ready.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    items = helm.template()
    template = one(items, "Deployment")["spec"]["template"]
    metadata = template["metadata"] | {"name": "operator", "namespace": NAMESPACE}
    pod = template | {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    checked(ready, [pod, one(items, "Pod")])
    loose = helm.template({"securityContext": None})
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        checked(ready, [one(loose, "Pod")])


def test_a_misspelt_field_would_not_be_taken(ready: ControlPlane, helm: Helm) -> None:
    items = helm.template({"podSecurityContext": {"runAsNonRot": True}})
    with pytest.raises(ClusterError, match="runAsNonRot"):
        checked(ready, [item for item in items if item["kind"] == "Deployment"])
