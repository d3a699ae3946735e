"""What a person would see meanwhile: the API server is looked at all the time, and each change kept with its moment."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.chart.chart_case import NAMESPACE
from tests.cluster.controlplane import ControlPlane

Object = dict[str, Any]

LOOK_S = 0.4
NOT_NEWS = ("StageRunning", "StageSucceeded", "Complete")
"""Events of a job that nothing happens to."""
JOBS = "/apis/kubedistill.io/v1alpha1/namespaces/{}/distillationjobs/demo"
EVENTS = "/api/v1/namespaces/{}/events"
NODES = "/api/v1/nodes"
OPERATOR = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/component%3Doperator"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/kubedistill-operator"


@dataclass(frozen=True)
class Seen:
    """From `moment` on, `what` holds of `where`: a tenant, the node, the operator, the API server."""

    moment: float
    where: str
    what: str


class Watch:
    """Looks until it is ended."""

    def __init__(self, cluster: ControlPlane, namespaces: Sequence[str]) -> None:
        self._cluster = cluster
        self._namespaces = namespaces
        self._seen: list[Seen] = []
        self._last: dict[str, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_for_ever, daemon=True)
        self.status: dict[str, Object] = {}
        """The newest status of each tenant's job."""
        self.renewed = 0.0
        """When the operator last renewed its Lease."""

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def since(self, moment: float) -> list[Seen]:
        """What was seen from the moment on, Events included, in the order of time."""
        events = [seen for namespace in self._namespaces for seen in self._events(namespace, moment)]
        return sorted((s for s in [*self._seen, *events] if s.moment >= moment), key=lambda seen: seen.moment)

    def has_told(self, what: str, moment: float) -> bool:
        """Whether the jobs of all tenants told of it since the moment, as a reason or in an Event."""
        told = {seen.where for seen in self.since(moment) if what in seen.what}
        return set(self._namespaces) <= told

    def _look_for_ever(self) -> None:
        while not self._over.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        nodes = self._read(NODES)
        self._note("the API server", "" if nodes else "does not answer")
        if not nodes:
            return
        for node in nodes["items"]:
            ready = next((c for c in node["status"]["conditions"] if c["type"] == "Ready"), {"status": "True"})
            self._note("the node", "" if ready["status"] == "True" else "NotReady")
        for namespace in self._namespaces:
            if job := self._read(JOBS.format(namespace)):
                self.status[namespace] = job.get("status") or {}
                self._note(namespace, _reasons(self.status[namespace]))
        if pods := self._read(OPERATOR):
            self._note("the operator's pod", "; ".join(filter(None, map(_trouble, pods["items"]))) or _none(pods))
        if (lease := self._read(LEASE)) and (renewed := lease["spec"].get("renewTime")):
            self.renewed = datetime.fromisoformat(renewed).timestamp()

    def _events(self, namespace: str, moment: float) -> Iterator[Seen]:
        for event in (self._read(EVENTS.format(namespace)) or {"items": []})["items"]:
            when = event.get("lastTimestamp") or event.get("eventTime")
            ours = event.get("reportingComponent") == "kubedistill-operator" and event["reason"] not in NOT_NEWS
            # Events are of whole seconds.
            if ours and when and datetime.fromisoformat(when).timestamp() >= int(moment):
                yield Seen(max(moment, datetime.fromisoformat(when).timestamp()), namespace, f"Event {event['reason']}")

    def _read(self, path: str) -> Object | None:
        found = self._cluster.read(path)
        return json.loads(found) if found else None

    def _note(self, where: str, what: str) -> None:
        if self._last.get(where, "") != what:
            self._last[where] = what
            self._seen.append(Seen(time.time(), where, what))


def _reasons(status: Object) -> str:
    """Why a job does not go on, where it does not: its own reason and those of its stages."""
    own = status.get("summary", {}).get("reason", "")
    stages = (s for s in status.get("stages", ()) if s["state"] in ("Waiting", "Starting", "Running", "Failed"))
    told = [f"{s['name']} {s['reason']}" for s in stages if s.get("reason") and s["reason"] != "WaitingForStages"]
    return "; ".join(dict.fromkeys(filter(None, [own, *told])))


def _trouble(pod: Object) -> str:
    """What is wrong with the operator's pod."""
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for container in pod["status"].get("containerStatuses", ()):
        if waiting := container["state"].get("waiting"):
            return str(waiting.get("reason", "waiting"))
        if ended := container["state"].get("terminated"):
            return f"exit code {ended['exitCode']}"
        if not container["ready"]:
            return "not ready"
    return "" if pod["status"].get("phase") == "Running" else str(pod["status"].get("phase"))


def _none(pods: Object) -> str:
    return "" if pods["items"] else "gone"
