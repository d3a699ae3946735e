"""Jobs of other resources that do the same work: whether to wait for one. Pure.

Equal work is done once, by whoever is at it. A Job that has no running pod is not at it: it waits for a queue, a node,
an image or an administrator, perhaps for ever. It is waited for a while, and then the work is begun beside it; should
both come to run after all, the runtime's mark in the stage's folder leaves one of them.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from kubedistill_api.base import API_VERSION
from kubedistill_operator.kinds import RESOURCES
from kubedistill_operator.lost import STUCK
from kubedistill_operator.names import ATTEMPT_LABEL, INSTANCE_LABEL, PART_OF_LABEL, STAGE_LABEL

Object = dict[str, Any]

PATIENCE = timedelta(seconds=600)
"""A Job without a running pod is waited for so long after it was made or admitted."""
KINDS = {kind.lower(): kind for kind in RESOURCES}


def waited_until(job: Object, pods: Sequence[Object]) -> datetime | None:
    """When to stop waiting for the Job; None while it works."""
    running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]
    ends = [pod["metadata"].get("deletionTimestamp") for pod in running]
    if running and not all(ends):
        return None
    if running:
        return max(datetime.fromisoformat(end) for end in ends if end) + STUCK
    since = job.get("status", {}).get("startTime") or job["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(since) + PATIENCE


def told(job: Object, pods: Sequence[Object]) -> str:
    """Who does the work, how that stands, and until when it is waited for. The same while nothing changes."""
    metadata = job["metadata"]
    labels = metadata["labels"]
    kind = KINDS.get(labels.get(PART_OF_LABEL, ""), f"a resource of {API_VERSION}")
    who = (
        f"{kind} {labels.get(INSTANCE_LABEL, '')} does the same work "
        f"(stage {labels.get(STAGE_LABEL)}, attempt {labels.get(ATTEMPT_LABEL)}, Job {metadata['name']})"
    )
    until = waited_until(job, pods)
    if until is None:
        return who
    moment = until.astimezone(UTC).strftime("%H:%M:%S UTC")
    if metadata.get("deletionTimestamp"):
        how = "its pods were told to end"
    elif job.get("spec", {}).get("suspend"):
        how = "it waits in a queue"
    else:
        how = f"its pods do not run (kubectl describe job {metadata['name']})"
    return f"{who}, but {how}; from {moment} on the work is begun here too"
