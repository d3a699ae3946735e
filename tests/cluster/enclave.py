"""A place of its own on this machine for a node: namespaces for its processes, mounts and network.

Everything in it ends when its first process does, and that one ends with its owner: no process, mount, address,
route or packet filter rule is left on the machine, however the owner ends.
"""

import contextlib
import ipaddress
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Self

from tests.cluster import folders
from tests.cluster.errors import ClusterError
from tests.cluster.processes import Server

INIT = Path(__file__).with_name("enclave_init.py")
RANGE = ipaddress.IPv4Network("10.231.0.0/16")
"""Each enclave of the machine has 1,024 addresses of it."""


@dataclass(frozen=True)
class Network:
    """An enclave's addresses. `outside` and `inside` are the two ends of its link to the machine."""

    link: str
    pods: IPv4Network
    services: IPv4Network
    outside: IPv4Address
    inside: IPv4Address

    @classmethod
    def number(cls, index: int) -> Self:
        pods, services, rest, _ = list(list(RANGE.subnets(new_prefix=22))[index].subnets(new_prefix=24))
        return cls(f"kdnode{index}", pods, services, rest[1], rest[2])


class EnclaveServer(Server):
    """A server inside: what this process starts is `nsenter`, whose child is the program."""

    @property
    def pid(self) -> int:
        outer = super().pid
        children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        if not children:
            raise ClusterError(f"{self.name} does not run")
        return int(children[0])


class Enclave:
    """Namespaces, a link to the machine, and a control group named like the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cgroup = f"/{folder.name}"
        isolate = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=SIGKILL", "--propagation=private"]
        command = [*isolate, "--", sys.executable, "-I", INIT, folder]
        self._first = Server("enclave", command, folder / "enclave.log")

    def start(self) -> None:
        """Make it. Raises `ClusterError` where the machine does not allow it."""
        self._first.start()
        pid = self.folder / "enclave.pid"
        self._first.wait_until(pid.is_file)
        self._pid = int(pid.read_text())
        self._make_cgroup()
        self.network = self._connect()

    def stop(self) -> None:
        """End everything in it. Returns when all its processes are gone."""
        with contextlib.suppress(AttributeError, ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._first.kill()

    def command(self, command: Sequence[str | Path]) -> list[str]:
        """The same command, run inside."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--net", "--pid", "--"]
        return [*enter, *(str(part) for part in command)]

    def run(self, *command: str | Path) -> str:
        """What a command prints that is run inside. Raises `ClusterError` when it fails."""
        return _run(self.command(command))

    def seen(self, path: Path) -> Path:
        """A path inside, as this machine reaches it also where something is mounted inside."""
        return Path(f"/proc/{self._pid}/root", path.relative_to("/"))

    def server(
        self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
    ) -> EnclaveServer:
        """A program that runs inside."""
        return EnclaveServer(name, self.command(command), log, environment)

    def _connect(self) -> Network:
        network = _free_network(self._pid)
        _run(["ip", "address", "add", f"{network.outside}/30", "dev", network.link])
        _run(["ip", "link", "set", network.link, "up"])
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "address", "add", f"{network.inside}/30", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        for reachable in (network.pods, network.services):
            _run(["ip", "route", "add", str(reachable), "via", str(network.inside)])
        # A packet to a Service that is not translated goes to the machine and is dropped there.
        self.run("ip", "route", "add", str(network.services), "via", str(network.outside))
        return network

    def _make_cgroup(self) -> None:
        """The group that all pods are in."""
        for hierarchy in folders.cgroup_hierarchies():
            group = hierarchy / self.folder.name
            controllers = hierarchy / "cgroup.controllers"
            if controllers.is_file():
                wanted = " ".join(f"+{name}" for name in controllers.read_text().split())
                (hierarchy / "cgroup.subtree_control").write_text(wanted)
            group.mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):
                # Version 1: a group has no processor until it is given some.
                if not controllers.is_file() and (group / name).is_file():
                    (group / name).write_text((hierarchy / name).read_text())


def _run(command: Sequence[str]) -> str:
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        raise ClusterError(f"{' '.join(command)}: {finished.stderr.strip()}")
    return finished.stdout


def _free_network(pid: int) -> Network:
    """Link the enclave of process `pid` to the machine with the first addresses that nobody uses."""
    routes = [route["dst"] for route in json.loads(_run(["ip", "-4", "-json", "route", "show", "table", "all"]))]
    used = [ipaddress.ip_network(to) for to in routes if to != "default"]
    for index in range(64):
        network = Network.number(index)
        mine = network.pods.supernet(new_prefix=22)
        if not any(mine.overlaps(other) for other in used):
            # Two that come at once ask for the same name, which only one of them gets.
            with contextlib.suppress(ClusterError):
                link = ["ip", "link", "add", network.link, "type", "veth", "peer", "name", "eth0", "netns", str(pid)]
                _run(link)
                return network
    raise ClusterError(f"no free addresses in {RANGE}, or no veth links: try `ip link add test type veth`")
