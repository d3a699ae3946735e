"""What kopf does: it watches, and passes on what it sees. Every decorator is here, and nothing else is.

Only `on.event` is used: no finalizers, no annotations, no handler state. What to do is decided elsewhere, from what
is there and not from what changed.
"""

import asyncio
from typing import Any

import kopf

from kubedistill_api.base import GROUP, VERSION
from kubedistill_operator.app import App
from kubedistill_operator.cluster import PAGE
from kubedistill_operator.kinds import PLURALS
from kubedistill_operator.names import SELECTOR
from kubedistill_operator.settings import Settings
from kubedistill_operator.signs import CYCLE_S, Signs
from kubedistill_operator.stateless import NoDifference, NoMemories, NoProgress

WATCHED = {
    **{kind: (GROUP, VERSION, plural) for kind, plural in PLURALS.items()},
    "Job": ("batch", "v1", "jobs"),
    "Pod": ("", "v1", "pods"),
    "ConfigMap": ("", "v1", "configmaps"),
    "Lease": ("coordination.k8s.io", "v1", "leases"),
}
OURS = ("Job", "Pod", "ConfigMap")
SERVER_TIMEOUT_S = CYCLE_S
CONNECT_TIMEOUT_S = 30
IDLE_S = 0.1
"""The task of an object holds what it saw last for so long."""


def registry(app: App) -> kopf.OperatorRegistry:
    """The handlers that pass on what the watches see."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    for kind, resource in WATCHED.items():

        @kopf.on.event(*resource, registry=handlers, param=kind, id=kind)
        async def observed(event: Any, param: Any = None, **_: Any) -> None:
            app.observed(param, event["type"], event["object"])

    return handlers


class _Everything(frozenset[Any]):
    """kopf takes every task of the loop that is younger than itself for its own, and cancels it when it ends."""

    def __contains__(self, task: object) -> bool:
        return True


async def watch(app: App, stop: asyncio.Event) -> None:
    """Watches until `stop` is set, or a signal asks the process to end."""
    settings = app.settings
    tasks = await kopf.spawn_tasks(
        registry=registry(app),
        settings=operator_settings(settings, app.signs),
        memories=NoMemories(),
        clusterwide=not settings.watched_namespaces,
        namespaces=settings.watched_namespaces,
        standalone=True,
        stop_flag=stop,
    )
    await kopf.run_tasks(tasks, ignored=_Everything())


def operator_settings(settings: Settings, signs: Signs) -> kopf.OperatorSettings:
    """kopf's own settings."""
    kinds = {resource: kind for kind, resource in WATCHED.items()}

    def begins(resource: kopf.Resource) -> bool:
        """Selects nothing: kopf asks for the selectors of a resource whenever it begins a watch. One that fails for
        long ends the operator, and one that hangs is cut off by kopf for want of bookmarks.

        Each watch is a task of its own, which kopf names by resource and namespace."""
        task = asyncio.current_task()
        if task and (kind := kinds.get((resource.group, resource.version, resource.plural))):
            signs.began(kind, task.get_name())
        return False

    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.queueing.idle_timeout = IDLE_S
    chosen.persistence.diffbase_storage = NoDifference()
    chosen.persistence.progress_storage = NoProgress()
    chosen.watching.server_timeout = SERVER_TIMEOUT_S
    chosen.watching.client_timeout = SERVER_TIMEOUT_S + 10
    chosen.watching.connect_timeout = CONNECT_TIMEOUT_S
    chosen.watching.chunk_size = PAGE
    chosen.watching.label_selectors[begins] = ""
    for kind in OURS:
        chosen.watching.label_selectors[WATCHED[kind]] = SELECTOR
    chosen.watching.field_selectors[WATCHED["Lease"]] = (
        f"metadata.name={settings.lease_name},metadata.namespace={settings.lease_namespace}"
    )
    # Namespaces and CRDs are not ours to list where the operator serves a few namespaces only.
    chosen.scanning.disabled = bool(settings.namespaces)
    return chosen
