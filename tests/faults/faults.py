"""The faults, each made and taken back by one function. What it yields says whether it has lasted long enough."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.chart.chart_case import NAMESPACE
from tests.cluster.quota import enforce_quota
from tests.faults.ground import STAGE, TENANTS, Ground
from tests.node import charted

Until = Callable[[], bool]

AWAY_S = 20.0
"""How long a server is away that comes back."""
CUT_S = 60.0
REVOKED_S = 75.0
"""Longer than the operator's Lease lasts without a renewal."""
FILL_S = 0.2


@dataclass(frozen=True)
class Fault:
    """One fault."""

    name: str
    made: Callable[[Ground], AbstractContextManager[Until]]
    ends_attempts: bool = True
    """Whether the trainings need another attempt after it."""
    counts: bool = False
    """Whether the attempt may count against the limit of tries: nobody can tell it from an error of the program."""


def lasts(seconds: float) -> Until:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


@contextlib.contextmanager
def pods_deleted(ground: Ground) -> Iterator[Until]:
    """Index 0 of each tenant's training, as `kubectl delete pod` does it."""
    for case in ground.cases.values():
        case.kubectl("delete", "pod", str(case.pod_of(STAGE)), "--wait=false")
    yield lasts(0)


@contextlib.contextmanager
def pods_killed(ground: Ground) -> Iterator[Until]:
    """All processes of index 0 of each tenant's training, by SIGKILL."""
    for case in ground.cases.values():
        case.kill_pod(STAGE, 0, after_s=0)
    yield lasts(0)


@contextlib.contextmanager
def operator_killed(ground: Ground) -> Iterator[Until]:
    """The operator's process, by SIGKILL: its container starts again."""
    pod = charted.operator_pod(ground.node)["metadata"]["name"]
    for pid, command in ground.node.pod_processes(NAMESPACE, pod).items():
        if "kubedistill_operator" in command:
            os.kill(pid, 9)
    yield lasts(0)


@contextlib.contextmanager
def operator_pod_deleted(ground: Ground) -> Iterator[Until]:
    """The operator's pod, without a farewell: nobody gives its Lease back."""
    pod = charted.operator_pod(ground.node)["metadata"]["name"]
    ground.node.cluster.kubectl("delete", "pod", pod, "--namespace", NAMESPACE, "--grace-period=0", "--force")
    yield lasts(0)


@contextlib.contextmanager
def apiserver_away(ground: Ground) -> Iterator[Until]:
    ground.node.cluster.stop_apiserver(kill=True)
    try:
        yield lasts(AWAY_S)
    finally:
        ground.node.cluster.start_apiserver()


@contextlib.contextmanager
def etcd_away(ground: Ground) -> Iterator[Until]:
    cluster = ground.node.cluster
    cluster.etcd.kill()
    try:
        yield lasts(AWAY_S)
    finally:
        cluster.restart_etcd()


@contextlib.contextmanager
def node_silent(ground: Ground) -> Iterator[Until]:
    """Kubelet and containerd stop; the pods go on, and nobody hears of it."""
    ground.node.stop()
    try:
        yield lambda: not ground.node.is_ready()
    finally:
        ground.node.start_again()


@contextlib.contextmanager
def power_cut(ground: Ground) -> Iterator[Until]:
    """Everything on the node ends at once, the operator too, and it starts again once the cluster holds it for away."""
    ground.node.cut_power()
    try:
        yield lambda: not ground.node.is_ready()
    finally:
        ground.node.start_again()


@contextlib.contextmanager
def quota_zero(ground: Ground) -> Iterator[Until]:
    """No pods any more; those that run stay, so one of each training is deleted, and must come again."""
    began = time.time()
    for tenant in TENANTS:
        enforce_quota(ground.node.cluster, tenant, "none", pods="0")
    try:
        with pods_deleted(ground):
            yield lambda: ground.watch.has_told("QuotaExceeded", began)
    finally:
        for case in ground.cases.values():
            case.kubectl("delete", "resourcequota", "none")


@contextlib.contextmanager
def rights_revoked(ground: Ground) -> Iterator[Until]:
    """The operator's bindings name nobody; a pod of each training is deleted, so that there is something to do."""
    bindings = (("clusterrolebinding", "kubedistill"), ("rolebinding", "kubedistill-lease"))

    def bind(subjects: list[dict[str, str]]) -> None:
        for kind, name in bindings:
            patch = json.dumps({"subjects": subjects})
            ground.node.cluster.kubectl("patch", kind, name, "-n", NAMESPACE, "--type=merge", "-p", patch)

    subjects = ground.node.cluster.get(*bindings[0])["subjects"]
    bind([])
    try:
        with pods_deleted(ground):
            yield lasts(REVOKED_S)
    finally:
        bind(subjects)


@contextlib.contextmanager
def network_cut(ground: Ground) -> Iterator[Until]:
    """The two pods of each training do not reach each other; everybody else reaches them."""
    rules = ["table ip fault {", "chain cut { type filter hook forward priority -10; policy accept;"]
    for tenant in TENANTS:
        one, other = (pod["status"]["podIP"] for pod in ground.pods(tenant))
        rules += [f"ip saddr {a} ip daddr {b} drop;" for a, b in ((one, other), (other, one))]
    ground.node.enclave.run("nft", "\n".join([*rules, "}", "}"]))
    try:
        yield lasts(CUT_S)
    finally:
        ground.node.enclave.run("nft", "delete", "table", "ip", "fault")


@contextlib.contextmanager
def disks_full(ground: Ground) -> Iterator[Until]:
    """A file takes all the room on both tenants' disks, also what is given back meanwhile."""
    began = time.time()
    fillers = [ground.node.storage(tenant) / "filler" for tenant in TENANTS]
    over = threading.Event()

    def fill() -> None:
        while not over.wait(FILL_S):
            for filler in fillers:
                _fill(filler)

    for filler in fillers:
        _fill(filler)
    filling = threading.Thread(target=fill, daemon=True)
    filling.start()
    try:
        yield lambda: ground.watch.has_told("TryAgain", began)
    finally:
        over.set()
        filling.join()
        for filler in fillers:
            filler.unlink()


def _fill(file: Path) -> None:
    """Lets the file grow until its disk is full."""
    with file.open("ab") as out, contextlib.suppress(OSError):
        room = os.fstatvfs(out.fileno())
        if room.f_bavail:
            os.posix_fallocate(out.fileno(), out.tell(), room.f_bavail * room.f_frsize)


FAULTS = (
    Fault("network between pods cut", network_cut, ends_attempts=False),
    Fault("API server restarted", apiserver_away, ends_attempts=False),
    Fault("etcd restarted", etcd_away, ends_attempts=False),
    Fault("RBAC revoked", rights_revoked),
    Fault("disks full", disks_full),
    Fault("quota cut to zero", quota_zero),
    Fault("node's power cut", power_cut),
    Fault("node silent", node_silent, ends_attempts=False),
    Fault("pods deleted", pods_deleted),
    Fault("pods' processes killed", pods_killed, counts=True),
    Fault("operator killed", operator_killed, ends_attempts=False),
    Fault("operator's pod deleted", operator_pod_deleted, ends_attempts=False),
)
