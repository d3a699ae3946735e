"""This pod among the pods of its stage: index 0 leads, the others help it."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from kubedistill_api.runtime import RoleSpec
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.stages.context import StageContext

HEAD_S = 600.0
"""The pods of a stage wait for each other so long, then let their machines go: others may be waiting for them."""
POLL_S = 1.0
TELL_EVERY_S = 15.0
CONNECT_S = 3.0


@dataclass(frozen=True)
class Pod:
    """One of several pods of a stage."""

    index: int
    ip: str
    """Where the other pods reach this one."""
    head: str
    """Host name of index 0."""

    @property
    def leads(self) -> bool:
        return self.index == 0


def this_pod(role: RoleSpec, environment: Mapping[str, str] = os.environ) -> Pod | None:
    """None where this process is the whole stage, whatever the role's replicas. Raises BadInput."""
    if role.replicas == 1 or not {"JOB_COMPLETION_INDEX", "MASTER_ADDR"} <= environment.keys():
        return None
    given = environment["JOB_COMPLETION_INDEX"]
    if not given.isdecimal() or int(given) >= role.replicas:
        raise BadInput(f"JOB_COMPLETION_INDEX is {given!r}; it must be a number below role.replicas ({role.replicas})")
    if "POD_IP" not in environment:
        raise BadInput("POD_IP is not set; give it the pod's address (fieldRef status.podIP)")
    return Pod(int(given), environment["POD_IP"], environment["MASTER_ADDR"])


def answers(host: str, port: int) -> bool:
    """Whether something listens there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=CONNECT_S):
        return True
    return False


def wait_for_head(context: StageContext, pod: Pod, port: int, *, until: float | None = None) -> bool:
    """True once index 0 listens on `port`; False when the stage's result is there, so that it never will.

    Raises TryAgain when neither comes by `until` (of the monotonic clock).
    """
    started = told = time.monotonic()
    until = started + HEAD_S if until is None else until
    while not answers(pod.head, port):
        if context.finished():
            return False
        now = time.monotonic()
        if now > until:
            raise TryAgain(f"index 0 does not listen on {pod.head}:{port} after {HEAD_S:.0f} s; see why it is not up")
        if now - told >= TELL_EVERY_S:
            told = now
            print(f"waiting for index 0 at {pod.head}:{port} ({now - started:.0f} s)", flush=True)
        time.sleep(POLL_S)
    return True
