"""A cluster to try things on: `python -m tests.cluster up | down | status`.

`up` leaves a node running in the background, owned by a process that `down` ends.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cluster import build, folders, packages
from tests.cluster.errors import ClusterError
from tests.cluster.host_runtime import host_runtime
from tests.cluster.node import NAME, Node, why_not
from tests.cluster.processes import wait_until
from tests.cluster.programs import CONTROL_PLANE, NODE

TENANT = "team-a"
START_SECONDS = 120.0
STOP_SECONDS = 60.0


class Running:
    """What is known of the cluster in the background: its owner, its kubeconfig, its log."""

    def __init__(self) -> None:
        folder = build.cache_folder().parent / "running"
        folder.mkdir(parents=True, exist_ok=True)
        self.record, self.log, self.lock = folder / "cluster.json", folder / "cluster.log", folder / "lock"

    def read(self) -> dict[str, str] | None:
        """The cluster's record; None when no cluster runs."""
        with contextlib.suppress(FileNotFoundError):
            record: dict[str, str] = json.loads(self.record.read_text())
            if folders.start_time(int(record["pid"])) == record["started"]:
                return record
            self.record.unlink()
        return None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Only one `up` or `down` at a time."""
        with self.lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def up(running: Running) -> None:
    """Start the cluster, unless it runs, and say how to use it."""
    if record := running.read():
        print("the cluster is running already")
        return explain(record)
    if reason := why_not():
        raise ClusterError(reason)
    packages.ensure()
    build.find_all([*CONTROL_PLANE, *NODE])
    print("== starting", file=sys.stderr, flush=True)
    with running.log.open("wb") as log:
        command = [sys.executable, "-m", "tests.cluster", "hold"]
        owner = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def check_owner() -> None:
        if owner.poll() is not None:
            raise ClusterError(f"the cluster does not start:\n{running.log.read_text()[-3000:]}")

    try:
        wait_until(lambda: running.read() is not None, "the cluster to start", START_SECONDS, also=check_owner)
    except BaseException:
        owner.terminate()
        raise
    record = running.read()
    assert record
    return explain(record)


def hold(running: Running) -> None:
    """Own the cluster until SIGTERM."""
    # A handler that raises takes the cluster down on the way out; a blocked signal would stay blocked in its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Node() as node:
        node.cluster.install_crds()
        node.add_tenant(TENANT)
        node.cluster.apply(host_runtime("default"))
        record = {
            "pid": str(os.getpid()),
            "started": folders.start_time(os.getpid()),
            "kubeconfig": str(node.cluster.kubeconfig),
            "folder": str(node.folder),
            "programs": str(node.cluster.programs["kubectl"].parent),
        }
        scratch = running.record.with_suffix(".new")
        scratch.write_text(json.dumps(record))
        scratch.rename(running.record)
        try:
            while True:
                signal.pause()
        finally:
            running.record.unlink(missing_ok=True)


def down(running: Running) -> None:
    """End the cluster and remove every trace of it."""
    if record := running.read():
        os.kill(int(record["pid"]), signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while folders.start_time(int(record["pid"])) == record["started"]:
            if time.monotonic() > deadline:
                os.kill(int(record["pid"]), signal.SIGKILL)
            time.sleep(0.1)
        print("the cluster is gone")
    else:
        print("no cluster is running")
    # Also of clusters whose owner was killed.
    folders.remove_remains()


def status(running: Running) -> None:
    """Say whether a cluster runs, and what is on it. Raises `ClusterError` when none does."""
    record = running.read()
    if record is None:
        raise ClusterError("no cluster is running: make cluster")
    explain(record)
    kubectl = [str(Path(record["programs"]) / "kubectl"), "--kubeconfig", record["kubeconfig"]]
    for what in (["nodes", "-o", "wide"], ["djob,tprobe,dstudy,pods", "--all-namespaces"]):
        subprocess.run([*kubectl, "get", *what], check=False)


def explain(record: dict[str, str]) -> None:
    print(
        f"""
export KUBECONFIG={shlex.quote(record["kubeconfig"])}
export PATH={shlex.quote(record["programs"])}:$PATH

# One node ({NAME}), the CRDs, the ClusterDistillationRuntime `default`, whose pods run on this machine's own Python,
# and the namespace {TENANT} with its claims. Pods and Services can be reached from here. Logs: {record["folder"]}/logs
kubectl get nodes
kubectl get cdruntime
{shlex.quote(sys.executable)} -m kubedistill_operator     # in a terminal of its own
kubectl apply -n {TENANT} -f examples/demo.yaml
kubectl get djob,tprobe,dstudy,pods -A -w
make cluster-down                                         # removes every trace"""
    )


def main() -> int:
    actions = {"up": up, "down": down, "status": status, "hold": hold}
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("action", choices=[name for name in actions if name != "hold"] + ["hold"], metavar="ACTION")
    action = parser.parse_args().action
    running = Running()
    try:
        if action == "hold":
            hold(running)
        else:
            with running.alone():
                actions[action](running)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
