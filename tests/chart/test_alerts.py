"""A real Prometheus on the operator that the chart starts, and on a stage: alerts that fire, and queries that find.

Both are found in the cluster by the chart's ServiceMonitor and PodMonitor. kwok plays the nodes; the operator is a
process of this machine, and so is what a stage's pod serves.
"""

import asyncio
import contextlib
import json
import re
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from kubedistill_api.stage import StageSpec
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.stages.progress_server import serve_progress
from tests.chart.chart_case import CHART, NAMESPACE, Helm, Object, job, one, rules
from tests.chart.chart_operator import Running, deployment, operating
from tests.chart.scraping import scrape_config
from tests.cluster import kwok
from tests.cluster.controlplane import ControlPlane
from tests.cluster.host_runtime import claim
from tests.cluster.processes import wait_until
from tests.cluster.prometheus import Prometheus

pytestmark = pytest.mark.usefixtures("with_prometheus")

TEAM = "team-a"
OFTEN = {"enabled": True, "interval": "1s", "scrapeTimeout": "1s"}
MONITORING: Object = {
    "serviceMonitor": OFTEN,
    "podMonitor": OFTEN,
    "dashboard": {"enabled": True},
    "prometheusRule": {
        "enabled": True,
        "thresholds": {"queueAgeSeconds": 3, "lostAttemptsPerHour": 1, "waitingHours": 1},
    },
}
SLOW_S = 6
"""A look takes so long where the API server is slow: more than the alert's five seconds."""


def runtime(**notes: str) -> Object:
    """A runtime whose pods end as their notes say."""
    role = {"template": {"metadata": {"annotations": notes}}}
    roles = dict.fromkeys(("sampler", "trainer", "evaluator", "worker"), role)
    return {"image": "registry.example/kubedistill:0.1.0", "storage": {"uri": "pvc://data/kubedistill"}} | roles


VALUES: Object = {
    # One worker: whoever is looked at keeps the others waiting.
    "operator": {"workers": 1},
    "podAnnotations": {kwok.SECONDS: "1h"},
    "runtimes": {
        "default": runtime(),
        "endless": runtime(**{kwok.SECONDS: "1h"}),
        "broken": runtime(**{kwok.EXIT_CODE: "65"}),
    },
}


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """With nodes that are played."""
    with ControlPlane(scheduler=True) as cluster, kwok.Kwok(cluster):
        yield cluster


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane, cluster_helm: Helm) -> ControlPlane:
    """The chart, and a tenant with a claim."""
    cluster_helm("install", "kubedistill", CHART, "-n", NAMESPACE, "--create-namespace", values=VALUES)
    control_plane.kubectl("create", "namespace", TEAM)
    # Pods whose claim is missing find no node.
    control_plane.apply(*claim(TEAM, "data", Path("/nowhere"), "ReadWriteMany"))
    return control_plane


