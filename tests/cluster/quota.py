"""A ResourceQuota that holds from the moment that it is said to."""

from tests.cluster.controlplane import ControlPlane
from tests.cluster.processes import wait_until

NOBODY_HAS = "count/limitranges"


def enforce_quota(cluster: ControlPlane, namespace: str, name: str, **hard: str) -> None:
    """Make a quota and return once the API server refuses what is over it.

    Before that, pods get in by it, and may stay uncounted for the five minutes after which the controller counts again.
    So each quota also forbids LimitRanges, and is in force when one is refused.
    """
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}}
    cluster.apply({**quota, "spec": {"hard": {**hard, NOBODY_HAS: "0"}}}, namespace=namespace)
    one_over = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": name}, "spec": {"limits": []}}
    wait_until(
        lambda: "exceeded quota" in cluster.refusal(one_over, "-n", namespace), f"the quota {name} to be in force"
    )
