"""The operator under a load: 1,000 jobs applied at once, on a real API server whose nodes and results kwok plays.

The peer is a raw loop in the same run, on the same API server, with the same connection: for each of as many objects
a ConfigMap, a Job and a status, by one process that does nothing else. `ratio` is the operator's jobs per second to
the first child over the loop's. The operator is the real process; everything shares the machine's cores.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp
import psutil

from kubedistill_api.base import API_VERSION
from kubedistill_operator.cluster import Cluster, path
from kubedistill_operator.names import SELECTOR
from tests.cluster.controlplane import ControlPlane, _free_port
from tests.cluster.host_runtime import claim
from tests.cluster.kwok import Kwok
from tests.cluster.processes import without_proxies

Object = dict[str, Any]

NAMESPACE = "load"
AT_ONCE = 64
"""Requests under way at once, of the applying client and of the raw loop."""
STAGES = 7
LIMIT_S = 1500.0
REST_S = 60.0
RESTART_S = 30.0
MIB = 2**20

OPERATOR = """import runpy, sys
sys.modules["chardet"] = None
runpy.run_module("kubedistill_operator", run_name="__main__")
"""
"""The operator without a package that requirements/operator.txt does not have: `requests` loads it where it is there,
and its tables take 12 MiB."""

RUNTIME: Object = {
    "apiVersion": API_VERSION,
    "kind": "DistillationRuntime",
    "metadata": {"name": "runtime", "namespace": NAMESPACE},
    "spec": {"image": "registry.invalid/kubedistill:load", "storage": {"uri": "pvc://data/kubedistill"}},
}


def job(index: int) -> Object:
    """A job of seven stages that shares no work with another."""
    spec: Object = {
        "runtimeRef": {"kind": "DistillationRuntime", "name": "runtime"},
        "questions": [{"uri": f"pvc://data/questions-{index}.jsonl"}],
        "teacher": {"model": {"uri": "hf://org/teacher"}, "sampling": {"maxTokens": 128}},
        "student": {"uri": "hf://org/student"},
        "curation": {"difficulty": {"maxPassRate": 0.5, "maxTokens": 128}},
        "evaluation": {"benchmarks": [{"name": "b", "uri": "pvc://data/benchmark.jsonl"}], "samples": 2},
    }
    metadata = {"name": f"job-{index:05}", "namespace": NAMESPACE}
    return {"apiVersion": API_VERSION, "kind": "DistillationJob", "metadata": metadata, "spec": spec}


def raw_objects(index: int) -> tuple[Object, Object]:
    """The ConfigMap and the Job of the raw loop; nothing schedules its pod."""
    name = f"raw-{index:05}"
    metadata = {"name": name, "namespace": NAMESPACE}
    container = {"name": "stage", "image": "registry.invalid/raw", "command": ["true"]}
    spec = {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    return (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"spec.json": json.dumps(job(index))}},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec},
    )


async def each(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    """`work` for every index, so many at once."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(index: int) -> None:
        async with gate:
            await work(index)

    await asyncio.gather(*map(one, range(count)))


async def raw_loop(cluster: Cluster, count: int) -> float:
    """Objects per second of the raw loop."""

    async def work(index: int) -> None:
        for item in raw_objects(index):
            await cluster.create(item)
        body = {"apiVersion": API_VERSION, "kind": "DistillationJob", "status": {"phase": "Pending"}}
        metadata = {"name": f"job-{index:05}", "namespace": NAMESPACE}
        await cluster.apply({**body, "metadata": metadata}, "/status")

    await each(count, lambda index: _created(cluster, job(index)))
    started = time.monotonic()
    await each(count, work)
    took = time.monotonic() - started
    for kind in ("DistillationJob", "Job", "ConfigMap"):
        await cluster._request("DELETE", path(kind, NAMESPACE), {"propagationPolicy": "Background"})
    return count / took


async def _created(cluster: Cluster, item: Object) -> None:
    await cluster.create(item)


