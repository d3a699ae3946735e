"""Nodes, read when a pod of theirs is suspect. They are not watched: there are many, and they change all the time."""

import logging
import time

from kubedistill_operator.cluster import ApiError, Cluster, NotFound, Unavailable
from kubedistill_operator.lost import Object, Unknown

log = logging.getLogger(__name__)

FRESH_S = 10.0


class Nodes:
    """Nodes by name, each read again after a while."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, tuple[float, Object | Unknown | None]] = {}
        self._warned = False

    async def get(self, name: str) -> Object | Unknown | None:
        """The node, None where it is gone, Unknown where the operator may not read it."""
        now = time.monotonic()
        self._known = {key: known for key, known in self._known.items() if now - known[0] < FRESH_S}
        if name not in self._known:
            self._known[name] = (now, await self._read(name))
        return self._known[name][1]

    async def _read(self, name: str) -> Object | Unknown | None:
        try:
            return await self._cluster.get("Node", None, name)
        except NotFound:
            return None
        except Unavailable:
            raise
        except ApiError as error:
            if not self._warned:
                log.warning("nodes cannot be read, so that a lost one is found out late: %s", error)
                self._warned = True
            return Unknown()
