"""What each value of the chart changes, and which values are refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import generate
from charts.settings import Values
from kubedistill_operator.names import SELECTOR
from kubedistill_operator.settings import parse
from tests.chart.chart_case import CHART, NAMESPACE, SERVED, Helm, HelmError, Object, container, nested, one, pod, rules

Items = list[Object]

DIGEST = "sha256:" + "0" * 64
EVERYTHING: Object = {
    "metrics": {
        "serviceMonitor": {"enabled": True},
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
    "podDisruptionBudget": {"enabled": True},
    "networkPolicy": {"egress": {"enabled": True}, "tenants": ["t"]},
}
"""Below these the other values are looked at: what is switched off shows no value."""


def labels(item: Object) -> Object:
    return item["metadata"].get("labels", {})


def annotations(item: Object) -> Object:
    return item["metadata"].get("annotations", {})


def monitor(items: Items) -> Object:
    (endpoint,) = one(items, "ServiceMonitor")["spec"]["endpoints"]
    return endpoint


def pod_monitor(items: Items) -> Object:
    (endpoint,) = one(items, "PodMonitor")["spec"]["podMetricsEndpoints"]
    return endpoint


def policy(items: Items) -> Object:
    return one(items, "NetworkPolicy", "kubedistill")["spec"]


PEER = {"namespaceSelector": {"matchLabels": {"a": "b"}}}
TOLERATION = {"key": "gpu", "operator": "Exists"}
VOLUME = {"name": "ca", "configMap": {"name": "ca"}}

CHANGES: list[tuple[str, Any, Callable[[Items], Any], Any]] = [
    ("nameOverride", "kd", lambda i: one(i, "Service")["spec"]["selector"]["app.kubernetes.io/name"], "kd"),
    ("fullnameOverride", "other", lambda i: one(i, "Deployment")["metadata"]["name"], "other"),
    ("commonLabels", {"team": "p"}, lambda i: {labels(item).get("team") for item in i}, {"p"}),
    ("watchNamespaces", ["a", "b"], lambda i: sorted(r["metadata"]["namespace"] for r in i if r["kind"] == "Role"),
     ["a", "b", NAMESPACE]),
    ("image.repository", "r/o", lambda i: container(i)["image"], "r/o:0.1.0"),
    ("image.tag", "9", lambda i: container(i)["image"], "registry.example/kubedistill-operator:9"),
    ("image.digest", DIGEST, lambda i: container(i)["image"].split("@")[1], DIGEST),
    ("image.pullPolicy", "Always", lambda i: container(i)["imagePullPolicy"], "Always"),
    ("imagePullSecrets", ["s"], lambda i: pod(i)["imagePullSecrets"], [{"name": "s"}]),
    ("operator.workers", 3, lambda i: "--workers=3" in container(i)["args"], True),
    ("operator.progressSeconds", 2.5, lambda i: "--progress-seconds=2.5" in container(i)["args"], True),
    ("operator.resyncSeconds", 60, lambda i: "--resync-seconds=60" in container(i)["args"], True),
    ("operator.silenceSeconds", 45, lambda i: "--silence-seconds=45" in container(i)["args"], True),
    ("operator.logFormat", "text", lambda i: "--log-format=text" in container(i)["args"], True),
    ("operator.logLevel", "DEBUG", lambda i: "--log-level=DEBUG" in container(i)["args"], True),
    ("crds.enabled", True, lambda i: len([c for c in i if c["kind"] == "CustomResourceDefinition"]), 5),
    ("runtimes", {"default": {"image": "i"}}, lambda i: one(i, "ClusterDistillationRuntime")["spec"], {"image": "i"}),
    ("priorityClasses", [{"name": "low", "value": -5, "preemptionPolicy": "Never", "description": "d"}],
     lambda i: {k: v for k, v in one(i, "PriorityClass").items() if k in ("value", "preemptionPolicy", "description")},
     {"value": -5, "preemptionPolicy": "Never", "description": "d"}),
    ("serviceAccount.name", "sa", lambda i: (one(i, "ServiceAccount")["metadata"]["name"],
     pod(i)["serviceAccountName"], one(i, "ClusterRoleBinding", NAMESPACE)["subjects"][0]["name"]), ("sa",) * 3),
    ("serviceAccount.annotations", {"a": "b"}, lambda i: annotations(one(i, "ServiceAccount")), {"a": "b"}),
    ("rbac.create", False, lambda i: [r for r in i if "Binding" in r["kind"] and r["kind"].startswith(("R", "Cl"))],
     []),
    ("rbac.aggregate", False, lambda i: [r for r in i if "aggregate-to" in json.dumps(labels(r))], []),
    ("rbac.clusterRuntimeReaders", ["g"],
     lambda i: one(i, "ClusterRoleBinding", "kubedistill-runtime-reader")["subjects"][0]["name"], "g"),
    ("admission.enabled", False, lambda i: [p for p in i if "Admission" in p["kind"]], []),
    ("admission.actions", ["Warn"], lambda i: [p["spec"]["validationActions"] for p in i
     if p["kind"] == "ValidatingAdmissionPolicyBinding"], [["Warn"], ["Warn"]]),
    ("service.port", 81, lambda i: one(i, "Service")["spec"]["ports"][0]["port"], 81),
    ("service.annotations", {"a": "b"}, lambda i: annotations(one(i, "Service")), {"a": "b"}),
    ("metrics.serviceMonitor.enabled", False, lambda i: [m for m in i if m["kind"] == "ServiceMonitor"], []),
    ("metrics.serviceMonitor.labels", {"r": "p"}, lambda i: labels(one(i, "ServiceMonitor"))["r"], "p"),
    ("metrics.serviceMonitor.interval", "1m", lambda i: monitor(i)["interval"], "1m"),
    ("metrics.serviceMonitor.scrapeTimeout", "5s", lambda i: monitor(i)["scrapeTimeout"], "5s"),
    ("metrics.podMonitor.enabled", False, lambda i: [m for m in i if m["kind"] == "PodMonitor"], []),
    ("metrics.podMonitor.labels", {"r": "p"}, lambda i: labels(one(i, "PodMonitor"))["r"], "p"),
    ("metrics.podMonitor.interval", "1m", lambda i: pod_monitor(i)["interval"], "1m"),
    ("metrics.podMonitor.scrapeTimeout", "5s", lambda i: pod_monitor(i)["scrapeTimeout"], "5s"),
    ("metrics.prometheusRule.enabled", False, lambda i: [m for m in i if m["kind"] == "PrometheusRule"], []),
    ("metrics.prometheusRule.labels", {"r": "p"}, lambda i: labels(one(i, "PrometheusRule"))["r"], "p"),
    ("metrics.prometheusRule.thresholds.queueAgeSeconds", 7, lambda i: rules(i)["KubedistillQueueStuck"]["expr"][-4:],
     ") > 7"[1:]),
    ("metrics.prometheusRule.thresholds.reconcileSeconds", 0.5,
     lambda i: rules(i)["KubedistillReconcileSlow"]["expr"].endswith("> 0.5"), True),
    ("metrics.prometheusRule.thresholds.waitingHours", 3,
     lambda i: rules(i)["KubedistillResourcesPending"]["expr"].endswith("> 10800"), True),
    ("metrics.prometheusRule.thresholds.lostAttemptsPerHour", 4,
     lambda i: rules(i)["KubedistillAttemptsFail"]["expr"].endswith("> 4"), True),
    ("metrics.dashboard.enabled", False, lambda i: [m for m in i if m["kind"] == "ConfigMap"], []),
    ("metrics.dashboard.labels", {"x": "y"}, lambda i: labels(one(i, "ConfigMap"))["x"], "y"),
    ("metrics.dashboard.annotations", {"x": "y"}, lambda i: annotations(one(i, "ConfigMap")), {"x": "y"}),
    ("networkPolicy.enabled", False,
     lambda i: [m["metadata"]["name"] for m in i if m["kind"] == "NetworkPolicy"], ["kubedistill-stages"]),
    ("networkPolicy.metricsFrom", [PEER], lambda i: policy(i)["ingress"][0]["from"][0], PEER),
    ("networkPolicy.egress.enabled", False, lambda i: policy(i)["policyTypes"], ["Ingress"]),
    ("networkPolicy.egress.apiServer", [PEER], lambda i: policy(i)["egress"][1]["to"], [PEER]),
    ("networkPolicy.egress.apiServerPorts", [8443], lambda i: policy(i)["egress"][1]["ports"],
     [{"port": 8443, "protocol": "TCP"}]),
    ("networkPolicy.tenants", ["u"], lambda i: one(i, "NetworkPolicy", "kubedistill-stages")["metadata"]["namespace"],
     "u"),
    ("networkPolicy.stageMetricsFrom", [PEER],
     lambda i: one(i, "NetworkPolicy", "kubedistill-stages")["spec"]["ingress"][1]["from"][1:], [PEER]),
    ("podDisruptionBudget.enabled", False, lambda i: [m for m in i if m["kind"] == "PodDisruptionBudget"], []),
    ("podDisruptionBudget.maxUnavailable", 0, lambda i: one(i, "PodDisruptionBudget")["spec"]["maxUnavailable"], 0),
    ("probes.liveness.periodSeconds", 7, lambda i: container(i)["livenessProbe"]["periodSeconds"], 7),
    ("probes.liveness.timeoutSeconds", 7, lambda i: container(i)["livenessProbe"]["timeoutSeconds"], 7),
    ("probes.liveness.failureThreshold", 7, lambda i: container(i)["livenessProbe"]["failureThreshold"], 7),
    ("probes.readiness.periodSeconds", 7, lambda i: container(i)["readinessProbe"]["periodSeconds"], 7),
    ("probes.readiness.timeoutSeconds", 7, lambda i: container(i)["readinessProbe"]["timeoutSeconds"], 7),
    ("probes.readiness.failureThreshold", 7, lambda i: container(i)["readinessProbe"]["failureThreshold"], 7),
    ("resources", {"limits": {"cpu": "2"}}, lambda i: container(i)["resources"]["limits"]["cpu"], "2"),
    ("podSecurityContext", {"fsGroup": 5}, lambda i: pod(i)["securityContext"]["fsGroup"], 5),
    ("securityContext", {"runAsUser": 5}, lambda i: container(i)["securityContext"]["runAsUser"], 5),
    ("deploymentAnnotations", {"a": "b"}, lambda i: annotations(one(i, "Deployment")), {"a": "b"}),
    ("podAnnotations", {"a": "b"}, lambda i: annotations(one(i, "Deployment")["spec"]["template"])["a"], "b"),
    ("podLabels", {"a": "b"}, lambda i: labels(one(i, "Deployment")["spec"]["template"])["a"], "b"),
    ("extraArgs", ["--identity=me"], lambda i: container(i)["args"][-1], "--identity=me"),
    ("extraEnv", [{"name": "A", "value": "b"}], lambda i: container(i)["env"][-1], {"name": "A", "value": "b"}),
    ("extraVolumes", [VOLUME], lambda i: pod(i)["volumes"][-1], VOLUME),
    ("extraVolumeMounts", [{"name": "ca", "mountPath": "/ca"}], lambda i: container(i)["volumeMounts"][-1]["mountPath"],
     "/ca"),
    ("nodeSelector", {"a": "b"}, lambda i: pod(i)["nodeSelector"], {"a": "b"}),
    ("tolerations", [TOLERATION], lambda i: pod(i)["tolerations"], [TOLERATION]),
    ("affinity", {"nodeAffinity": {}}, lambda i: pod(i)["affinity"], {"nodeAffinity": {}}),
    ("priorityClassName", "high", lambda i: pod(i)["priorityClassName"], "high"),
]  # fmt: skip
ELSEWHERE = {"crds.keep", "serviceAccount.create"}
"""Values that have a test of their own."""


def merged(*parts: Object) -> Object:
    """Maps put together, deeply."""
    out: Object = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(out.get(key), dict)
            out[key] = merged(out[key], value) if both else value
    return out


@pytest.mark.parametrize(("value", "given", "look", "seen"), CHANGES, ids=[change[0] for change in CHANGES])
def test_a_value_changes(helm: Helm, value: str, given: Any, look: Callable[[Items], Any], seen: Any) -> None:
    before = helm.template(EVERYTHING, *SERVED)
    after = helm.template(merged(EVERYTHING, nested(value, given)), *SERVED)
    assert look(after) == seen
    assert before != after


def test_every_value_is_looked_at() -> None:
    assert {name for name, *_ in generate.rows()} == {change[0] for change in CHANGES} | ELSEWHERE


def test_helm_finds_nothing_to_complain_of(helm: Helm) -> None:
    assert "0 chart(s) failed" in helm("lint", CHART, "--strict", values=EVERYTHING)


def test_the_generated_files_are_current_and_a_change_is_noticed(tmp_path: Path) -> None:
    assert generate.main(["--check"]) == 0
    (tmp_path / "README.md").write_text(f"before\n{generate.BEGIN}\nstale\n{generate.END}\nafter\n")
    made = generate.files(tmp_path)[tmp_path / "README.md"]
    assert made.startswith("before\n")
    assert made.endswith("after\n")
    assert "stale" not in made
    assert "| `operator.workers` | `32` |" in made


def test_the_defaults_in_yaml_are_those_of_the_models() -> None:
    given = yaml.safe_load((CHART / "values.yaml").read_text())
    assert Values.model_validate(given) == Values()


REFUSED: list[tuple[Object, str]] = [
    ({"opeartor": {}}, "opeartor"),
    ({"operator": {"worker": 3}}, "worker"),
    ({"operator": {"workers": "many"}}, "/operator/workers"),
    ({"operator": {"workers": 0}}, "/operator/workers"),
    ({"operator": {"logLevel": "LOUD"}}, "/operator/logLevel"),
    ({"image": {"digest": "latest"}}, "/image/digest"),
    ({"watchNamespaces": ["Team A"]}, "/watchNamespaces/0"),
    ({"runtimes": {"default": {"samplr": {}}}}, "samplr"),
    ({"runtimes": {"default": {"sampler": {"replicas": 0}}}}, "/runtimes/default/sampler/replicas"),
    ({"metrics": {"serviceMonitor": {"interval": "soon"}}}, "/metrics/serviceMonitor/interval"),
    ({"priorityClasses": [{"name": "a"}]}, "value"),
    ({"networkPolicy": {"egress": {"apiServerPorts": [0]}}}, "/networkPolicy/egress/apiServerPorts/0"),
    ({"serviceAccount": {"create": False}}, "serviceAccount.name"),
    ({"replicas": 2}, "replicas"),
]


@pytest.mark.parametrize(("values", "told"), REFUSED, ids=[json.dumps(values) for values, _ in REFUSED])
def test_a_value_is_refused_by_name(helm: Helm, values: Object, told: str) -> None:
    with pytest.raises(HelmError, match=re.escape(told)):
        helm.template(values)


def test_as_part_of_another_chart_it_takes_what_helm_adds(helm: Helm) -> None:
    assert helm.template({"global": {"anything": 1}})


def test_an_account_that_is_there_is_used(helm: Helm) -> None:
    items = helm.template({"serviceAccount": {"create": False, "name": "mine"}})
    assert not [item for item in items if item["kind"] == "ServiceAccount"]
    assert pod(items)["serviceAccountName"] == "mine"


@pytest.mark.parametrize("keep", [True, False])
def test_the_crds_are_those_of_the_models_and_kept_or_not(helm: Helm, keep: bool) -> None:
    made = [c for c in helm.template({"crds": {"enabled": True, "keep": keep}}) if "Custom" in c["kind"]]
    assert [annotations(crd).get("helm.sh/resource-policy") for crd in made] == ["keep" if keep else None] * 5
    for crd in made:
        crd["metadata"] = {"name": crd["metadata"]["name"]}
    folder = CHART.parents[1] / "crds"
    wanted = [yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*.yaml"))]
    assert sorted(made, key=json.dumps) == sorted(wanted, key=json.dumps)


def test_runtimes_wait_for_crds_of_the_same_release_and_are_plain_objects_afterwards(helm: Helm) -> None:
    values = {"runtimes": {"default": {}}}
    first = annotations(one(helm.template(values), "ClusterDistillationRuntime"))
    assert first["helm.sh/hook"] == "post-install,post-upgrade"
    assert first["meta.helm.sh/release-name"] == "kubedistill"
    assert annotations(one(helm.template(values, *SERVED), "ClusterDistillationRuntime")) == {}


def test_the_operator_takes_the_options_it_is_given(helm: Helm) -> None:
    settings = parse(container(helm.template({"watchNamespaces": ["a", "b"]}))["args"])
    assert settings.namespaces == ("a", "b")
    assert settings.lease_namespace == NAMESPACE
    assert settings.lease_name == "kubedistill-operator"
    assert settings.port == container(helm.template())["ports"][0]["containerPort"]


def test_the_operators_pod_is_restricted_and_deaf_to_services_of_its_name(helm: Helm) -> None:
    spec, own = pod(helm.template()), container(helm.template())
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["securityContext"]["readOnlyRootFilesystem"] is True
    assert own["securityContext"]["allowPrivilegeEscalation"] is False
    assert own["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    # A Service named kubedistill would set KUBEDISTILL_PORT to a URL.
    assert spec["enableServiceLinks"] is False
    deployment = one(helm.template(), "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})


def test_nothing_of_the_chart_looks_like_a_child_of_the_operator(helm: Helm) -> None:
    key, value = SELECTOR.split("=")
    items = helm.template(EVERYTHING)
    assert value not in {labels(item).get(key) for item in items}
    assert labels(one(items, "Deployment")["spec"]["template"])[key] != value


def test_the_stages_of_a_tenant_are_reached_by_each_other_and_by_the_operator(helm: Helm) -> None:
    items = helm.template({"networkPolicy": {"tenants": ["t"]}})
    spec = one(items, "NetworkPolicy", "kubedistill-stages")["spec"]
    key, value = SELECTOR.split("=")
    assert spec["podSelector"] == {"matchLabels": {key: value}}
    among, progress = spec["ingress"]
    assert among == {"from": [{"podSelector": {"matchLabels": {key: value}}}]}
    assert progress["ports"] == [{"port": 8080, "protocol": "TCP"}]
    (peer,) = progress["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": NAMESPACE}
    own = labels(one(items, "Deployment")["spec"]["template"])
    assert peer["podSelector"]["matchLabels"].items() <= own.items()


def test_the_pod_of_helm_test_reaches_the_operator_whoever_else_may(helm: Helm) -> None:
    items = helm.template({"networkPolicy": {"metricsFrom": [PEER]}})
    *_, peer = policy(items)["ingress"][0]["from"]
    own = labels(one(items, "Pod"))
    assert peer["podSelector"]["matchLabels"].items() <= own.items()
    assert "namespaceSelector" not in peer


def test_labels_that_are_given_do_not_replace_those_that_select(helm: Helm) -> None:
    given = {"app.kubernetes.io/component": "mine", "app.kubernetes.io/name": "mine", "app.kubernetes.io/part-of": "x"}
    items = helm.template({"podLabels": given, "commonLabels": given})
    deployment = one(items, "Deployment")["spec"]
    assert deployment["selector"]["matchLabels"].items() <= labels(deployment["template"]).items()
    assert one(items, "Service")["spec"]["selector"] == deployment["selector"]["matchLabels"]


def test_large_numbers_stay_whole(helm: Helm) -> None:
    runtime = {"limits": {"maxActiveDeadlineSeconds": 2592000}}
    values = {"runtimes": {"default": runtime}, "priorityClasses": [{"name": "a", "value": 100000000}]}
    out = helm("template", "kubedistill", CHART, values=values)
    assert "maxActiveDeadlineSeconds: 2592000\n" in out
    assert "value: 100000000\n" in out


def test_two_releases_of_one_name_share_nothing_without_a_namespace(helm: Helm) -> None:
    def names(namespace: str) -> set[tuple[str, str]]:
        out = helm("template", "kd", CHART, "--namespace", namespace, values={"crds": {"enabled": False}})
        items = [item for item in yaml.safe_load_all(out) if item]
        return {(i["kind"], i["metadata"]["name"]) for i in items if "namespace" not in i["metadata"]}

    assert names("a")
    assert not names("a") & names("b")


def test_the_notes_teach_the_next_step(helm: Helm) -> None:
    def notes(**values: Any) -> str:
        shown = helm("install", "kubedistill", CHART, "--dry-run=client", "-n", NAMESPACE, values=values)
        return shown.split("NOTES:")[1]

    bare = notes()
    assert "serves all namespaces" in bare
    assert "There is no runtime yet" in bare
    assert "helm test kubedistill -n kubedistill" in bare
    assert "EVERY JOB, PROBE AND STUDY" in notes(crds={"keep": False})
    other = notes(runtimes={"h100": {}}, watchNamespaces=["a", "b"])
    assert "serves the namespaces a, b" in other
    assert "None is named default" in other
