"""What the tests of jobs on a node rely on: pods, names, addresses, claims, and that nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.cluster import folders
from tests.cluster.host_runtime import PROJECT, pod_template
from tests.cluster.node import Node
from tests.cluster.processes import wait_until

SERVICE = "pair"

MEMBER = """
import json, os, socket, ssl, time, torch, urllib.request
index = int(os.environ["JOB_COMPLETION_INDEX"])
names = [f"pair-{i}.pair" for i in range(2)]
listener = socket.create_server(("", 29400))
def address(name):
    for _ in range(300):
        try:
            return socket.gethostbyname(name)
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{name} does not resolve")
def dial(name):
    for _ in range(300):
        try:
            return socket.create_connection((name, 29400), timeout=30).close()
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit(f"{name} does not listen")
found = {name: address(name) for name in names}
for name in names:
    dial(name)
listener.settimeout(60)
for _ in names:
    listener.accept()[0].close()
anyone = ssl._create_unverified_context()
version = json.load(urllib.request.urlopen("https://kubernetes.default.svc/version", context=anyone, timeout=30))
refused = ""
try:
    open(f"{os.path.dirname(torch.__file__)}/written", "w")
except OSError as error:
    refused = error.strerror
facts = {"uid": os.getuid(), "sum": torch.ones(3).sum().item(), "found": found, "version": version["gitVersion"],
         "refused": refused}
open(f"/mnt/pvc/storage/{index}.json", "w").write(json.dumps(facts))
open("/dev/termination-log", "w").write(f"member {index}")
"""

SERVE = "import http.server; http.server.HTTPServer(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()"

OWNER = """
import sys
from tests.cluster.node import Node
with Node() as node:
    print(node.folder, node.network.link, flush=True)
    sys.stdin.read()
"""


def indexed_job(name: str, program: str, pods: int) -> list[dict[str, Any]]:
    """A Job of `pods` pods in the runtime's template, as a restricted namespace takes them, and its Service."""
    template = pod_template(
        restartPolicy="Never",
        subdomain=name,
        automountServiceAccountToken=False,
        terminationGracePeriodSeconds=1,
        securityContext={
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    )
    container = template["spec"]["containers"][0]
    container["command"] = ["python", "-c", program]
    container["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    container["volumeMounts"] += [
        {"name": "storage", "mountPath": "/mnt/pvc/storage"},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    template["spec"]["volumes"] += [
        {"name": "storage", "persistentVolumeClaim": {"claimName": "storage"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    spec = {
        "completionMode": "Indexed",
        "completions": pods,
        "parallelism": pods,
        "backoffLimit": 0,
        "template": template,
    }
    selector = {"batch.kubernetes.io/job-name": name}
    service = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec},
    ]


def pods(node: Node, namespace: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = node.cluster.get("pods", "--namespace", namespace)["items"]
    return items


def test_two_pods_import_torch_find_each_other_and_write_to_the_claim(node: Node, tenant: str) -> None:
    node.cluster.apply(*indexed_job(SERVICE, MEMBER, pods=2), namespace=tenant)
    job = ("job", SERVICE, "--namespace", tenant)

    def has_ended() -> bool:
        conditions = node.cluster.get(*job)["status"].get("conditions", [])
        return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)

    wait_until(has_ended, "the Job to end", detail=lambda: node.cluster.kubectl("describe", "-n", tenant, "pods"))
    logs = node.cluster.kubectl("logs", "--namespace", tenant, "--selector", f"job-name={SERVICE}", "--prefix")
    assert node.cluster.get(*job)["status"].get("succeeded") == 2, logs
    states = [pod["status"]["containerStatuses"][0]["state"]["terminated"] for pod in pods(node, tenant)]
    assert {state["message"] for state in states} == {"member 0", "member 1"}
    addresses = {pod["status"]["podIP"] for pod in pods(node, tenant)}
    for index in range(2):
        facts = json.loads((node.storage(tenant) / f"{index}.json").read_text())
        assert facts["uid"] == 1000
        assert facts["sum"] == 3.0
        assert set(facts["found"].values()) == addresses
        assert facts["version"] == json.loads(node.cluster.kubectl("get", "--raw=/version"))["gitVersion"]
        assert facts["refused"] == "Read-only file system"


def test_a_pod_can_be_reached_from_this_machine_seen_and_signalled(node: Node, tenant: str) -> None:
    node.cluster.apply(*indexed_job("served", SERVE, pods=1), namespace=tenant)
    running = lambda: [pod["status"]["phase"] for pod in pods(node, tenant)] == ["Running"]  # noqa: E731
    wait_until(running, "the pod to run", detail=lambda: node.cluster.kubectl("describe", "-n", tenant, "pods"))
    (pod,) = pods(node, tenant)
    name, address = pod["metadata"]["name"], pod["status"]["podIP"]

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}:8080/", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    wait_until(answers, "the pod to answer")
    assert node.cluster.kubectl("exec", "-n", tenant, name, "--", "id", "-u").strip() == "1000"
    (pid,) = [pid for pid, command in node.pod_processes(tenant, name).items() if "http.server" in command]
    os.kill(pid, signal.SIGKILL)
    failed = lambda: [pod["status"]["phase"] for pod in pods(node, tenant)] == ["Failed"]  # noqa: E731
    wait_until(failed, "the pod to fail")
    (pod,) = pods(node, tenant)
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137


def test_nothing_is_left_when_the_owner_is_killed() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout
    folder, link = owner.stdout.readline().split()
    owner.kill()
    owner.wait()

    def is_quiet() -> bool:
        links = subprocess.run(["ip", "-oneline", "link"], capture_output=True, text=True, check=True).stdout
        return not _processes(folder) and f" {link}@" not in links

    wait_until(is_quiet, "the node to end with its owner", detail=lambda: "\n".join(_processes(folder)))
    assert folder not in Path("/proc/mounts").read_text()
    folders.remove_remains()
    assert not Path(folder).exists()
    assert not [group for group in folders.cgroup_hierarchies() if (group / Path(folder).name).exists()]


def _processes(folder: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_text().replace("\0", " ")
        except OSError:
            continue
        if folder in command:
            found.append(f"{path.parent.name} {command}")
    return found
