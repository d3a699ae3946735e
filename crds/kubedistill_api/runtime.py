"""DistillationRuntime and ClusterDistillationRuntime: what the platform team decides for its tenants."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from kubedistill_api.base import API_VERSION, DnsLabel, Model, Uri
from kubedistill_api.meta import ObjectMeta


class GpuType(Model):
    """The accelerator that a role's pods have; what `plan` computes fit and cost with."""

    name: str = "unknown"
    """Name, for people: `H100-80GB`."""
    memory_gib: Annotated[float, Field(gt=0)] = 80.0
    """Memory of one GPU in GiB."""
    bf16_tflops: Annotated[float, Field(gt=0)] = 989.0
    """Dense bf16 peak of one GPU in TFLOP/s, from its data sheet."""
    memory_bandwidth_gbps: Annotated[float, Field(gt=0)] = 3350.0
    """Memory bandwidth of one GPU in GB/s, from its data sheet."""
    price_per_hour: Annotated[float, Field(ge=0)] | None = None
    """Price of one GPU for an hour, in any currency. Without it `plan` gives hours only."""


class RoleSpec(Model):
    """The pods of one role."""

    template: dict[str, Any] = {}
    """A Kubernetes PodTemplateSpec that the stage's container is merged into."""
    replicas: Annotated[int, Field(ge=1, le=1024)] = 1
    """Pods of one stage."""
    gpus_per_replica: Annotated[int, Field(ge=0, le=64)] = 0
    """GPUs of one pod; 0 runs on the CPU."""
    processes_per_replica: Annotated[int, Field(ge=1, le=64)] | None = None
    """Processes that torchrun starts in one pod. Default: one for each GPU, one on the CPU."""
    gpu: GpuType = GpuType()
    """What kind of GPU."""
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    """Fail a stage when one attempt of it has been active for so long."""

    @property
    def processes(self) -> int:
        """Processes of one pod."""
        return self.processes_per_replica or max(1, self.gpus_per_replica)

    @property
    def gpus(self) -> int:
        """GPUs of one stage over all its pods."""
        return self.replicas * self.gpus_per_replica


class StorageSpec(Model):
    """Where jobs keep their stages."""

    uri: Uri | None = None
    """Root of the jobs' storage: `pvc://claim/path`, `s3://bucket/prefix`. `kubedistill run` uses `.kubedistill`."""


Pattern = Annotated[str, Field(min_length=1, max_length=2048)]


class LimitsSpec(Model):
    """What a tenant may ask for."""

    allowed_models: Annotated[list[Pattern], Field(max_length=256)] | None = None
    """URIs of the models that jobs may name, as teacher or as student; a `*` at the end stands for anything:
    `hf://Qwen/*`. Default: any."""
    allowed_endpoint_hosts: Annotated[list[Pattern], Field(max_length=256)] | None = None
    """Hosts that jobs' endpoints may be at, teachers' and judges'; a `*` at the start stands for anything:
    `*.models.svc`. An empty list allows none. Default: any."""
    max_parallel_stages: Annotated[int, Field(ge=1)] | None = None
    """Stages of one job or probe that run at once at most; the others wait."""
    max_stages: Annotated[int, Field(ge=1)] | None = None
    """Stages of all jobs on this runtime that run at once at most. A free place goes to the namespace with the fewest
    under way, among equals to whoever has waited longest. A change holds at once, also for jobs that have begun."""
    max_stages_per_namespace: Annotated[int, Field(ge=1)] | None = None
    """The same for the jobs of each namespace."""
    max_samples: Annotated[int, Field(ge=1)] | None = None
    """Responses per question at most."""
    max_gpus: Annotated[int, Field(ge=0)] | None = None
    """GPUs of one stage at most."""
    max_active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    """Longest `activeDeadlineSeconds`; also the default where a job gives none."""


class RuntimeSpec(Model):
    """Pods, storage and limits. Tenants refer to a runtime by name and do not see what is inside."""

    image: str | None = None
    """Image of the data plane, where the templates give none."""
    sampler: RoleSpec = RoleSpec()
    """Pods that serve the teacher (stage sample)."""
    trainer: RoleSpec = RoleSpec()
    """Pods that train (stage train)."""
    evaluator: RoleSpec = RoleSpec()
    """Pods that serve the student (stages baseline and evaluate)."""
    worker: RoleSpec = RoleSpec()
    """Pods without an engine (stages prepare, curate and report)."""
    storage: StorageSpec = StorageSpec()
    """Where jobs keep their stages."""
    queue_name: DnsLabel | None = None
    """Kueue's LocalQueue for the child Jobs, unless the job has its own label."""
    limits: LimitsSpec = LimitsSpec()
    """What a tenant may ask for."""


class NamespaceSelector(Model):
    """Namespaces by name or by label; one that fits either is meant."""

    names: Annotated[list[DnsLabel], Field(max_length=1024)] = []
    """Their names."""
    match_labels: dict[str, str] = {}
    """Labels that a namespace has all of. Without any, no namespace is meant by its labels."""

    def fits(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether the namespace of this name and these labels is meant."""
        by_label = bool(self.match_labels) and self.match_labels.items() <= labels.items()
        return name in self.names or by_label


class ClusterRuntimeSpec(RuntimeSpec):
    """Pods, storage and limits, and who may use them."""

    allowed_namespaces: NamespaceSelector | None = None
    """Namespaces whose jobs may use it. Default: all."""


class DistillationRuntime(Model):
    """A runtime for one namespace."""

    api_version: Literal["kubedistill.io/v1alpha1"] = API_VERSION
    """Version of this schema."""
    kind: Literal["DistillationRuntime"] = "DistillationRuntime"
    """Kind of this resource."""
    metadata: ObjectMeta
    """Name, namespace, labels."""
    spec: RuntimeSpec = RuntimeSpec()
    """Pods, storage and limits."""


class ClusterDistillationRuntime(Model):
    """A runtime for all namespaces, or for those it allows."""

    api_version: Literal["kubedistill.io/v1alpha1"] = API_VERSION
    """Version of this schema."""
    kind: Literal["ClusterDistillationRuntime"] = "ClusterDistillationRuntime"
    """Kind of this resource."""
    metadata: ObjectMeta
    """Name and labels."""
    spec: ClusterRuntimeSpec = ClusterRuntimeSpec()
    """Pods, storage and limits, and who may use them."""
