"""One operator acts at a time: a Lease that is held, renewed, and given back."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kubedistill_operator.cluster import ApiError, Cluster, Conflict, NotFound

log = logging.getLogger(__name__)

DURATION_S = 45
RENEW_S = 5.0
TRY_S = 2.0


class LeaseLost(Exception):
    """Another operator holds the Lease, or it could not be renewed in time: this one must stop at once."""


class Lease:
    """A Lease of coordination.k8s.io. Whether it has expired is judged by how long it was seen unchanged, so that
    clocks need not agree."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, identity: str, now: Callable[[], float]) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._now = now
        self._held: dict[str, Any] | None = None

    async def acquire(self) -> None:
        """Returns once the Lease is this operator's."""
        seen: tuple[str, float] | None = None
        while True:
            try:
                lease = await self._cluster.get("Lease", self._namespace, self._name)
            except NotFound:
                if await self._create():
                    return
                continue
            holder = lease["spec"].get("holderIdentity")
            version = lease["metadata"]["resourceVersion"]
            if seen is None or seen[0] != version:
                seen = (version, self._now())
                if holder and holder != self._identity:
                    log.info("waiting for the lease %s/%s, held by %s", self._namespace, self._name, holder)
            expired = self._now() - seen[1] > lease["spec"].get("leaseDurationSeconds", DURATION_S)
            if (not holder or holder == self._identity or expired) and await self._take(lease):
                return
            await asyncio.sleep(TRY_S)

    async def keep(self) -> None:
        """Renews for ever. Raises LeaseLost."""
        renewed = self._now()
        while True:
            await asyncio.sleep(RENEW_S)
            left = DURATION_S - RENEW_S - (self._now() - renewed)
            try:
                # A server that hangs must not make this operator believe longer than others do that it holds the Lease.
                async with asyncio.timeout(max(0.0, left)):
                    if not await self._renew():
                        raise LeaseLost(f"the lease {self._namespace}/{self._name} was taken over")
                renewed = self._now()
            except (ApiError, TimeoutError) as error:
                if self._now() - renewed >= DURATION_S - RENEW_S:
                    raise LeaseLost(f"the lease could not be renewed in {DURATION_S} s: {error}") from error

    async def release(self) -> None:
        """Gives it back, so that the next operator need not wait."""
        if self._held:
            self._held["spec"]["holderIdentity"] = ""
            try:
                await self._cluster.replace(self._held)
            except ApiError as error:
                log.info("the lease was not given back: %s", error)

    async def _renew(self) -> bool:
        """False where another operator holds it. A renewal whose answer was lost is a Conflict with oneself."""
        try:
            if await self._take(self._held or {}):
                return True
            lease = await self._cluster.get("Lease", self._namespace, self._name)
        except NotFound:
            return await self._create()
        return lease["spec"].get("holderIdentity") == self._identity and await self._take(lease)

    async def _create(self) -> bool:
        metadata = {"name": self._name, "namespace": self._namespace}
        manifest = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": self._spec()}
        try:
            self._held = await self._cluster.create(manifest)
        except Conflict:
            return False
        return True

    async def _take(self, lease: dict[str, Any]) -> bool:
        try:
            self._held = await self._cluster.replace({**lease, "kind": "Lease", "spec": self._spec()})
        except Conflict:
            return False
        return True

    def _spec(self) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"holderIdentity": self._identity, "leaseDurationSeconds": DURATION_S, "renewTime": now}
