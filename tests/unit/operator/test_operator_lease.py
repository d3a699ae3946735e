"""The Lease: who holds it, and when an operator must believe that it does not."""

import asyncio
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from kubedistill_operator import lease
from kubedistill_operator.cluster import Conflict, NotFound, Unavailable
from kubedistill_operator.lease import Lease, LeaseLost

Object = dict[str, Any]


class Server:
    """Keeps one Lease. `fault` may raise, before or after a write was done."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.version = 0
        self.writes = 0
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.hangs = False

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        if self.lease is None:
            raise NotFound(404, "NotFound", name)
        return deepcopy(self.lease)

    async def create(self, item: Object) -> Object:
        if self.lease is not None:
            raise Conflict(409, "AlreadyExists", "there")
        return self._written(item)

    async def replace(self, item: Object) -> Object:
        if self.hangs:
            await asyncio.Event().wait()
        self.before()
        if self.lease is None:
            raise NotFound(404, "NotFound", "gone")
        if item["metadata"].get("resourceVersion") != self.lease["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "changed")
        written = self._written(item)
        self.after()
        return written

    def _written(self, item: Object) -> Object:
        self.version += 1
        self.writes += 1
        self.lease = deepcopy(item)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return deepcopy(self.lease)

    def take(self, holder: str) -> None:
        """Somebody writes it."""
        assert self.lease
        self._written({**self.lease, "spec": {**self.lease["spec"], "holderIdentity": holder}})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(lease, "RENEW_S", 0.01)
    monkeypatch.setattr(lease, "TRY_S", 0.01)
    monkeypatch.setattr(lease, "DURATION_S", 10_000)
    return Server()


@pytest.fixture
def soon_over(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Lease lasts less than a second."""
    monkeypatch.setattr(lease, "DURATION_S", 0.3)


def lease_of(server: Server, identity: str) -> Lease:
    return Lease(server, "ns", "operator", identity, asyncio.get_running_loop().time)  # type: ignore[arg-type]


async def held(server: Server) -> tuple[Lease, asyncio.Task[None]]:
    """A Lease that is held and has been renewed."""
    own = lease_of(server, "one")
    await own.acquire()
    keeping = asyncio.create_task(own.keep())
    await renewed(server, keeping)
    return own, keeping


async def renewed(server: Server, keeping: asyncio.Task[None], times: int = 3) -> None:
    """Returns once it was renewed so often; at once when the keeping has ended."""
    wanted = server.writes + times
    while server.writes < wanted and not keeping.done():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def test_another_operator_that_took_it_ends_the_keeping(server: Server) -> None:
    _, keeping = await held(server)
    server.take("two")
    with pytest.raises(LeaseLost, match="taken over"):
        await keeping


async def test_a_renewal_whose_answer_was_lost_is_no_loss(server: Server) -> None:
    """The request is repeated, and is a Conflict with itself."""
    _, keeping = await held(server)
    lost = iter([True])

    def lose_one_answer() -> None:
        if next(lost, False):
            raise Conflict(409, "Conflict", "the repeated request met the first one")

    server.after = lose_one_answer
    await renewed(server, keeping, times=5)
    assert not keeping.done()
    keeping.cancel()


async def test_a_lease_that_was_deleted_is_made_again(server: Server) -> None:
    _, keeping = await held(server)
    server.lease = None
    await renewed(server, keeping)
    assert not keeping.done()
    assert server.lease is not None
    keeping.cancel()


@pytest.mark.usefixtures("soon_over")
async def test_a_server_that_refuses_for_too_long_ends_the_keeping(server: Server) -> None:
    _, keeping = await held(server)

    def refuse() -> None:
        raise Unavailable(503, "ServiceUnavailable", "no")

    server.before = refuse
    with pytest.raises(LeaseLost, match="could not be renewed"):
        await keeping


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("soon_over")
async def test_a_server_that_hangs_ends_the_keeping(server: Server) -> None:
    _, keeping = await held(server)
    server.hangs = True
    with pytest.raises(LeaseLost, match="could not be renewed"):
        await keeping


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("soon_over")
async def test_the_lease_of_an_operator_that_died_is_taken_after_its_time(server: Server) -> None:
    _, keeping = await held(server)
    keeping.cancel()
    other = lease_of(server, "two")
    await other.acquire()
    assert server.lease is not None
    assert server.lease["spec"]["holderIdentity"] == "two"


@pytest.mark.timeout(60)
async def test_a_lease_that_is_given_back_is_taken_at_once(server: Server) -> None:
    own, keeping = await held(server)
    keeping.cancel()
    await own.release()
    await lease_of(server, "two").acquire()
    assert server.lease is not None
    assert server.lease["spec"]["holderIdentity"] == "two"
