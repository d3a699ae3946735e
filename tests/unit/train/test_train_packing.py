"""Properties of the batch plan."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubedistill_runtime.train.packing import Plan, pack

plans = st.builds(
    Plan,
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=60).map(tuple),
    seed=st.integers(0, 2**31 - 1),
    global_batch_size=st.integers(1, 20),
    capacity=st.integers(100, 400),
    world_size=st.integers(1, 5),
    quadratic=st.sampled_from([0.0, 0.001, 1.0]),
)


@given(plans, st.integers(0, 3))
def test_an_epoch_has_each_example_exactly_once(plan, epoch):
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    seen = Counter(i for step in steps for i in plan.examples(step))
    assert seen == Counter(range(len(plan.lengths)))
    assert all(plan.epoch_of(step) == epoch for step in steps)


@given(plans, st.integers(0, 50))
def test_the_micro_batches_hold_the_global_batch_and_no_more_tokens_than_allowed(plan, step):
    ranks = plan.micro_batches(step)
    assert len(ranks) == plan.world_size
    assert len({len(bins) for bins in ranks}) == 1, "every rank runs the same number of micro-batches"
    bins = [members for rank in ranks for members in rank]
    assert Counter(i for members in bins for i in members) == Counter(plan.examples(step))
    assert all(sum(plan.lengths[i] for i in members) <= plan.capacity for members in bins)


@given(plans, st.integers(0, 50), st.integers(1, 8))
def test_a_batch_is_the_same_at_every_world_size_and_every_time(plan, step, world_size):
    other = Plan(plan.lengths, plan.seed, plan.global_batch_size, plan.capacity, world_size, plan.quadratic)
    assert other.examples(step) == plan.examples(step)
    assert other.micro_batches(step) == other.micro_batches(step)


@settings(max_examples=30)
@given(st.lists(st.integers(10, 100), min_size=8, max_size=60), st.integers(1, 4))
def test_packing_needs_at_most_one_round_more_than_the_tokens_ask_for(lengths, world_size):
    capacity = 200
    bins = pack(dict(enumerate(lengths)), capacity, world_size, 0.0)
    # Best fit on falling lengths needs at most 11/9 of the optimum, and the count is rounded up to whole rounds.
    assert len(bins) <= (-(-sum(lengths) // capacity)) * 11 / 9 + 1 + world_size


def test_work_is_balanced_over_ranks_by_cost_and_not_by_tokens():
    lengths = dict(enumerate([1000] + [100] * 30))
    bins = pack(lengths, 4000, 2, quadratic=0.01)
    costs = [sum(lengths[i] + 0.01 * lengths[i] ** 2 for i in members) for members in bins]
    assert len(bins) == 2
    assert max(costs) / sum(costs) < 0.75
    assert bins[0] == [0], "one long trace costs as much as all the short ones"


def test_epochs_differ_in_order():
    plan = Plan((5,) * 32, 0, 32, 1000)
    assert plan.examples(0) != plan.examples(1)


def test_an_example_longer_than_a_micro_batch_is_our_own_mistake():
    with pytest.raises(AssertionError):
        Plan((11,), 0, 1, 10)
