"""Whose turn it is where the stages of many namespaces share a runtime's places. Pure.

A free place goes to the namespace with the fewest stages under way, among equals to whoever has waited longest. So a
namespace with a thousand jobs takes from one with a single job no more than every second place, and nobody waits for
ever: who holds nothing and has waited longest comes next.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import NamedTuple


class Claim(NamedTuple):
    """A stage that could start. Among equals in time the other fields decide, so that everybody sees one order."""

    since: datetime
    namespace: str
    who: tuple[str, ...]
    """The resource."""
    stage: str


@dataclass(frozen=True)
class Places:
    """How many there are; None is no bound."""

    total: int | None = None
    per_namespace: int | None = None

    @property
    def bounded(self) -> bool:
        return self.total is not None or self.per_namespace is not None


class Turn(NamedTuple):
    """Where a claim stands."""

    claim: Claim
    granted: bool
    before: int = 0
    """Claims that come first, of those that are not granted."""
    of_its_own: bool = False
    """It waits for its own namespace, which has as many as it may."""


def turns(places: Places, held: Mapping[str, int], claims: Iterable[Claim]) -> Iterator[Turn]:
    """Every claim's standing in the order of their turns, those that are granted first; `held` counts the places taken,
    by namespace.

    The order beyond the free places is what it would be if nobody ended and nobody came.
    """
    limit = places.per_namespace
    free = None if places.total is None else places.total - sum(held.values())
    lines: dict[str, list[Claim]] = defaultdict(list)
    for claim in sorted(claims, reverse=True):
        lines[claim.namespace].append(claim)
    taken = Counter(held)
    heads = [(taken[name], line[-1]) for name, line in lines.items() if limit is None or taken[name] < limit]
    heapq.heapify(heads)
    behind = 0
    while heads:
        count, claim = heapq.heappop(heads)
        is_free = free is None or free > 0
        yield Turn(claim, is_free, 0 if is_free else behind)
        if is_free:
            free = None if free is None else free - 1
        else:
            behind += 1
        line = lines[claim.namespace]
        line.pop()
        if line and (limit is None or count + 1 < limit):
            heapq.heappush(heads, (count + 1, line[-1]))
    for line in lines.values():
        for n, claim in enumerate(reversed(line)):
            yield Turn(claim, granted=False, before=n, of_its_own=True)


def granted(places: Places, held: Mapping[str, int], claims: Iterable[Claim]) -> list[Claim]:
    """Those whose turn it is."""
    if places.total is not None and sum(held.values()) >= places.total:
        return []
    return [turn.claim for turn in takewhile(lambda turn: turn.granted, turns(places, held, claims))]


@dataclass(frozen=True)
class Turns:
    """A runtime's places as one resource finds them."""

    runtime: str
    """Kind and name."""
    places: Places
    namespace: str
    who: tuple[str, ...]
    held: Mapping[str, int]
    """Places that other resources hold, by namespace."""
    claims: tuple[Claim, ...] = ()
    """What other resources claim."""

    def refusal(self, own: int, refused: Sequence[Claim], claim: Claim) -> str:
        """What the claim waits for; empty where it is its turn. `own` places are held by this resource, and `refused`
        are its claims that must wait."""
        order = turns(self.places, self._with(own), (*self.claims, *refused, claim))
        turn = next(turn for turn in order if turn.claim == claim)
        if turn.granted:
            return ""
        first = f"{turn.before} before it" if turn.before else "it is next"
        if turn.of_its_own:
            places = self.places.per_namespace
            return f"waits for one of the {places} places of namespace {self.namespace} on {self.runtime}; {first}"
        return f"waits for one of {self.places.total} places on {self.runtime}; {first}"

    def wanted(self, own: int) -> bool:
        """Whether somebody could start if this resource gave a place back."""
        one_less, now = (granted(self.places, self._with(n), self.claims) for n in (own - 1, own))
        return len(one_less) > len(now)

    def _with(self, own: int) -> Mapping[str, int]:
        return Counter(self.held) + Counter({self.namespace: own})
