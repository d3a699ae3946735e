"""The cap on an engine's requests, driven by hand and by a toy engine."""

import random

from hypothesis import given
from hypothesis import strategies as st

from kubedistill_runtime.sampling.concurrency import COOLDOWN, Concurrency, Load


def load(kv: float = 0.3, running: int = 64, waiting: int = 0, preemptions: int = 0, finished: int = 64) -> Load:
    return Load(kv, running, waiting, preemptions, finished)


def test_it_starts_with_what_fits_at_full_length() -> None:
    assert Concurrency(batch=256, kv_tokens=100_000, longest=1000).cap == 100


def test_it_starts_with_a_full_batch_and_some_slack_where_the_cache_is_ample() -> None:
    assert Concurrency(batch=256, kv_tokens=10**9, longest=1000).cap == 320


def test_a_cache_smaller_than_one_request_still_serves_one() -> None:
    assert Concurrency(batch=256, kv_tokens=10, longest=1000).cap == 1


def test_it_grows_once_per_turnover_while_the_cap_holds_requests_back() -> None:
    concurrency = Concurrency(batch=256, kv_tokens=64_000, longest=1000)
    assert concurrency.observe(load(finished=63)) == 64
    assert concurrency.observe(load(finished=1)) == 80
    assert concurrency.observe(load(running=80, finished=10)) == 80


def test_it_does_not_grow_while_the_work_does_not_fill_it() -> None:
    concurrency = Concurrency(batch=256, kv_tokens=64_000, longest=1000)
    assert [concurrency.observe(load(running=10)) for _ in range(5)] == [64] * 5


def test_it_never_grows_beyond_the_batch_and_its_slack() -> None:
    concurrency = Concurrency(batch=64, kv_tokens=64_000, longest=1000)
    for _ in range(50):
        cap = concurrency.observe(load(running=concurrency.cap, finished=1000))
    assert cap == 80


def test_a_full_cache_trims_to_what_would_use_the_target() -> None:
    concurrency = Concurrency(batch=256, kv_tokens=100_000, longest=1000)
    assert concurrency.observe(load(kv=0.875, running=100)) == 80


def test_a_cache_that_stays_full_after_a_trim_halves_the_cap() -> None:
    concurrency = Concurrency(batch=256, kv_tokens=100_000, longest=1000)
    before = concurrency.observe(load(kv=0.9, running=100))
    for _ in range(COOLDOWN):
        assert concurrency.observe(load(kv=0.9, running=100)) == before
    assert concurrency.observe(load(kv=0.9, running=100)) == before // 2


def test_a_preemption_cuts_the_cap_whatever_the_cache_says() -> None:
    concurrency = Concurrency(batch=256, kv_tokens=100_000, longest=1000)
    assert concurrency.observe(load(kv=0.1, preemptions=1)) == 80


def test_a_queue_in_front_of_a_batch_with_free_places_cuts_the_cap() -> None:
    concurrency = Concurrency(batch=256, kv_tokens=400_000, longest=1000)
    before = concurrency.cap
    assert concurrency.observe(load(kv=0.7, running=100, waiting=150)) < before


def test_a_queue_within_the_slack_of_a_full_batch_is_left_alone() -> None:
    concurrency = Concurrency(batch=256, kv_tokens=10**9, longest=1000)
    assert concurrency.observe(load(running=256, waiting=64)) == 320


loads = st.builds(
    Load,
    st.floats(0, 1),
    st.integers(0, 400),
    st.integers(0, 400),
    st.integers(0, 3),
    st.integers(0, 400),
)


@given(st.integers(1, 512), st.integers(0, 10**6), st.integers(1, 10**4), st.lists(loads, max_size=60))
def test_the_cap_stays_between_one_and_the_limit(batch: int, tokens: int, longest: int, seen: list[Load]) -> None:
    concurrency = Concurrency(batch, tokens, longest)
    for one in seen:
        assert 1 <= concurrency.observe(one) <= concurrency.limit


def test_a_toy_engine_is_kept_busy_without_lasting_preemptions() -> None:
    """Requests of 100..900 tokens in a cache of 40,000: about 80 fit on average, 44 at full length."""
    chance = random.Random(1)
    concurrency = Concurrency(batch=512, kv_tokens=40_000, longest=900)
    running: list[list[int]] = []  # [length so far, length at the end]
    caps, overflows = [], 0
    for second in range(600):
        while len(running) < concurrency.cap:
            running.append([0, chance.randint(100, 900)])
        for request in running:
            request[0] += 20
        finished = sum(so_far >= end for so_far, end in running)
        running = [request for request in running if request[0] < request[1]]
        preemptions = 0
        while sum(so_far for so_far, _ in running) > 40_000:
            running.pop()
            preemptions += 1
        usage = sum(so_far for so_far, _ in running) / 40_000
        concurrency.observe(Load(usage, len(running), 0, preemptions, finished))
        if second >= 200:
            caps.append(concurrency.cap)
            overflows += preemptions
    assert 60 <= sum(caps) / len(caps) <= 160
    assert overflows <= 20