@pytest.fixture(scope="module")
def operator(installed: ControlPlane) -> Iterator[Running]:
    """The operator that the chart starts."""
    with asyncio.Runner() as runner:
        at_work = operating(installed, deployment(installed))
        yield runner.run(at_work.__aenter__())
        runner.run(at_work.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a stage serves its progress, with all that one may have."""
    spec = {
        "resource": f"DistillationJob/{TEAM}/endless",
        "stage": "train",
        "digest": "d1",
        "params": {"kind": "report", "manifest": {}},
        "outputUri": str(tmp_path_factory.mktemp("stage")),
    }
    context = StageContext(StageSpec.model_validate(spec))
    for step in (10, 20):
        context.progress(step, 40, "steps", force=True, figures={"loss": 0.5, "tokens_per_second": 1000.0})
    server = serve_progress(context, "0", "127.0.0.1")
    assert server
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def items(helm: Helm) -> list[Object]:
    """What the chart has for Prometheus. The cluster does not know these kinds."""
    return helm.template(VALUES | {"metrics": MONITORING})


@pytest.fixture(scope="module")
def busy(installed: ControlPlane, operator: Running) -> ControlPlane:
    """The cluster once a job is complete and another one runs."""
    start(installed, "done")
    start(installed, "endless", "endless")

    def are_there() -> bool:
        phases = [item.get("status", {}).get("phase") for item in installed.get("djobs", "-n", TEAM)["items"]]
        running = installed.get("pods", "-n", TEAM, "--field-selector=status.phase=Running")["items"]
        return phases == ["Complete", "Running"] and bool(running)

    wait_until(are_there, "a job that is done and one that runs", detail=operator.log.read_text)
    return installed


@pytest.fixture(scope="module")
def prometheus(
    busy: ControlPlane, operator: Running, stage: str, items: list[Object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Scrapes what the monitors select, and evaluates the chart's rules, every second."""
    addresses = {"ServiceMonitor": operator.url.removeprefix("http://"), "PodMonitor": stage}
    file = tmp_path_factory.mktemp("rules") / "rules.yaml"
    file.write_text(yaml.safe_dump(hurried(one(items, "PrometheusRule")["spec"])))
    config = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": [str(file)],
        "scrape_configs": [scrape_config(busy, one(items, kind), address) for kind, address in addresses.items()],
    }
    with Prometheus(busy, config) as server:
        yield server


def hurried(spec: Object) -> Object:
    """The rules with seconds for the minutes that they wait, and for the hour that nothing pends in less than:
    `test_alert_rules.py` has the true times."""
    text = json.dumps(spec)
    text, waits = re.subn(r'"for": "\d+m"', '"for": "2s"', text)
    text, hours = re.subn(r"(kubedistill_pending_seconds\)) > 3600\b", r"\1 > 4", text)
    assert (waits, hours) == (5, 1)
    return json.loads(text)  # type: ignore[no-any-return]


def start(cluster: ControlPlane, name: str, runtime_name: str = "default") -> None:
    """A job that shares no work with another."""
    made = job(name, questions=[{"uri": f"pvc://data/{name}.jsonl"}], runtimeRef={"name": runtime_name})
    cluster.apply(made, namespace=TEAM)


# What each alert is for.


@contextlib.contextmanager
def no_runtime(cluster: ControlPlane, operator: Running) -> Iterator[None]:
    """A job pends: nobody has made its runtime."""
    start(cluster, "waits", "missing")
    try:
        yield
    finally:
        cluster.kubectl("delete", "djob", "waits", "-n", TEAM)


@contextlib.contextmanager
def bad_input(cluster: ControlPlane, operator: Running) -> Iterator[None]:
    """Stages end with 65."""
    for name in ("broken-a", "broken-b", "broken-c"):
        start(cluster, name, "broken")
    yield


@contextlib.contextmanager
def no_rights(cluster: ControlPlane, operator: Running) -> Iterator[None]:
    """The operator may not write a status: its role is one of another version."""
    role = cluster.get("clusterrole", "kubedistill")
    role["metadata"] = {"name": "kubedistill"}
    narrow = json.loads(json.dumps(role))
    for rule in narrow["rules"]:
        rule["resources"] = [name.replace("jobs/status", "jobs/nothing") for name in rule["resources"]]
    cluster.kubectl("replace", "-f", "-", stdin=json.dumps(narrow))
    start(cluster, "refused")
    try:
        yield
    finally:
        cluster.kubectl("replace", "-f", "-", stdin=json.dumps(role))


