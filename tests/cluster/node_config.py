"""Configuration files of the programs on a node. Pure."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import images
from tests.cluster.enclave import Network

CNI_BINARIES = Path("/usr/lib/cni")


def containerd(folder: Path, runc: Path, snapshotter: str) -> str:
    """config.toml of containerd, version 3."""
    return f"""
version = 3
root = "{folder}/containerd"
state = "{folder}/containerd-state"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
address = "{folder}/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "{snapshotter}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{images.SANDBOX}"

[plugins."io.containerd.cri.v1.runtime"]
# A process without CAP_SYS_RESOURCE may only raise its own score.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{CNI_BINARIES}"]
conf_dir = "{folder}/cni"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""


def cni(folder: Path, network: Network) -> str:
    """The pods' network. Each pod has a link of its own to the node: answers from a Service's pod to another pod pass
    the node, which translates them back; over a bridge they would not."""
    addresses = {
        "type": "host-local",
        "dataDir": f"{folder}/cni-addresses",
        "ranges": [[{"subnet": str(network.pods)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [{"type": "ptp", "ipam": addresses}]
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins})


def kubelet(folder: Path, network: Network, cgroup: str, authority: Path) -> str:
    """KubeletConfiguration."""
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "clusterDNS": [str(network.inside)],
        "clusterDomain": "cluster.local",
        "resolvConf": f"{folder}/resolv.conf",
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "makeIPTablesUtilChains": False,
        "podLogsDir": f"{folder}/pod-logs",
        "volumePluginDir": f"{folder}/volume-plugins",
        # The machine's disk and memory are not this node's to judge.
        "evictionHard": {"nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
    }
    return yaml.safe_dump(config)


def kube_proxy(kubeconfig: Path, network: Network) -> str:
    """KubeProxyConfiguration."""
    unlimited = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": str(network.pods),
        "detectLocalMode": "ClusterCIDR",
        # Zero leaves the kernel's own values, which all of the machine shares.
        "conntrack": unlimited,
    }
    return yaml.safe_dump(config)


def corefile(kubeconfig: Path, network: Network) -> str:
    """CoreDNS's Corefile. Nothing is cached: a pod's name is there as soon as the pod has an address."""
    return f""".:53 {{
    bind {network.inside}
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig} test
        ttl 0
    }}
}}
"""