@dataclass
class Seen:
    """When things were seen, in monotonic seconds, by the name of the resource."""

    applied: dict[str, float] = field(default_factory=dict)
    first_child: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    phases: dict[str, str] = field(default_factory=dict)

    def child(self, item: Object) -> None:
        owner = item["metadata"]["labels"].get("app.kubernetes.io/instance")
        if owner and "job-name" not in owner:
            self.first_child.setdefault(owner, time.monotonic())

    def resource(self, item: Object) -> None:
        name, phase = item["metadata"]["name"], item.get("status", {}).get("phase")
        if phase in ("Complete", "Failed"):
            self.ended.setdefault(name, time.monotonic())
            self.phases[name] = phase


async def watch(cluster: Cluster, kind: str, query: dict[str, str], seen: Callable[[Object], None]) -> None:
    """Tells of every object that is there, is added or changed, until it is cancelled. The API server ends the watch of
    one who reads too slowly."""
    headers: dict[str, str] = {"Accept": "application/json"}
    await cluster._client.update_params_for_auth(headers, [], ["BearerToken"], "", "GET", None)
    url = f"{cluster.configuration.host}/{path(kind, NAMESPACE)}"
    timeout = aiohttp.ClientTimeout(total=None)
    async with cluster._client.rest_client._create_pool_manager() as pool:
        while True:
            items, version = await cluster.list_all(kind, NAMESPACE, **query)
            for item in items:
                seen(item)
            parameters = {"watch": "1", "resourceVersion": str(version), "timeoutSeconds": "3600", **query}
            async with pool.get(url, params=parameters, headers=headers, timeout=timeout) as response:
                buffer = b""
                async for chunk in response.content.iter_any():
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    for event in map(json.loads, filter(None, lines)):
                        if event["type"] != "ERROR":
                            seen(event["object"])


@contextmanager
def operator(kubeconfig: Path, port: int) -> Iterator[psutil.Process]:
    """The operator's process, once it acts."""
    environment = without_proxies() | {"KUBECONFIG": str(kubeconfig)}
    options = ["--port", str(port), "--lease-namespace", NAMESPACE, "--log-level", "WARNING"]
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-c", OPERATOR, *options]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            while "acting" not in page(port, "readyz"):
                assert process.poll() is None, "the operator ended"
                time.sleep(0.1)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)
            log.seek(0)
            sys.stderr.write(log.read().decode()[-4000:])


def page(port: int, name: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=30) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def writes(port: int) -> dict[str, float]:
    """Requests of the operator that changed something, by resource, without the renewals of its Lease."""
    lines = [line for line in page(port, "metrics").splitlines() if line.startswith("kubedistill_api_writes_total")]
    found = {line.split('"')[1]: float(line.split()[-1]) for line in lines}
    return {resource: n for resource, n in found.items() if resource != "leases"}


