"""Nodes that are played: a pod bound to one runs and ends without anything being run.

How a pod ends is written in its annotations, which a role's pod template may carry:

| annotation | meaning | default |
|---|---|---|
| `kwok.test/seconds` | how long it runs: `5s`, `1m30s` | `0s` |
| `kwok.test/exit-code` | how its containers end | `0` |
| `kwok.test/message` | its termination message | the StageResult of its stage, without outputs |
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.cluster import build
from tests.cluster.controlplane import ControlPlane
from tests.cluster.processes import wait_until

SECONDS = "kwok.test/seconds"
EXIT_CODE = "kwok.test/exit-code"
MESSAGE = "kwok.test/message"
TAINT = {"key": "kwok.test/node", "value": "played", "effect": "NoSchedule"}
"""Of nodes made with `tainted`, where real ones exist beside them."""

MARK = {"kwok.x-k8s.io/node": "fake"}

_NODE_READY = """
conditions:
{{ range NodeConditions }}
- type: {{ .type | Quote }}
  status: {{ .status | Quote }}
  reason: {{ .reason | Quote }}
  message: {{ .message | Quote }}
  lastHeartbeatTime: {{ Now | Quote }}
  lastTransitionTime: {{ Now | Quote }}
{{ end }}
phase: Running
"""

_POD_RUNNING = """
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
{{ $own := PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace }}
podIP: {{ $own | Quote }}
conditions:
{{ range list "Initialized" "ContainersReady" "Ready" }}
- {type: {{ . }}, status: "True", lastTransitionTime: {{ $now | Quote }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  restartCount: 0
  ready: true
  started: true
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ end }}
"""

_POD_ENDED = """
{{ $now := Now }}
{{ $notes := or .metadata.annotations dict }}
{{ $labels := or .metadata.labels dict }}
{{ $stage := or (index $labels "kubedistill.io/stage") "" }}
{{ $digest := or (index $notes "kubedistill.io/digest") "" }}
{{ $code := or (index $notes "kwok.test/exit-code") "0" }}
{{ $result := dict "version" "v1alpha1" "stage" $stage "kind" (regexReplaceAll "-.*" $stage "") "digest" $digest
   "outputs" dict "started" .status.startTime "finished" $now }}
{{ $message := or (index $notes "kwok.test/message") (toJson $result) }}
{{ $root := . }}
phase: {{ if eq $code "0" }}Succeeded{{ else }}Failed{{ end }}
conditions:
{{ range list "ContainersReady" "Ready" }}
- {type: {{ . }}, status: "False", reason: PodCompleted, lastTransitionTime: {{ $now | Quote }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  restartCount: 0
  ready: false
  started: false
  state:
    terminated:
      exitCode: {{ $code }}
      reason: {{ if eq $code "0" }}Completed{{ else }}Error{{ end }}
      message: {{ $message | Quote }}
      startedAt: {{ $root.status.startTime | Quote }}
      finishedAt: {{ $now | Quote }}
{{ end }}
"""


def _stage(name: str, kind: str, conditions: list[tuple[str, str, list[str]]], **rest: Any) -> dict[str, Any]:
    expressions = [
        {"key": key, "operator": operator, **({"values": values} if values else {})}
        for key, operator, values in conditions
    ]
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": expressions},
            **rest,
        },
    }


def stages() -> list[dict[str, Any]]:
    """The life of a played node and of its pods."""
    deleted, phase = ".metadata.deletionTimestamp", ".status.phase"
    ready = '.status.conditions.[] | select( .type == "Ready" ) | .status'
    seconds = {"durationMilliseconds": 0, "durationFrom": {"expressionFrom": f'.metadata.annotations["{SECONDS}"]'}}
    return [
        _stage("node-ready", "Node", [(ready, "NotIn", ["True"])], next={"statusTemplate": _NODE_READY}),
        _stage(
            "pod-running",
            "Pod",
            [(deleted, "DoesNotExist", []), (phase, "In", ["Pending"])],
            next={"statusTemplate": _POD_RUNNING},
        ),
        _stage(
            "pod-ended",
            "Pod",
            [(deleted, "DoesNotExist", []), (phase, "In", ["Running"])],
            delay=seconds,
            next={"statusTemplate": _POD_ENDED},
        ),
        _stage("pod-deleted", "Pod", [(deleted, "Exists", [])], next={"finalizers": {"empty": False}, "delete": True}),
    ]


class Kwok:
    """kwok, and the nodes that it plays on a control plane with a scheduler."""

    def __init__(self, cluster: ControlPlane, nodes: int = 1, *, tainted: bool = False) -> None:
        self.cluster = cluster
        self.nodes = [f"played-{index}" for index in range(nodes)]
        self._tainted = tainted

    def __enter__(self) -> Self:
        config = self.cluster.folder / "kwok.yaml"
        config.write_text(yaml.safe_dump_all(stages()))
        command: list[str | Path] = [
            build.find("kwok"),
            f"--kubeconfig={self.cluster.kubeconfig}",
            f"--config={config}",
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--node-lease-duration-seconds=40",
            "--server-address=",
        ]
        self.server = self.cluster.server("kwok", command)
        self.cluster.apply(*(self._node(name) for name in self.nodes))
        self.server.start()
        self.server.wait_until(self._are_nodes_ready)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.kill()
        self.cluster.kubectl("delete", "node", "--ignore-not-found", *self.nodes)

    def _node(self, name: str) -> dict[str, Any]:
        room = {"cpu": "100k", "memory": "1000Ti", "pods": "100k", "nvidia.com/gpu": "100k"}
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "annotations": MARK, "labels": {"kubernetes.io/hostname": name}},
            "spec": {"taints": [TAINT] if self._tainted else []},
            "status": {"allocatable": room, "capacity": room},
        }

    def _are_nodes_ready(self) -> bool:
        return all(self._is_ready(name) for name in self.nodes)

    def _is_ready(self, name: str) -> bool:
        status = self.cluster.get("node", name)["status"]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))

    def lose_node(self, name: str) -> None:
        """Delete a node, as a cloud does whose machine is gone; its pods are lost with it."""
        self.cluster.kubectl("delete", "node", name)
        wait_until(lambda: name not in self.cluster.kubectl("get", "nodes"), f"the node {name} to go")
