"""One real node: containerd, kubelet, kube-proxy and CoreDNS beside a control plane, all on this machine."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster import build, folders, images, node_config, packages
from tests.cluster.controlplane import ControlPlane
from tests.cluster.enclave import Enclave, EnclaveServer
from tests.cluster.errors import ClusterError
from tests.cluster.host_runtime import tenant
from tests.cluster.processes import wait_until
from tests.cluster.programs import NODE as PROGRAMS

NAME = "test-node"


def why_not() -> str | None:
    """Why this machine cannot have a node; None when it can."""
    if sys.platform != "linux":
        return "a node needs Linux"
    if os.geteuid() != 0:
        return "a node needs root"
    return None


class Node:
    """A control plane and a node that runs pods.

    Pods' and Services' addresses can be reached from this machine. Everything ends with it, or with the process that
    owns it, however that ends.
    """

    cluster: ControlPlane

    def __init__(self) -> None:
        if reason := why_not():
            raise ClusterError(reason)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        packages.ensure()
        self.programs = build.find_all(PROGRAMS)
        with self._stack:
            self.folder = folders.make()
            self._stack.callback(folders.remove, self.folder)
            self.enclave = Enclave(self.folder)
            self._stack.callback(self.enclave.stop)
            self.enclave.start()
            self.network = self.enclave.network
            self.cluster = self._stack.enter_context(
                ControlPlane(
                    address=str(self.network.outside),
                    services=str(self.network.services),
                    scheduler=True,
                    folder=self.folder,
                )
            )
            # Callbacks run in reverse: the pods end before the API server that they may talk to.
            self._stack.callback(self.enclave.stop)
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        self._allow_reading("coredns")
        self.containerd = self._containerd()
        self.kubelet = self._kubelet()
        self.kube_proxy = self._kube_proxy()
        self.coredns = self._coredns()
        for server in (self.containerd, self.kube_proxy, self.coredns):
            server.start()
        self.containerd.wait_until(self._is_containerd_ready)
        self._import_images()
        self.kubelet.start()
        self.kubelet.wait_until(self.is_ready)

    def _write(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return path

    def _server(self, name: str, *arguments: str) -> EnclaveServer:
        folders = {str(program.parent) for program in self.programs.values()}
        path = os.pathsep.join([*sorted(folders), os.environ.get("PATH", os.defpath)])
        log = self.folder / "logs" / f"{name}.log"
        return self.enclave.server(name, [self.programs[name], *arguments], log, {"PATH": path})

    def _containerd(self) -> EnclaveServer:
        runc = shutil.which("runc")
        assert runc
        # An overlay on an overlay is refused: inside a container the layers are copied.
        kind = subprocess.run(
            ["stat", "--file-system", "--format=%T", self.folder], capture_output=True, text=True
        ).stdout.strip()
        snapshotter = "native" if kind == "overlayfs" else "overlayfs"
        config = self._write("containerd.toml", node_config.containerd(self.folder, Path(runc), snapshotter))
        self._write("cni/10-pods.conflist", node_config.cni(self.folder, self.network))
        return self._server("containerd", f"--config={config}")

    def _kubelet(self) -> EnclaveServer:
        self._write("resolv.conf", "")
        content = node_config.kubelet(
            self.folder, self.network, self.enclave.cgroup, self.cluster.authority.certificate
        )
        config = self._write("kubelet.yaml", content)
        kubeconfig = self.cluster.user_kubeconfig(f"system:node:{NAME}", ["system:nodes"])
        return self._server(
            "kubelet",
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--cert-dir={self.folder / 'kubelet-pki'}",
            f"--hostname-override={NAME}",
            f"--node-ip={self.network.inside}",
        )

    def _kube_proxy(self) -> EnclaveServer:
        kubeconfig = self.cluster.user_kubeconfig("system:kube-proxy")
        config = self._write("kube-proxy.yaml", node_config.kube_proxy(kubeconfig, self.network))
        return self._server("kube-proxy", f"--config={config}", f"--hostname-override={NAME}")

    def _coredns(self) -> EnclaveServer:
        kubeconfig = self.cluster.user_kubeconfig("coredns")
        config = self._write("Corefile", node_config.corefile(kubeconfig, self.network))
        return self._server("coredns", f"-conf={config}")

    def _allow_reading(self, user: str) -> None:
        """Let CoreDNS watch what it answers from."""
        group = "rbac.authorization.k8s.io"
        rules = [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ]
        role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules}
        binding = {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": user},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        }
        self.cluster.apply(role, binding)

    def ctr(self, *arguments: str | Path) -> str:
        """What containerd's own client prints, for the namespace of Kubernetes."""
        command = [self.programs["ctr"], f"--address={self.folder}/containerd.sock", "--namespace=k8s.io", *arguments]
        return self.enclave.run(*command)

    def _is_containerd_ready(self) -> bool:
        try:
            self.ctr("version")
        except ClusterError:
            return False
        return True

    def _import_images(self) -> None:
        busybox = shutil.which("busybox")
        assert busybox
        layers = {
            images.SANDBOX: (images.sandbox_layer(Path(busybox)), ["/bin/busybox", "sleep", "infinity"]),
            images.HOST: (images.host_layer(), ["/bin/sh"]),
        }
        for name, (layer, command) in layers.items():
            self.import_image(name, layer, command)

    def import_image(
        self, name: str, layer: images.Layer, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Give the node an image that is in no registry."""
        tar = images.write(self.folder / "image.tar", name, layer, command, environment)
        self.ctr("images", "import", tar)
        tar.unlink()

    def is_ready(self) -> bool:
        """Does the API server have the node as ready?"""
        nodes = self.cluster.get("nodes")["items"]
        conditions = {c["type"]: c["status"] for node in nodes for c in node["status"].get("conditions", [])}
        return conditions.get("Ready") == "True"

    def restart_kubelet(self, *, kill: bool = False) -> None:
        """End the kubelet and start it again; the pods go on. `kill`: without a farewell."""
        self.kubelet.kill() if kill else self.kubelet.stop()
        self.kubelet.start()
        self.kubelet.wait_until(self.is_ready)

    def stop(self) -> None:
        """End kubelet and containerd. The pods go on, and nobody tells of them."""
        self.kubelet.stop()
        self.containerd.stop()

    def cut_power(self) -> None:
        """End everything on the node at once, its pods too."""
        self.kubelet.kill()
        self.containerd.kill()
        # With the shims goes what they would tell of how the pods ended.
        for pid in [*self._shims(), *self._processes_of_pods()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def start_again(self) -> None:
        """Start what `stop` or `cut_power` ended, and wait until the node is ready."""
        self.containerd.start()
        self.containerd.wait_until(self._is_containerd_ready)
        self.kubelet.start()
        self.kubelet.wait_until(self.is_ready)

    def _shims(self) -> list[int]:
        mark = f"-address {self.folder}/containerd.sock"
        processes = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
        return [pid for pid in processes if "containerd-shim" in (line := _command(pid)) and mark in line]

    def _processes_of_pods(self) -> set[int]:
        groups = (hierarchy / self.folder.name for hierarchy in folders.cgroup_hierarchies())
        return {pid for group in groups for file in group.rglob("cgroup.procs") for pid in _members(file)}

    def add_tenant(self, namespace: str, level: str = "restricted", disk: str = "") -> None:
        """A namespace whose pods may use `host_runtime`, under a Pod Security level.

        Its claim `storage` is empty and belongs to user 1000. `disk`: it is a disk of its own of that size (`512m`), in
        memory.
        """
        path = self._claim(namespace)
        path.mkdir(parents=True, exist_ok=True)
        if disk:
            self.enclave.run("mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", path)
        os.chown(self.storage(namespace), images.USER, images.USER)
        self.cluster.apply(*tenant(namespace, level, path))
        bound = ("get", "pvc", "--namespace", namespace, "--output=jsonpath={.items[*].status.phase}")
        wait_until(lambda: self.cluster.kubectl(*bound) == "Bound Bound", f"the claims of {namespace}")

    def remove_tenant(self, namespace: str) -> None:
        """Delete what `add_tenant` made, without waiting for the namespace to be empty."""
        self.cluster.kubectl("delete", "namespace", namespace, "--wait=false")
        self.cluster.kubectl("delete", "pv", f"{namespace}-host", f"{namespace}-storage", "--wait=false")

    def storage(self, namespace: str) -> Path:
        """The folder behind the claim `storage` of a namespace."""
        return self.enclave.seen(self._claim(namespace))

    def _claim(self, namespace: str) -> Path:
        return self.folder / "claims" / namespace

    def pod_processes(self, namespace: str, pod: str) -> dict[int, str]:
        """Ids, as this machine has them, and command lines of a pod's running processes."""
        uid = self.cluster.get("pod", pod, "--namespace", namespace)["metadata"]["uid"]
        groups = (hierarchy / self.folder.name for hierarchy in folders.cgroup_hierarchies())
        files = (file for group in groups for file in group.rglob(f"*pod{uid}/**/cgroup.procs"))
        found = {pid: _command(pid) for file in files for pid in _members(file)}
        return {pid: command for pid, command in found.items() if command}


def _members(group: Path) -> list[int]:
    """Ids of the processes in a control group, by its file; none where the group is gone."""
    try:
        return [int(pid) for pid in group.read_text().split()]
    except OSError:
        return []


def _command(pid: int) -> str:
    """A process's command line; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""
