"""Progress is asked of those who run, and of nobody when they are gone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from kubedistill_operator.poller import LARGEST_ANSWER, Poller, Target
from kubedistill_operator.store import Key

DEMO = Key("DistillationJob", "team-a", "demo")
OTHER = Key("DistillationJob", "team-a", "other")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a stage's page; returns its address."""
    runners = []

    async def start(handler: Handler) -> str:
        pages = web.Application()
        pages.router.add_get("/{page}", handler)
        runner = web.AppRunner(pages)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/progress"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def poller() -> AsyncIterator[tuple[Poller, asyncio.Queue[Key]]]:
    changed: asyncio.Queue[Key] = asyncio.Queue()
    poller = Poller(changed.put_nowait, every_s=0.02)
    polling = asyncio.create_task(poller.run())
    yield poller, changed
    polling.cancel()


async def told(request: web.Request) -> web.Response:
    return web.json_response({"done": 3, "total": 10, "unit": "questions"})


async def test_progress_is_known_and_told_once(serve: Serve, poller: tuple[Poller, asyncio.Queue[Key]]) -> None:
    asking, changed = poller
    asking.follow("child", Target(await serve(told), DEMO))
    assert await changed.get() == DEMO
    progress = asking.progress("child")
    assert progress is not None
    assert (progress.done, progress.total) == (3, 10)
    await asyncio.sleep(0.1)
    assert changed.empty(), "the same again is no news"


async def test_of_a_resource_that_is_gone_nobody_is_asked(
    serve: Serve, poller: tuple[Poller, asyncio.Queue[Key]]
) -> None:
    asking, changed = poller
    asked = {DEMO: 0, OTHER: 0}

    def counting(key: Key) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            asked[key] += 1
            return await told(request)

        return answer

    async def rounds(count: int) -> None:
        wanted = asked[OTHER] + count
        while asked[OTHER] < wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    asking.follow("child", Target(await serve(counting(DEMO)), DEMO))
    asking.follow("kept", Target(await serve(counting(OTHER)), OTHER))
    assert {await changed.get(), await changed.get()} == {DEMO, OTHER}
    asking.leave_all(DEMO)
    await rounds(2)  # one may have been under way
    before = asked[DEMO]
    await rounds(3)
    assert asked[DEMO] == before
    assert asking.progress("child") is None
    assert asking.progress("kept") is not None


async def test_who_leaves_in_the_middle_of_a_round_is_not_asked_in_it(
    poller: tuple[Poller, asyncio.Queue[Key]],
) -> None:
    asking, _ = poller
    asked: list[str] = []

    async def ask(_: object, name: str, target: Target) -> None:
        asked.append(name)
        asking.leave("second")

    asking._ask = ask  # type: ignore[method-assign,assignment]
    asking.follow("first", Target("http://first.invalid", DEMO))
    asking.follow("second", Target("http://second.invalid", OTHER))
    while len(asked) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert set(asked) == {"first"}


async def test_a_pod_neither_sends_elsewhere_nor_floods(
    serve: Serve, poller: tuple[Poller, asyncio.Queue[Key]]
) -> None:
    asking, changed = poller
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPFound("/secret")

    async def flood(request: web.Request) -> web.Response:
        asked.append("flood")
        return web.json_response({"done": 1, "unit": "u" * LARGEST_ANSWER})

    asking.follow("sends", Target(await serve(elsewhere), DEMO))
    asking.follow("floods", Target(await serve(flood), DEMO))
    while len(asked) < 6:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert set(asked) == {"/progress", "flood"}
    assert changed.empty()
