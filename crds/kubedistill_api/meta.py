"""The part of Kubernetes' ObjectMeta that kubedistill reads."""

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from kubedistill_api.base import DnsLabel, Model

MAX_NAME = 40
"""Names of children are `<job>-<stage>-<attempt>` and must stay labels of 63 characters."""


class ObjectMeta(Model):
    """Metadata of a resource. Fields that kubedistill does not read are accepted and kept out of the way."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[
        str, StringConstraints(min_length=1, max_length=MAX_NAME, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    ]
    """Name, unique in its namespace; at most 40 characters, so that the names of the pods fit."""
    namespace: DnsLabel = "default"
    """Namespace."""
    uid: str | None = None
    """Set by the API server."""
    generation: int = Field(default=1, ge=0)
    """Counts changes of the spec. Set by the API server."""
    labels: dict[str, str] = {}
    """Labels, for example `kueue.x-k8s.io/queue-name`."""
    annotations: dict[str, str] = {}
    """Annotations."""
    creation_timestamp: datetime | None = None
    """Set by the API server."""
    deletion_timestamp: datetime | None = None
    """Set by the API server when the resource is being deleted."""
