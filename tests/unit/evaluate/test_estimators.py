"""avg@k and pass@k against their definitions."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubedistill_runtime.evaluate.estimators import average, pass_at

answers = st.integers(1, 9).flatmap(
    lambda samples: st.lists(st.lists(st.booleans(), min_size=samples, max_size=samples), min_size=1, max_size=6)
)


def chance_that_a_subset_has_a_right_one(correct: list[bool], k: int) -> float:
    subsets = list(combinations(correct, k))
    return sum(any(subset) for subset in subsets) / len(subsets)


@given(answers, st.integers(1, 9))
def test_pass_at_k_is_the_share_of_all_subsets_of_k_samples_with_a_right_one(rows, k):
    k = min(k, len(rows[0]))
    expected = [chance_that_a_subset_has_a_right_one(row, k) for row in rows]
    np.testing.assert_allclose(pass_at(k, np.array(rows)), expected, atol=1e-12)


@given(answers)
def test_pass_at_1_is_the_average(rows):
    np.testing.assert_allclose(pass_at(1, np.array(rows)), average(np.array(rows)), atol=1e-12)


@given(answers)
def test_pass_at_k_never_falls_as_k_grows_and_stays_within_0_and_1(rows):
    correct = np.array(rows)
    values = np.array([pass_at(k, correct) for k in range(1, correct.shape[1] + 1)])
    assert (np.diff(values, axis=0) >= -1e-12).all()
    assert values.min() >= 0
    assert values.max() <= 1


def test_pass_at_all_samples_is_whether_any_is_right():
    correct = np.array([[False, False, True], [False, False, False]])
    assert pass_at(3, correct).tolist() == [1.0, 0.0]


def test_pass_at_k_is_stable_where_binomials_overflow_a_float():
    correct = np.zeros((1, 4096), bool)
    correct[0, :5] = True
    # C(4091, 2048) / C(4096, 2048), in whole numbers.
    expected = 1.0
    for i in range(5):
        expected *= (4096 - 2048 - i) / (4096 - i)
    assert pass_at(2048, correct)[0] == pytest.approx(1 - expected, rel=1e-12)


@pytest.mark.parametrize("k", [0, 4])
def test_pass_at_more_samples_than_there_are_is_refused(k):
    with pytest.raises(ValueError, match=rf"pass@{k} needs at least {k} samples"):
        pass_at(k, np.ones((2, 3), bool))
