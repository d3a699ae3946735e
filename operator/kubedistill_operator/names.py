"""Names and labels of children. Pure."""

import hashlib

from kubedistill_api.base import GROUP
from kubedistill_api.graph import Resource

MANAGED_BY = "kubedistill"
SELECTOR = f"app.kubernetes.io/managed-by={MANAGED_BY}"
INSTANCE_LABEL = "app.kubernetes.io/instance"
"""The resource's name."""
PART_OF_LABEL = "app.kubernetes.io/part-of"
"""The resource's kind, in small letters."""
UID_LABEL = f"{GROUP}/uid"
STAGE_LABEL = f"{GROUP}/stage"
ATTEMPT_LABEL = f"{GROUP}/attempt"
DIGEST_LABEL = f"{GROUP}/digest"
"""As much of the digest as a label holds; the annotation of the same name has all of it."""
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
"""Kueue's WorkloadPriorityClass: who goes first in the queue. The pods' PriorityClass is another matter."""

LONGEST = 56
"""Characters of a child Job's name: its pods' host names are `<name>-<index>`, and labels have 63 at most."""


def tag(resource: Resource) -> str:
    """Five characters that tell a resource from an earlier one of the same name."""
    meta = resource.metadata
    return hashlib.sha256(f"{resource.kind}/{meta.namespace}/{meta.name}/{meta.uid}".encode()).hexdigest()[:5]


def child_name(resource: Resource, stage: str, attempt: int) -> str:
    """Name of the Job and the Service of one attempt: `demo-train-7f3a2-0`. Too long a stage's name is replaced by a
    hash of it."""
    end = f"{tag(resource)}-{attempt}"
    name = f"{resource.metadata.name}-{stage}-{end}"
    if len(name) <= LONGEST:
        return name
    short = hashlib.sha256(stage.encode()).hexdigest()[:8]
    return f"{resource.metadata.name[: LONGEST - len(end) - 10]}-{short}-{end}"


def plan_name(resource: Resource) -> str:
    """Name of the ConfigMap with the resource's runtime and stages."""
    return f"{resource.metadata.name}-{tag(resource)}"


def labels(resource: Resource) -> dict[str, str]:
    """Labels of everything that belongs to a resource."""
    return {
        "app.kubernetes.io/name": "kubedistill",
        "app.kubernetes.io/managed-by": MANAGED_BY,
        PART_OF_LABEL: resource.kind.lower(),
        INSTANCE_LABEL: resource.metadata.name,
        UID_LABEL: str(resource.metadata.uid),
    }


def stage_labels(resource: Resource, stage: str, attempt: int, digest: str) -> dict[str, str]:
    """Labels of one attempt of one stage. A digest is cut to what a label holds."""
    return labels(resource) | {
        "app.kubernetes.io/component": stage,
        STAGE_LABEL: stage,
        ATTEMPT_LABEL: str(attempt),
        DIGEST_LABEL: digest[:63],
    }
