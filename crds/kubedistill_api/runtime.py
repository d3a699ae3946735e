"""DistillationRuntime and ClusterDistillationRuntime: what the platform team decides for its tenants."""

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


class LimitsSpec(Model):
    """What a tenant may ask for."""

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
    """A runtime for all namespaces."""

    api_version: Literal["kubedistill.io/v1alpha1"] = API_VERSION
    """Version of this schema."""
    kind: Literal["ClusterDistillationRuntime"] = "ClusterDistillationRuntime"
    """Kind of this resource."""
    metadata: ObjectMeta
    """Name and labels."""
    spec: RuntimeSpec = RuntimeSpec()
    """Pods, storage and limits."""
