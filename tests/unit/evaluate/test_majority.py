"""majority@k against its definition."""

import random
from collections import Counter
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubedistill_runtime.evaluate.estimators import average, majority_at

ballots = st.lists(st.sampled_from(["", "7", "8", "9", "x"]), min_size=1, max_size=8)


def chance_that_the_vote_of_a_subset_is_right(votes: list[str], right: set[str], k: int) -> float:
    """By going through every subset, and through every answer that ties for the most votes."""
    total = 0.0
    for subset in combinations(votes, k):
        counts = Counter(vote for vote in subset if vote)
        winners = [vote for vote, count in counts.items() if count == max(counts.values())]
        total += sum(vote in right for vote in winners) / max(1, len(winners))
    return total / comb(len(votes), k)


@given(ballots, st.sets(st.sampled_from(["7", "x"])), st.integers(1, 8))
def test_it_is_the_mean_over_all_subsets_with_ties_shared(votes, right, k):
    k = min(k, len(votes))
    expected = chance_that_the_vote_of_a_subset_is_right(votes, right, k)
    correct = np.array([[vote in right for vote in votes]])
    np.testing.assert_allclose(majority_at(k, np.array([votes]), correct), [expected], atol=1e-12)


@given(ballots)
def test_a_vote_of_one_is_the_average(votes):
    correct = np.array([[vote == "7" for vote in votes]])
    np.testing.assert_allclose(majority_at(1, np.array([votes]), correct), average(correct), atol=1e-12)


@given(ballots, st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(votes, rng: random.Random):
    mixed = rng.sample(votes, len(votes))
    one, other = (majority_at(len(v), np.array([v]), np.array([[x == "7" for x in v]])) for v in (votes, mixed))
    assert one == pytest.approx(other)


def test_a_vote_that_is_held_once_has_one_winner_or_shares_the_tie():
    votes = np.array([["7", "7", "8"], ["7", "8", ""], ["7", "8", "9"], ["", "", ""], ["8", "8", "7"]])
    assert majority_at(3, votes, votes == "7").tolist() == pytest.approx([1, 1 / 2, 1 / 3, 0, 0])


def test_an_answer_that_a_judge_wavers_on_counts_as_its_share():
    assert majority_at(3, np.array([["7", "7", "8"]]), np.array([[True, False, False]]))[0] == pytest.approx(1 / 2)


def test_chances_are_whole_where_binomials_near_the_end_of_floats():
    """1024 samples, 512 of each of two answers: by symmetry a half."""
    votes = np.array([["7"] * 512 + ["8"] * 512])
    assert majority_at(256, votes, votes == "7")[0] == pytest.approx(1 / 2, abs=1e-9)


@pytest.mark.parametrize("k", [0, 4])
def test_more_samples_than_there_are_is_refused(k):
    with pytest.raises(ValueError, match=rf"majority@{k} needs at least {k} samples"):
        majority_at(k, np.full((2, 3), "7"), np.ones((2, 3), bool))
