"""The places of runtimes that resources share: who holds them and who asks for one, as of each resource's last look.

All looks happen in one process, and between reading this and writing it nothing else runs: so two resources never take
the same place. A look that fails keeps what it took, until the next one of the same resource says otherwise.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubedistill_api.reconcile import ACTIVE
from kubedistill_api.runtime import LimitsSpec
from kubedistill_api.status import JobStatus
from kubedistill_api.turns import Claim, Places, Turns, granted
from kubedistill_operator.settle import Place
from kubedistill_operator.store import Key, Store


@dataclass(frozen=True)
class Share:
    """One resource's part of a runtime."""

    runtime: Place
    held: int
    claims: tuple[Claim, ...]


def stages_held(store: Store, item: dict[str, Any]) -> set[str]:
    """Stages of a resource that hold a place, as its status and its children say."""
    stages = (item.get("status") or {}).get("stages", ())
    active = {stage["name"] for stage in stages if stage.get("state") in ACTIVE}
    return active | store.living_stages(item["metadata"]["uid"])


class Ledger:
    """Shares by resource. A resource that is deleted gives its places back at once, though its pods may take their
    grace period."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._shares: dict[Key, Share] = {}
        self._held: dict[Place, Counter[str]] = {}
        self._claims: dict[Place, dict[Key, tuple[Claim, ...]]] = {}
        self._changed: set[Place] = set()

    def take_stock(self) -> None:
        """What a new operator finds: places that were taken before it looked at anybody."""
        for key in self._store.resources():
            item = self._store.get(*key) or {}
            status = item.get("status") or {}
            runtime = status.get("runtime")
            if not runtime:
                continue
            stages = status.get("stages", ())
            held = stages_held(self._store, item)
            asked = ((stage["name"], stage.get("waitingSince")) for stage in stages)
            claims = [_claim(key, name, datetime.fromisoformat(since)) for name, since in asked if since]
            self._put(key, Share(runtime_place(key, runtime["kind"], runtime["name"]), len(held), tuple(claims)))

    def seen(self, key: Key, status: JobStatus, living: Iterable[str]) -> None:
        """What a look at a resource came to; `living` are the stages that have a living child."""
        if status.runtime is None:
            self.forget(key)
            return
        held = {stage.name for stage in status.stages if stage.state in ACTIVE}.union(living)
        asked = ((stage.name, stage.waiting_since) for stage in status.stages)
        claims = tuple(_claim(key, name, since) for name, since in asked if since)
        self._put(key, Share(runtime_place(key, status.runtime.kind, status.runtime.name), len(held), claims))

    def forget(self, key: Key) -> None:
        """The resource is gone."""
        self._put(key, None)

    def withdraw(self, key: Key) -> None:
        """The resource cannot take its turn for now: it must not keep others from theirs."""
        if share := self._shares.get(key):
            self._put(key, Share(share.runtime, share.held, ()))

    def turns(self, key: Key, runtime: Place, settled: LimitsSpec) -> Turns | None:
        """The runtime's places as a resource finds them; None where they are not bounded. The runtime's present limits
        hold, and those that the resource settled on where it is gone."""
        places = self._places(runtime) or bounds(settled)
        if not places.bounded:
            return None
        held = Counter(self._held.get(runtime, Counter()))
        share = self._shares.get(key)
        if share and share.runtime == runtime:
            held[key.namespace] -= share.held
        others = (claims for other, claims in self._claims.get(runtime, {}).items() if other != key)
        claims = tuple(claim for of_one in others for claim in of_one)
        return Turns(f"{runtime[0]} {runtime[2]}", places, key.namespace, key, held, claims)

    def asking(self, runtime: Place) -> int:
        """How many resources ask for a place."""
        return len(self._claims.get(runtime, ()))

    def changed(self, runtime: Place) -> None:
        """The runtime changed."""
        self._changed.add(runtime)

    def next(self) -> Iterator[Key]:
        """Whose turn it has become since this was asked last."""
        for runtime in self._changed:
            claims = self._claims.get(runtime)
            if not claims:
                continue
            places = self._places(runtime) or Places()
            asked = (claim for of_one in claims.values() for claim in of_one)
            for claim in granted(places, self._held.get(runtime, {}), asked):
                yield Key(*claim.who)
        self._changed.clear()

    def _places(self, runtime: Place) -> Places | None:
        item = self._store.get(*runtime)
        if item is None:
            return None
        limits: Mapping[str, Any] = (item.get("spec") or {}).get("limits") or {}
        return Places(limits.get("maxStages"), limits.get("maxStagesPerNamespace"))

    def _put(self, key: Key, share: Share | None) -> None:
        before = self._shares.get(key)
        if share and not (share.held or share.claims):
            share = None
        if share == before:
            return
        for one, sign in ((before, -1), (share, 1)):
            if one:
                self._held.setdefault(one.runtime, Counter())[key.namespace] += sign * one.held
                self._claims.setdefault(one.runtime, {}).pop(key, None)
                self._changed.add(one.runtime)
        if share:
            self._shares[key] = share
            if share.claims:
                self._claims[share.runtime][key] = share.claims
        else:
            self._shares.pop(key, None)


def bounds(limits: LimitsSpec) -> Places:
    return Places(limits.max_stages, limits.max_stages_per_namespace)


def runtime_place(key: Key, kind: str, name: str) -> Place:
    """The runtime of that kind and name for a resource."""
    return kind, "" if kind == "ClusterDistillationRuntime" else key.namespace, name


def _claim(key: Key, stage: str, since: datetime) -> Claim:
    return Claim(since, key.namespace, key, stage)