def _memory(process: psutil.Process) -> Object:
    """Of an operator that was started where everything is there already: at rest, and the most it ever had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return {"rss_restarted_mib": round(process.memory_info().rss / MIB), "rss_restarted_peak_mib": peak // 1024}


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def until(is_so: Callable[[], bool], told: Callable[[], str]) -> None:
    end, said = time.monotonic() + LIMIT_S, 0.0
    while not is_so():
        if time.monotonic() - said > 15:
            said = time.monotonic()
            print(f"   {told()}", file=sys.stderr, flush=True)
        assert time.monotonic() < end, told()
        await asyncio.sleep(0.05)


async def _settled(port: int) -> None:
    """Returns once nothing was written for five seconds: Events are written behind the rest."""
    end, before = time.monotonic() + LIMIT_S, -1.0
    while (now := sum(writes(port).values())) != before:
        assert time.monotonic() < end, "the operator does not come to rest"
        before = now
        await asyncio.sleep(5)


async def load(control_plane: ControlPlane, count: int) -> Object:
    """Everything that is measured."""
    cluster = await Cluster.connect(str(control_plane.kubeconfig))
    cluster._client.configuration.connection_pool_maxsize = AT_ONCE
    try:
        await cluster.create(RUNTIME)
        print("== the raw loop", file=sys.stderr, flush=True)
        raw = await raw_loop(cluster, count)
        port = _free_port("127.0.0.1")
        with operator(control_plane.kubeconfig, port) as process:
            result = {"raw_per_s": round(raw, 1)} | await _operator_load(cluster, process, port, count, raw)
        print("== started again", file=sys.stderr, flush=True)
        started = time.monotonic()
        with operator(control_plane.kubeconfig, port) as process:
            result["restart_s"] = round(time.monotonic() - started, 1)
            await asyncio.sleep(RESTART_S)
            return result | _memory(process) | {"writes_after_restart": sum(writes(port).values())}
    finally:
        await cluster.close()


async def _operator_load(cluster: Cluster, process: psutil.Process, port: int, count: int, raw: float) -> Object:
    seen = Seen()
    watches = [
        asyncio.create_task(watch(cluster, "Job", {"labelSelector": SELECTOR}, seen.child)),
        asyncio.create_task(watch(cluster, "DistillationJob", {}, seen.resource)),
    ]
    await asyncio.sleep(1)
    idle_rss = process.memory_info().rss / MIB
    written, used = writes(port), cpu_s(process)
    started = time.monotonic()

    async def apply(index: int) -> None:
        item = job(index)
        await cluster.create(item)
        seen.applied[item["metadata"]["name"]] = time.monotonic()

    print(f"== {count} jobs", file=sys.stderr, flush=True)
    await each(count, apply)
    applied_s = time.monotonic() - started
    await until(lambda: len(seen.first_child) >= count, lambda: f"{len(seen.first_child)} have a child")
    first_s, first_cpu = max(seen.first_child.values()) - started, cpu_s(process) - used
    await until(lambda: len(seen.ended) >= count, lambda: f"{len(seen.ended)} have ended")
    ended_s = max(seen.ended.values()) - started
    waits = [seen.first_child[name] - seen.applied[name] for name in seen.first_child]
    cuts = quantiles(waits, n=100)
    await _settled(port)
    total_cpu = cpu_s(process) - used
    per_job = {resource: (n - written.get(resource, 0)) / count for resource, n in writes(port).items()}
    print(f"== at rest for {REST_S:.0f} s", file=sys.stderr, flush=True)
    before, resting = sum(writes(port).values()), cpu_s(process)
    await asyncio.sleep(REST_S)
    at_rest = sum(writes(port).values()) - before
    for task in watches:
        task.cancel()
    return {
        "jobs": count,
        "ratio": round(count / first_s / raw, 3),
        "first_child_per_s": round(count / first_s, 1),
        "complete_per_s": round(count / ended_s, 2),
        "failed": sum(phase == "Failed" for phase in seen.phases.values()),
        "apply_s": round(applied_s, 1),
        "apply_to_first_child_p50_s": round(cuts[49], 2),
        "apply_to_first_child_p99_s": round(cuts[98], 2),
        "writes_per_job": {resource: round(n, 2) for resource, n in per_job.items()},
        "cpu_s_to_first_children": round(first_cpu, 1),
        "cpu_s_per_job": round(total_cpu / count, 4),
        "rss_idle_mib": round(idle_rss),
        "rss_at_rest_mib": round(process.memory_info().rss / MIB),
        "writes_at_rest": at_rest,
        "cpu_at_rest_percent": round(100 * (cpu_s(process) - resting) / REST_S, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.operator_load", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print the result on one line")
    chosen = parser.parse_args()
    os.environ.pop("KUBECONFIG", None)
    with ControlPlane(scheduler=True) as control_plane, Kwok(control_plane):
        control_plane.install_crds()
        control_plane.kubectl("create", "namespace", NAMESPACE)
        # Pods whose claim is missing find no node.
        control_plane.apply(*claim(NAMESPACE, "data", Path("/nowhere"), "ReadWriteMany"))
        result = asyncio.run(load(control_plane, chosen.jobs))
    print(json.dumps(result, indent=None if chosen.json else 1))


if __name__ == "__main__":
    main()
