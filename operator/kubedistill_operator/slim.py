"""What is kept of an object: what is looked at. All of it would fill the memory with a thousand jobs. Pure."""

from typing import Any

from kubedistill_operator.names import (
    ATTEMPT_LABEL,
    DIGEST_LABEL,
    INDEX_LABEL,
    INSTANCE_LABEL,
    JOB_NAME_LABEL,
    PART_OF_LABEL,
    QUEUE_LABEL,
    STAGE_LABEL,
    UID_LABEL,
)

Object = dict[str, Any]

METADATA = ("name", "namespace", "uid", "labels", "creationTimestamp", "deletionTimestamp")
LABELS = (
    INSTANCE_LABEL,
    PART_OF_LABEL,
    UID_LABEL,
    STAGE_LABEL,
    ATTEMPT_LABEL,
    DIGEST_LABEL,
    JOB_NAME_LABEL,
    INDEX_LABEL,
    QUEUE_LABEL,
)
"""Of children."""
POD_CONDITIONS = ("PodScheduled", "Ready", "DisruptionTarget")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def slim(kind: str, item: Object) -> Object:
    """What is looked at, without the version: of Jobs, pods and ConfigMaps that is little, of others their spec and
    status."""
    if kind not in ("Job", "Pod", "ConfigMap"):
        own = _picked(item["metadata"], *METADATA, "generation", "annotations")
        own["annotations"] = {key: text for key, text in own.get("annotations", {}).items() if key != LAST_APPLIED}
        return {"kind": kind, "metadata": own} | _picked(item, "apiVersion", "spec", "status")
    metadata = _picked(item["metadata"], *METADATA)
    metadata["labels"] = _picked(metadata.get("labels", {}), *LABELS)
    kept: Object = {"kind": kind, "metadata": metadata}
    status = item.get("status", {})
    match kind:
        case "Job":
            kept["spec"] = _picked(item["spec"], "suspend", "parallelism")
            kept["status"] = _picked(status, "startTime") | _conditions(status)
        case "Pod":
            kept["spec"] = {"nodeName": item.get("spec", {}).get("nodeName", "")}
            kept["status"] = _picked(status, "phase", "reason", "message", "podIP") | _conditions(
                status, POD_CONDITIONS
            )
            for containers in ("containerStatuses", "initContainerStatuses"):
                if containers in status:
                    kept["status"][containers] = [_picked(one, "name", "state") for one in status[containers]]
    return kept


def _conditions(status: Object, types: tuple[str, ...] = ()) -> Object:
    """The conditions of these types, or all; nothing where there are none."""
    keys = ("type", "status", "reason", "message", "lastTransitionTime")
    found = [_picked(one, *keys) for one in status.get("conditions", ()) if not types or one["type"] in types]
    return {"conditions": found} if found else {}


def _picked(item: Object, *keys: str) -> Object:
    return {key: item[key] for key in keys if key in item}
