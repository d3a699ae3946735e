"""The client's own rate limits."""

from kubedistill_runtime.engines.rate import RateLimit


def test_a_burst_passes_and_then_the_rate_holds() -> None:
    limit = RateLimit(per_minute=60, burst_seconds=5)
    waits = [limit.take(1, now=0.0) for _ in range(8)]
    assert waits == [0, 0, 0, 0, 0, 1, 2, 3]


def test_time_that_passes_is_given_back() -> None:
    limit = RateLimit(per_minute=60, burst_seconds=1)
    assert limit.take(1, now=0.0) == 0
    assert limit.take(1, now=1.0) == 0
    assert limit.take(1, now=1.5) == 0.5


def test_an_amount_larger_than_a_burst_is_let_through_and_waited_for_afterwards() -> None:
    limit = RateLimit(per_minute=600, burst_seconds=1)
    assert limit.take(100, now=0.0) == 0
    assert limit.take(1, now=0.0) > 8


def test_what_was_spent_beyond_the_estimate_is_booked() -> None:
    limit = RateLimit(per_minute=60, burst_seconds=2)
    assert limit.take(1, now=0.0) == 0
    limit.settle(5)
    assert limit.take(1, now=0.0) == 5


def test_what_was_not_spent_is_given_back() -> None:
    limit = RateLimit(per_minute=60, burst_seconds=10)
    limit.take(10, now=0.0)
    limit.settle(-9)
    assert limit.take(9, now=0.0) == 0
