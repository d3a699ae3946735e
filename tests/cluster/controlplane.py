"""etcd, kube-apiserver and kube-controller-manager: what tests of the operator need, without a node."""

import contextlib
import ipaddress
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.cluster import build, folders
from tests.cluster.certificates import Authority
from tests.cluster.errors import ClusterError
from tests.cluster.processes import Server, without_proxies
from tests.cluster.programs import CONTROL_PLANE

CRDS = Path(__file__).parents[2] / "crds"
QUEUES = ("--kube-api-qps=1000", "--kube-api-burst=2000")
"""The defaults (20 per second) would hold a test of a thousand jobs back."""


class ControlPlane:
    """A Kubernetes without nodes.

    Everything it writes is in a folder of its own, and all its processes end with it, or with the process that owns
    it, however that ends.
    """

    def __init__(
        self,
        *,
        address: str = "127.0.0.1",
        services: str = "10.96.0.0/16",
        scheduler: bool = False,
        folder: Path | None = None,
        apiserver_flags: Sequence[str] = (),
        controller_manager_flags: Sequence[str] = (),
    ) -> None:
        """Plan it; nothing runs yet.

        `address`: where the API server listens. `services`: the range of Services' addresses. `scheduler`: also bind
        pods to nodes. `folder`: whose owner removes it; by default one of its own.
        """
        self.address = address
        self.services = services
        self._owns_folder = folder is None
        self.folder = folder or folders.make()
        self._with_scheduler = scheduler
        self._flags = tuple(apiserver_flags)
        self._controller_manager_flags = tuple(controller_manager_flags)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            if self._owns_folder:
                self._stack.callback(folders.remove, self.folder)
            self._prepare()
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _prepare(self) -> None:
        self.programs = build.find_all([*CONTROL_PLANE, *(["kube-scheduler"] if self._with_scheduler else [])])
        self._ports = {name: _free_port(self.address) for name in ("etcd", "peer", "apiserver")}
        self.url = f"https://{self.address}:{self._ports['apiserver']}"
        self.authority = Authority(self.folder / "pki")
        self.kubeconfig = self.user_kubeconfig("admin", ["system:masters"])
        for name in ("logs", "kubectl-cache"):
            (self.folder / name).mkdir()
        self.etcd = self._etcd()
        self.apiserver = self._apiserver()
        self.controller_manager = self._controller_manager()
        self.scheduler = self._scheduler() if self._with_scheduler else None

    def _start(self) -> None:
        for server in (self.etcd, self.apiserver):
            self._stack.callback(server.stop)
            server.start()
        self.apiserver.wait_until(self.is_ready)
        for client in filter(None, (self.controller_manager, self.scheduler)):
            # They keep nothing: no need to let them end in order.
            self._stack.callback(client.kill)
            client.start()
        self.controller_manager.wait_until(self._is_controlled)

    def server(self, name: str, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> Server:
        """One more program of this cluster, with its log beside the others'."""
        return Server(name, command, self.folder / "logs" / f"{name}.log", environment)

    def user_kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """The kubeconfig of a user, who may do what RBAC allows it."""
        (self.folder / "kubeconfigs").mkdir(exist_ok=True)
        file = self.folder / "kubeconfigs" / f"{user.replace(':', '-')}.yaml"
        return self.authority.kubeconfig(file, self.url, user, groups)

    def _etcd(self) -> Server:
        client, peer = (f"http://{self.address}:{self._ports[name]}" for name in ("etcd", "peer"))
        command = [
            self.programs["etcd"],
            f"--data-dir={self.folder / 'etcd'}",
            "--name=test",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=test={peer}",
            # Nothing here has to survive the machine.
            "--unsafe-no-fsync",
        ]
        return self.server("etcd", command)

    def _apiserver(self) -> Server:
        service_address = str(ipaddress.ip_network(self.services)[1])
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        hosts = [*names, self.address, "127.0.0.1", service_address]
        certificate, key = self.authority.issue("apiserver", "kube-apiserver", hosts=hosts)
        kubelet = self.authority.issue("apiserver-kubelet", "kube-apiserver-kubelet", ["system:masters"])
        self._service_account_keys = self.authority.key_pair("service-accounts")
        private, public = self._service_account_keys
        command = [
            self.programs["kube-apiserver"],
            f"--etcd-servers=http://{self.address}:{self._ports['etcd']}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={self._ports['apiserver']}",
            # The `kubernetes` Service may not point to a loopback address.
            f"--endpoint-reconciler-type={'none' if self.address.startswith('127.') else 'lease'}",
            f"--service-cluster-ip-range={self.services}",
            f"--client-ca-file={self.authority.certificate}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--kubelet-client-certificate={kubelet[0]}",
            f"--kubelet-client-key={kubelet[1]}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--profiling=false",
            *self._flags,
        ]
        return self.server("kube-apiserver", command)

    def _controller_manager(self) -> Server:
        command = [
            self.programs["kube-controller-manager"],
            f"--kubeconfig={self.user_kubeconfig('system:kube-controller-manager')}",
            f"--service-account-private-key-file={self._service_account_keys[0]}",
            f"--root-ca-file={self.authority.certificate}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--secure-port=0",
            *QUEUES,
            *self._controller_manager_flags,
        ]
        return self.server("kube-controller-manager", command)

    def _scheduler(self) -> Server:
        client = {"kubeconfig": str(self.user_kubeconfig("system:kube-scheduler")), "qps": 1000, "burst": 2000}
        config = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": client,
            "leaderElection": {"leaderElect": False},
        }
        file = self.folder / "scheduler.yaml"
        file.write_text(yaml.safe_dump(config))
        command = [self.programs["kube-scheduler"], f"--config={file}", "--secure-port=0"]
        return self.server("kube-scheduler", command)

    def is_ready(self) -> bool:
        """Does the API server say that it is ready?"""
        return self.read("/readyz") is not None

    def _is_controlled(self) -> bool:
        return self.read("/api/v1/namespaces/default/serviceaccounts/default") is not None

    def read(self, path: str) -> bytes | None:
        """What the API server answers to a GET as administrator; None when it refuses, or does not answer."""
        context = ssl.create_default_context(cafile=self.authority.certificate)
        context.load_cert_chain(self.authority.folder / "admin.crt", self.authority.folder / "admin.key")
        direct = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with direct.open(self.url + path, timeout=5) as answer:
                return bytes(answer.read())
        except (urllib.error.URLError, OSError):
            return None

    def restart_apiserver(self, *, kill: bool = False) -> None:
        """End the API server (`kill`: without a farewell), start it again at the same address, wait for it."""
        self.stop_apiserver(kill=kill)
        self.start_apiserver()

    def stop_apiserver(self, *, kill: bool = False) -> None:
        """End the API server; `kill`: without a farewell."""
        self.apiserver.kill() if kill else self.apiserver.stop(grace=30)

    def start_apiserver(self) -> None:
        """Start the API server again and wait until it is ready."""
        self.apiserver.start()
        self.apiserver.wait_until(self.is_ready)

    def restart_etcd(self, *, kill: bool = False) -> None:
        """End etcd (`kill`: without a farewell), start it again with the same data, wait for the API server."""
        self.etcd.kill() if kill else self.etcd.stop()
        self.etcd.start()
        self.apiserver.wait_until(self.is_ready)

    @contextlib.contextmanager
    def paused_apiserver(self) -> Iterator[None]:
        """The API server accepts connections, and answers nothing."""
        self.apiserver.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.apiserver.signal(signal.SIGCONT)

    def environment(self) -> dict[str, str]:
        """The environment of a program that is to use this cluster as administrator."""
        path = f"{self.programs['kubectl'].parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return without_proxies() | {"KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def kubectl(self, *arguments: str | Path, stdin: str | None = None, seconds: float = 120.0) -> str:
        """What kubectl prints. Raises `ClusterError` with its message when it fails."""
        command = [self.programs["kubectl"], f"--cache-dir={self.folder / 'kubectl-cache'}", *arguments]
        finished = subprocess.run(
            [str(part) for part in command],
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        if finished.returncode:
            raise ClusterError(f"kubectl {' '.join(map(str, arguments))}: {finished.stderr.strip()}")
        return finished.stdout

    def refusal(self, manifest: dict[str, Any], *options: str) -> str:
        """Why the API server would not create it; empty where it would."""
        try:
            self.kubectl("create", "--dry-run=server", *options, "-f", "-", stdin=json.dumps(manifest))
        except ClusterError as error:
            return str(error)
        return ""

    def get(self, *arguments: str) -> Any:
        """What `kubectl get ARGUMENTS -o json` prints, as Python values."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *manifests: dict[str, Any], namespace: str | None = None) -> None:
        """Server-side apply of `manifests`. Raises `ClusterError` with the API server's answer."""
        into = [f"--namespace={namespace}"] if namespace else []
        self.kubectl("apply", "--server-side", *into, "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def install_crds(self, folder: Path = CRDS) -> None:
        """Apply the CRDs of `folder` and wait until they are served.

        Raises `ClusterError` with the API server's answer when it takes one only in part, or not at all.
        """
        files = sorted(folder.glob("*.yaml"))
        self.kubectl("apply", "--server-side", "--force-conflicts", *(f"--filename={file}" for file in files))
        names = [f"crd/{yaml.safe_load(file.read_text())['metadata']['name']}" for file in files]
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
        for name in names:
            for condition in self.get(name)["status"]["conditions"]:
                if condition["type"] == "NonStructuralSchema" and condition["status"] == "True":
                    raise ClusterError(f"{name}: {condition['message']}")


def _free_port(address: str) -> int:
    """A port that nobody listens on, from below the range that outgoing connections use."""
    for port in random.sample(range(20000, 32000), 100):
        with socket.socket() as probe:
            # As a server does: a port that a killed server has just left may be taken again.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((address, port))
                return port
    raise ClusterError(f"no free port at {address} between 20000 and 32000")
