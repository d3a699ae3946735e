"""The values of the chart, typed: what `values.yaml`, `values.schema.json` and the chart's README are made from."""

from typing import Annotated, Any, Literal

from pydantic import Field

from kubedistill_api.base import DnsLabel, Model
from kubedistill_api.runtime import ClusterRuntimeSpec

Port = Annotated[int, Field(ge=1, le=65535)]
Object = dict[str, Any]
Labels = dict[str, str]
Duration = Annotated[str, Field(pattern=r"^([0-9]+(ms|s|m|h))+$")]

CONTAINER_SECURITY: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD_SECURITY: Object = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


class Image(Model):
    """The operator's image."""

    repository: Annotated[str, Field(min_length=1)] = "registry.example/kubedistill-operator"
    """Where the image is. Build it from images/operator/Containerfile."""
    tag: str = ""
    """Tag. Default: the chart's appVersion."""
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""
    """`sha256:...`: pins the image; the tag then only tells people."""
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When the kubelet pulls it."""


class Operator(Model):
    """How the operator works."""

    workers: Annotated[int, Field(ge=1, le=256)] = 32
    """Resources that are looked at side by side."""
    progress_seconds: Annotated[float, Field(gt=0)] = 10
    """Between two questions to a running stage for its progress."""
    resync_seconds: Annotated[float, Field(gt=0)] = 300
    """Between two full lists, which find what the watches missed."""
    silence_seconds: Annotated[float, Field(ge=30)] = 90
    """The liveness probe fails when the watches have told nothing for so long."""
    log_format: Literal["json", "text"] = "json"
    """Form of the logs."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """From which level on."""


class Crds(Model):
    """The CustomResourceDefinitions."""

    enabled: bool = True
    """Install and upgrade them with the chart. false: somebody else does (`kubectl apply --server-side -f crds/`)."""
    keep: bool = True
    """Leave them, and so every job, probe and study, in the cluster when the chart is uninstalled."""


class ServiceAccount(Model):
    """Who the operator is."""

    create: bool = True
    """false: `name` is there already."""
    name: str = ""
    """Name. Default: the release's full name."""
    annotations: Labels = {}
    """Annotations of the ServiceAccount."""


class Rbac(Model):
    """Who may do what."""

    create: bool = True
    """Make the operator's roles and bindings."""
    aggregate: bool = True
    """Let everybody with the roles view, edit and admin in a namespace use kubedistill there: view reads, edit makes
    jobs, probes and studies, admin also makes DistillationRuntimes."""
    cluster_runtime_readers: list[str] = []
    """Groups that may read ClusterDistillationRuntimes, for example `system:authenticated`."""


class Admission(Model):
    """ValidatingAdmissionPolicies: what is refused when it is applied. The operator refuses the same once more."""

    enabled: bool = True
    """Install the policies."""
    actions: list[Literal["Deny", "Warn", "Audit"]] = ["Deny"]
    """What follows from a breach; `[Warn, Audit]` lets it through and tells."""


class Probe(Model):
    """One probe of the operator's container."""

    period_seconds: Annotated[int, Field(ge=1)] = 10
    """Between two probes."""
    timeout_seconds: Annotated[int, Field(ge=1)] = 5
    """An answer that takes longer is a failure."""
    failure_threshold: Annotated[int, Field(ge=1)] = 3
    """Failures in a row that count."""


class Probes(Model):
    """The probes of the operator's container."""

    liveness: Probe = Probe()
    """Of /healthz: the watches live."""
    readiness: Probe = Probe()
    """Of /readyz: it could act."""


class Service(Model):
    """The Service of /metrics, /healthz and /readyz."""

    port: Port = 8080
    """Its port."""
    annotations: Labels = {}
    """Annotations of the Service."""


class ServiceMonitor(Model):
    """For the Prometheus operator."""

    enabled: bool = False
    """Make a ServiceMonitor."""
    labels: Labels = {}
    """Labels that your Prometheus selects by, for example `{release: prometheus}`."""
    interval: Duration = "30s"
    """Between two scrapes."""
    scrape_timeout: Duration = "10s"
    """A scrape that takes longer is given up."""


class PodMonitor(Model):
    """For the Prometheus operator: the progress of stages, from their own pods."""

    enabled: bool = False
    """Make a PodMonitor. Where `networkPolicy.tenants` closes the stages' ports, name the scraper in
    `networkPolicy.stageMetricsFrom`."""
    labels: Labels = {}
    """Labels that your Prometheus selects by."""
    interval: Duration = "30s"
    """Between two scrapes."""
    scrape_timeout: Duration = "10s"
    """A scrape that takes longer is given up."""


class Thresholds(Model):
    """From when on the alerts fire."""

    queue_age_seconds: Annotated[int, Field(ge=1)] = 120
    """A resource waited so long for a look."""
    reconcile_seconds: Annotated[float, Field(gt=0, lt=10)] = 5
    """The 99th percentile of the time of one look. The longest that is told apart is 10 seconds."""
    waiting_hours: Annotated[int, Field(ge=1)] = 24
    """A resource has been pending for so long."""
    lost_attempts_per_hour: Annotated[int, Field(ge=1)] = 10
    """Attempts of stages that failed in an hour."""


class PrometheusRule(Model):
    """Alerts for the Prometheus operator."""

    enabled: bool = False
    """Make a PrometheusRule."""
    labels: Labels = {}
    """Labels that your Prometheus selects by."""
    thresholds: Thresholds = Thresholds()
    """From when on the alerts fire."""


