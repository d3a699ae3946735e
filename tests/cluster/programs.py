"""Which programs the test cluster is made of, and how each is built from a Go module."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "v1.36.3"
TOOLS = Path(__file__).with_name("tools")
DEBIAN_PACKAGES = {
    "runc": "runc",
    "busybox": "busybox-static",
    "nft": "nftables",
    "ip": "iproute2",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
}
"""What the node takes from Debian: a program (or a file) and the package that has it."""


@dataclass(frozen=True)
class Program:
    """One program. From `module`, a folder of ours with go.mod and go.sum, or else by `go install package@version`."""

    name: str
    package: str
    version: str
    minutes: float
    """Time to build with nothing cached on 2 cores, for people who wait."""
    module: Path | None = None
    ldflags: str = ""


def _kubernetes(name: str, minutes: float) -> Program:
    stamp = f"-X k8s.io/component-base/version.gitVersion={KUBERNETES}"
    return Program(name, f"k8s.io/kubernetes/cmd/{name}", KUBERNETES, minutes, TOOLS / "kubernetes", stamp)


def _containerd(name: str, minutes: float) -> Program:
    package = "github.com/containerd/containerd/v2"
    stamp = f"-X {package}/version.Version=v2.4.2"
    return Program(name, f"{package}/cmd/{name}", "v2.4.2", minutes, ldflags=stamp)


_ALL = (
    Program("etcd", "go.etcd.io/etcd/server/v3", "v3.7.3", 0.5, TOOLS / "etcd"),
    _kubernetes("kube-apiserver", 4),
    _kubernetes("kube-controller-manager", 1),
    _kubernetes("kubectl", 0.5),
    _kubernetes("kube-scheduler", 0.2),
    _kubernetes("kubelet", 0.5),
    _kubernetes("kube-proxy", 0.2),
    _containerd("containerd", 1),
    _containerd("containerd-shim-runc-v2", 0.2),
    _containerd("ctr", 0.2),
    Program("coredns", "github.com/coredns/coredns", "v1.12.4", 2),
    Program("kwok", "sigs.k8s.io/kwok/cmd/kwok", "v0.8.0", 1),
)
_HELM = Program("helm", "helm.sh/helm/v4/cmd/helm", "v4.3.1", 2)
PROGRAMS = {program.name: program for program in (*_ALL, _HELM)}

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
NODE = (
    "kube-scheduler",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "kubelet",
    "kube-proxy",
    "coredns",
)
KWOK = ("kube-scheduler", "kwok")
ALONE = ("helm",)
"""Not parts of the cluster: a change of their versions leaves it as it is."""


def pins() -> str:
    """Names one set of programs: any change of a version or of a module's go.sum gives another."""
    digest = hashlib.sha256()
    for program in _ALL:
        digest.update(f"{program.name} {program.package}@{program.version} {program.ldflags}\n".encode())
    for file in sorted(TOOLS.glob("*/go.*")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