@contextlib.contextmanager
def slow_api_server(cluster: ControlPlane, operator: Running) -> Iterator[None]:
    """Somebody's webhook for every status does not answer, and is waited for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        rule = {"apiGroups": ["kubedistill.io"], "apiVersions": ["*"], "operations": ["UPDATE"]}
        webhook = {
            "name": "silent.example.com",
            "clientConfig": {"url": f"https://127.0.0.1:{listener.getsockname()[1]}/"},
            "rules": [rule | {"resources": ["distillationjobs/status"]}],
            "failurePolicy": "Ignore",
            "timeoutSeconds": SLOW_S,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
        cluster.apply({**kind, "metadata": {"name": "silent"}, "webhooks": [webhook]})

        def is_asked() -> bool:
            cluster.kubectl("patch", "djob", "done", "-n", TEAM, "--subresource=status", "--type=merge", "-p", "{}")
            return bool(select.select([listener], [], [], 0)[0])

        try:
            wait_until(is_asked, "the webhook to be asked")
            for name in ("slow-a", "slow-b", "slow-c", "slow-d"):
                start(cluster, name)
            yield
        finally:
            cluster.kubectl("delete", "validatingwebhookconfiguration", "silent")


@contextlib.contextmanager
def no_operator(cluster: ControlPlane, operator: Running) -> Iterator[None]:
    """The operator ends. The last one here: nobody starts it again."""
    operator.process.terminate()
    yield


class Cause(NamedTuple):
    """What happens, and who tells of it."""

    happens: Callable[[ControlPlane, Running], AbstractContextManager[None]]
    alerts: set[str]


CAUSES = (
    Cause(no_runtime, {"KubedistillResourcesPending"}),
    Cause(bad_input, {"KubedistillResourcesFailed", "KubedistillAttemptsFail"}),
    Cause(no_rights, {"KubedistillReconcileErrors"}),
    Cause(slow_api_server, {"KubedistillReconcileSlow", "KubedistillQueueStuck"}),
    Cause(no_operator, {"KubedistillOperatorDown"}),
)


def test_every_alert_has_a_cause(items: list[Object]) -> None:
    assert set.union(*(cause.alerts for cause in CAUSES)) == rules(items).keys()


def test_nothing_fires_while_all_is_well(prometheus: Prometheus, items: list[Object]) -> None:
    wait_until(lambda: prometheus.rules() == dict.fromkeys(rules(items), "ok"), "every rule to be evaluated")
    # Before the first scrapes there was no operator.
    wait_until(
        lambda: not prometheus.alerts(),
        "Prometheus to see that all is well",
        detail=lambda: str(prometheus.alerts()),
    )


def queries(items: list[Object]) -> dict[str, str]:
    """Every query of the dashboard by its panel, for all namespaces."""
    board = json.loads(one(items, "ConfigMap")["data"]["kubedistill.json"])
    found = {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$namespace", ".*")
        for panel in board["panels"]
        for target in panel["targets"]
    }
    (variable,) = (v["query"] for v in board["templating"]["list"] if v["type"] == "query")
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable).groups()  # type: ignore[union-attr]
    return found | {"variable": f'{metric}{{{label}="{TEAM}"}}'}


def test_every_query_of_the_dashboard_finds_something(prometheus: Prometheus, items: list[Object]) -> None:
    for panel, expression in queries(items).items():
        # Nothing has failed yet, which a panel of failures shows by being empty.
        shown = expression.removesuffix(" > 0")
        wait_until(lambda shown=shown: bool(prometheus.query(shown)), f"{panel}: {shown}")
        prometheus.query(expression)


def test_alerts_ask_for_metrics_that_exist(prometheus: Prometheus, items: list[Object]) -> None:
    named = {name for rule in rules(items).values() for name in re.findall(r"\b(?:kubedistill_\w+|up)\b", rule["expr"])}
    assert {name for name in named if not prometheus.query(name)} == set()


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.happens.__name__)
def test_alerts_fire_for_what_they_are_for(
    prometheus: Prometheus, installed: ControlPlane, operator: Running, cause: Cause
) -> None:
    def fire() -> bool:
        alerts = prometheus.alerts()
        return {name for name in cause.alerts if alerts.get(name) == "firing"} == cause.alerts

    # One scrape that comes late is a moment without an operator.
    wait_until(
        lambda: not cause.alerts & prometheus.alerts().keys(),
        "nothing to fire before its cause",
        detail=lambda: str(prometheus.alerts()),
    )
    with cause.happens(installed, operator):
        wait_until(fire, ", ".join(sorted(cause.alerts)), detail=lambda: str(prometheus.alerts()))