class Dashboard(Model):
    """A dashboard for Grafana, in a ConfigMap that Grafana's sidecar finds."""

    enabled: bool = False
    """Make the ConfigMap."""
    labels: Labels = {"grafana_dashboard": "1"}
    """Labels that the sidecar selects by."""
    annotations: Labels = {}
    """Annotations, for example the folder in Grafana."""


class Metrics(Model):
    """What is made of the metrics."""

    service_monitor: ServiceMonitor = ServiceMonitor()
    """For the Prometheus operator: the metrics of kubedistill's operator."""
    pod_monitor: PodMonitor = PodMonitor()
    """For the Prometheus operator: the progress of stages, from their own pods."""
    prometheus_rule: PrometheusRule = PrometheusRule()
    """Alerts for the Prometheus operator."""
    dashboard: Dashboard = Dashboard()
    """A dashboard for Grafana."""


class Egress(Model):
    """What the operator may reach."""

    enabled: bool = False
    """Close everything but DNS, the API server and the progress port of stages."""
    api_server: list[Object] = []
    """Peers (`to` of a NetworkPolicy) of the API server. Default: any address on `apiServerPorts`."""
    api_server_ports: Annotated[list[Port], Field(min_length=1)] = [443, 6443]
    """Ports of the API server behind its Service."""


class NetworkPolicySpec(Model):
    """NetworkPolicies; they need a network that enforces them."""

    enabled: bool = True
    """Close every port of the operator but the one of its metrics and probes."""
    metrics_from: list[Object] = []
    """Peers (`from` of a NetworkPolicy) that may reach that port. Default: any."""
    egress: Egress = Egress()
    """What the operator may reach."""
    tenants: list[DnsLabel] = []
    """Namespaces in which the ports of stages (Ray, vLLM, torchrun) are closed to everything but the stages of the same
    namespace; the operator reaches the progress port. The namespaces must exist."""
    stage_metrics_from: list[Object] = []
    """Peers (`from` of a NetworkPolicy) that also reach the progress port of these stages, for `metrics.podMonitor`.
    Default: none."""


class Pdb(Model):
    """PodDisruptionBudget of the operator."""

    enabled: bool = False
    """Make one. With a single operator it only lets drains wait, or not."""
    max_unavailable: Annotated[int, Field(ge=0, le=1)] = 1
    """0 holds every drain of the operator's node up."""


class PriorityClass(Model):
    """One PriorityClass that jobs can name in `priorityClassName`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
    """Its name."""
    value: Annotated[int, Field(ge=-2147483648, le=1000000000)]
    """Pods of a higher value go first."""
    preemption_policy: Literal["PreemptLowerPriority", "Never"] = "PreemptLowerPriority"
    """Never: waits for room, and takes nobody's."""
    description: str = ""
    """For people."""


class Values(Model):
    """The chart's values."""

    name_override: str = ""
    """Instead of the chart's name in names and labels."""
    fullname_override: str = ""
    """Instead of release and chart in names."""
    common_labels: Labels = {}
    """Labels of everything that the chart makes."""
    watch_namespaces: list[DnsLabel] = []
    """Namespaces to serve. Default: all. With a list the operator gets Roles in these namespaces, which must exist, and
    next to nothing elsewhere."""
    image: Image = Image()
    """The operator's image."""
    image_pull_secrets: list[str] = []
    """Names of Secrets of type kubernetes.io/dockerconfigjson."""
    operator: Operator = Operator()
    """How the operator works."""
    crds: Crds = Crds()
    """The CustomResourceDefinitions."""
    runtimes: dict[DnsLabel, ClusterRuntimeSpec] = {}
    """ClusterDistillationRuntimes by name, each with its spec. The one named `default` serves jobs without
    runtimeRef."""
    priority_classes: list[PriorityClass] = []
    """PriorityClasses that jobs can name."""
    service_account: ServiceAccount = ServiceAccount()
    """Who the operator is."""
    rbac: Rbac = Rbac()
    """Who may do what."""
    admission: Admission = Admission()
    """What is refused when it is applied."""
    service: Service = Service()
    """The Service of /metrics, /healthz and /readyz."""
    metrics: Metrics = Metrics()
    """What is made of the metrics."""
    network_policy: NetworkPolicySpec = NetworkPolicySpec()
    """NetworkPolicies; they need a network that enforces them."""
    pod_disruption_budget: Pdb = Pdb()
    """PodDisruptionBudget of the operator."""
    probes: Probes = Probes()
    """The probes of the operator's container."""
    resources: Object = {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"memory": "1Gi"},
    }
    """Resources of the operator's container."""
    pod_security_context: Object = POD_SECURITY
    """Of the operator's pod; the default passes the `restricted` Pod Security level."""
    security_context: Object = CONTAINER_SECURITY
    """Of the operator's container."""
    deployment_annotations: Labels = {}
    """Annotations of the Deployment."""
    pod_annotations: Labels = {}
    """Annotations of the pod."""
    pod_labels: Labels = {}
    """Labels of the pod."""
    extra_args: list[str] = []
    """More options of the operator (`python -m kubedistill_operator --help`)."""
    extra_env: list[Object] = []
    """More environment variables."""
    extra_volumes: list[Object] = []
    """More volumes of the pod."""
    extra_volume_mounts: list[Object] = []
    """Where the container has them."""
    node_selector: Labels = {}
    """Labels of the nodes that the operator may run on."""
    tolerations: list[Object] = []
    """Taints that it tolerates."""
    affinity: Object = {}
    """Its affinity."""
    priority_class_name: str = ""
    """PriorityClass of the operator's pod, for example `system-cluster-critical`."""
    global_: Annotated[Object, Field(alias="global")] = {}
    """Not read; Helm puts it there where the chart is part of another."""
