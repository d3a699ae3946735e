"""Which responses are asked for, and which of them count."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubedistill_runtime.sampling.scheduler import Scheduler


@dataclass
class World:
    """What every sample would turn out to be, whenever it is drawn."""

    samples: int
    stop: int | None
    verified: list[list[bool]]
    lengths: list[list[int]]

    def counting(self) -> set[tuple[int, int]]:
        """The rule, said once more: the shortest prefix with `stop` verified ones, or all."""
        keys = set()
        for question, verdicts in enumerate(self.verified):
            found = 0
            for index, verdict in enumerate(verdicts):
                keys.add((question, index))
                found += verdict
                if found == self.stop:
                    break
        return keys


@st.composite
def worlds(draw: st.DrawFn) -> World:
    samples = draw(st.integers(1, 8))
    questions = draw(st.integers(0, 6))
    table = st.lists(st.booleans(), min_size=samples, max_size=samples)
    numbers = st.lists(st.integers(0, 50), min_size=samples, max_size=samples)
    return World(
        samples=samples,
        stop=draw(st.none() | st.integers(1, samples)),
        verified=draw(st.lists(table, min_size=questions, max_size=questions)),
        lengths=draw(st.lists(numbers, min_size=questions, max_size=questions)),
    )


def _start(world: World, records: set[tuple[int, int]]) -> Scheduler[int]:
    scheduler = Scheduler(range(len(world.verified)), world.samples, world.stop)
    for question, index in sorted(records):
        scheduler.restore(question, index, world.verified[question][index], world.lengths[question][index])
    return scheduler


def _play(world: World, seed: int, room: int, crash_share: float, speculative: bool) -> set[tuple[int, int]]:
    """Completes requests in a random order, with crashes that lose what is under way; returns the keys recorded."""
    chance = random.Random(seed)
    records: set[tuple[int, int]] = set()
    scheduler = _start(world, records)
    under_way: list[tuple[int, int]] = []
    asked: set[tuple[int, int]] = set()
    for _ in range(100_000):
        if scheduler.finished:
            return records
        if chance.random() < crash_share:
            scheduler, under_way, asked = _start(world, records), [], set()
            continue
        keys = scheduler.next(room - len(under_way))
        if speculative and len(keys) < room - len(under_way):
            keys += scheduler.speculate(room - len(under_way) - len(keys))
        for key in keys:
            assert key not in asked, "asked twice"
            assert key not in records, "asked for what is recorded"
            assert 0 <= key[1] < world.samples, "beyond the samples"
            asked.add(key)
            under_way.append(key)
        assert scheduler.in_flight == len(under_way) <= room
        if scheduler.finished:
            return records
        assert under_way, "neither finished nor waiting for anything"
        question, index = under_way.pop(chance.randrange(len(under_way)))
        records.add((question, index))
        verdict, length = world.verified[question][index], world.lengths[question][index]
        for useless in scheduler.complete(question, index, verdict, length):
            under_way.remove(useless)
    raise AssertionError("does not end")


@given(worlds(), st.integers(0, 2**32), st.integers(1, 20), st.sampled_from([0.0, 0.05, 0.3]), st.booleans())
def test_any_order_and_any_crash_leave_the_same_counting_samples(
    world: World, seed: int, room: int, crash_share: float, speculative: bool
) -> None:
    records = _play(world, seed, room, crash_share, speculative)
    scheduler = _start(world, records)
    counting = {key for key in records if not scheduler.is_surplus(*key)}
    assert scheduler.finished
    assert counting == world.counting()


@given(worlds(), st.integers(0, 2**32), st.integers(1, 20))
def test_without_speculation_nothing_is_drawn_in_vain(world: World, seed: int, room: int) -> None:
    assert _play(world, seed, room, 0.0, speculative=False) == world.counting()


def test_only_as_many_are_asked_for_as_verified_ones_are_missing() -> None:
    scheduler = Scheduler(["a"], samples=16, stop_after_verified=3)
    assert scheduler.next(100) == [("a", 0), ("a", 1), ("a", 2)]
    assert scheduler.next(100) == []
    scheduler.complete("a", 1, False, 10)
    assert scheduler.next(100) == [("a", 3)]


def test_a_verified_sample_out_of_order_does_not_end_a_question() -> None:
    scheduler = Scheduler(["a"], samples=4, stop_after_verified=1)
    assert scheduler.next(1) == [("a", 0)]
    assert scheduler.speculate(3)
    scheduler.complete("a", 1, True, 10)
    assert not scheduler.finished, "sample 0 may still be the one that counts"
    scheduler.complete("a", 0, True, 10)
    assert scheduler.finished
    assert scheduler.is_surplus("a", 1)


def test_samples_beyond_a_decided_prefix_are_given_up() -> None:
    scheduler = Scheduler(["a"], samples=8, stop_after_verified=1)
    scheduler.next(1)
    extra = scheduler.speculate(1)
    assert extra == [("a", 1)]
    assert scheduler.complete("a", 0, True, 10) == extra
    assert scheduler.in_flight == 0
    assert scheduler.finished


def test_a_sample_is_given_up_as_soon_as_enough_before_it_are_verified() -> None:
    scheduler = Scheduler(["a", "hard"], samples=8, stop_after_verified=1)
    for index in range(7):
        scheduler.restore("hard", index, False, 10)
    assert set(scheduler.next(2)) == {("hard", 7), ("a", 0)}
    assert scheduler.speculate(2) == [("a", 1), ("a", 2)]
    assert scheduler.complete("a", 1, True, 10) == [("a", 2)]
    assert not scheduler.finished


def test_a_question_that_never_succeeds_uses_all_its_samples() -> None:
    scheduler = Scheduler(["a"], samples=5, stop_after_verified=2)
    drawn = []
    while not scheduler.finished:
        for key in scheduler.next(1):
            drawn.append(key[1])
            scheduler.complete(*key, False, 10)
    assert drawn == [0, 1, 2, 3, 4]


def test_speculation_goes_no_further_than_the_pass_rate_lets_expect() -> None:
    scheduler = Scheduler(["often", "seldom"], samples=100, stop_after_verified=50)
    for index in range(40):
        scheduler.restore("often", index, True, 10)
        scheduler.restore("seldom", index, index % 4 == 0, 10)
    while scheduler.next(1000):
        pass
    extra = scheduler.speculate(1000)
    assert sum(key[0] == "often" for key in extra) < sum(key[0] == "seldom" for key in extra)


def test_without_a_stop_there_is_nothing_to_speculate_on() -> None:
    scheduler = Scheduler(["a"], samples=2)
    assert scheduler.next(10) == [("a", 0), ("a", 1)]
    assert scheduler.speculate(10) == []


def test_the_longest_expected_response_is_asked_for_first() -> None:
    scheduler = Scheduler(["short", "long", "unknown"], samples=3, stop_after_verified=None)
    scheduler.restore("short", 0, True, 10)
    scheduler.restore("long", 0, True, 1000)
    order = [key[0] for key in scheduler.next(100)]
    assert order == ["long", "long", "unknown", "unknown", "unknown", "short", "short"]


def test_siblings_without_a_known_length_stay_together_for_the_prefix_cache() -> None:
    scheduler = Scheduler(["a", "b"], samples=2)
    assert scheduler.next(10) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_holes_that_a_crash_left_are_filled_first() -> None:
    scheduler = Scheduler(["a"], samples=5)
    for index in (0, 2, 4):
        scheduler.restore("a", index, True, 10)
    assert scheduler.next(10) == [("a", 1), ("a", 3)]


def test_a_question_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Scheduler(["a", "a"], samples=1)


def test_sixty_thousand_samples_are_scheduled_within_seconds() -> None:
    scheduler = Scheduler(range(4000), samples=16, stop_after_verified=8)
    chance = random.Random(0)
    under_way = scheduler.next(1000)
    count = 0
    while not scheduler.finished:
        key = under_way.pop(chance.randrange(len(under_way)))
        count += 1
        gone = set(scheduler.complete(*key, chance.random() < 0.6, chance.randrange(100)))
        under_way = [k for k in under_way if k not in gone] if gone else under_way
        under_way += scheduler.next(1000 - len(under_way))
    assert 8 * 4000 <= count <= 16 * 4000
