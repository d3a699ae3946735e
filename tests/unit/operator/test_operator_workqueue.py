"""The queue of keys: once at a time, later where asked, again after a failure."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from kubedistill_operator.workqueue import WorkQueue


class Clock:
    """Time that moves when it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def working(
    queue: WorkQueue[str], handle, failed=lambda key, error: None, workers: int = 3
) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(queue.work(handle, failed)) for _ in range(workers)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_key_added_twice_comes_once() -> None:
    queue, seen = WorkQueue[str](), []

    async def handle(key: str) -> None:
        seen.append(key)

    for key in ("a", "a", "b"):
        queue.add(key)
    assert queue.depth == 2
    async with working(queue, handle):
        await settled()
    assert sorted(seen) == ["a", "b"]


async def test_what_is_added_ahead_comes_first_also_when_it_waits_already() -> None:
    clock = Clock()
    queue, seen = WorkQueue[str](clock), []

    async def handle(key: str) -> None:
        seen.append(key)

    for key, ahead in (("a", False), ("b", False), ("c", True), ("b", True), ("c", False), ("d", True)):
        queue.add(key, ahead=ahead)
        clock.now += 1.0
    assert (queue.depth, queue.age) == (4, 6.0)
    async with working(queue, handle, workers=1):
        await settled()
    assert seen == ["c", "b", "d", "a"]
    assert (queue.depth, queue.age) == (0, 0.0)


async def test_a_key_added_while_it_is_worked_on_comes_again_and_never_twice_at_once() -> None:
    queue, running, most, done = WorkQueue[str](), 0, 0, 0
    gate = asyncio.Event()

    async def handle(key: str) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        done += 1

    async with working(queue, handle):
        queue.add("a")
        await settled()
        queue.add("a")
        queue.add("a")
        await settled()
        gate.set()
        await settled()
    assert (most, done) == (1, 2)


async def test_a_later_wish_does_not_put_off_an_earlier_one() -> None:
    clock = Clock()
    queue, seen = WorkQueue[str](clock), []

    async def handle(key: str) -> None:
        seen.append(clock.now)

    queue.add_after("a", 10)
    queue.add_after("a", 100)
    async with working(queue, handle):
        await settled()
        assert seen == []
        clock.now = 10
        queue.add("b")
        await settled()
    assert seen == [10, 10]


async def test_a_failure_comes_again_later_each_time_and_success_forgets() -> None:
    clock = Clock()
    queue, errors, calls = WorkQueue[str](clock), [], 0

    async def handle(key: str) -> None:
        nonlocal calls
        if key == "a":
            calls += 1
            if calls < 4:
                raise ValueError(calls)

    def failed(key: str, error: Exception) -> None:
        errors.append(error)

    async with working(queue, handle, failed):
        queue.add("a")
        for moment in (0.0, 0.5, 1.5, 3.5):
            clock.now = moment
            queue.add("tick")
            await settled()
        assert calls == 4
    assert len(errors) == 3


async def test_the_age_is_that_of_the_oldest() -> None:
    clock = Clock()
    queue = WorkQueue[str](clock)
    queue.add("a")
    clock.now = 5
    queue.add("b")
    assert queue.age == 5
