"""Expected widths of intervals against intervals of simulated benchmarks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubedistill_runtime.evaluate.intervals import Estimate, difference_interval, mean_interval
from kubedistill_runtime.evaluate.paired import Student, lead
from kubedistill_runtime.evaluate.precision import Spread, half_width, questions_for, samples_for

SPREADS = (Spread(), Spread(mean=0.5, between=0.35), Spread(mean=0.9, between=0.5, alike=0.6))


def rates(spread: Spread, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pass rates of two models: beta distributed with the spread's mean and variance. A share `alike` of the questions
    is the same for both, so that their correlation is `alike`."""
    size = 1 / spread.between - 1
    one, other = (rng.beta(spread.mean * size, (1 - spread.mean) * size, shape) for _ in range(2))
    return one, np.where(rng.random(shape) < spread.alike, one, other)


def scores(spread: Spread, trials: int, questions: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of right answers of two models, trials x questions."""
    rng = np.random.default_rng([questions, samples, round(100 * spread.mean)])
    one, other = rates(spread, (trials, questions), rng)
    return rng.binomial(samples, one) / samples, rng.binomial(samples, other) / samples


def root_mean_square(estimates: list[Estimate]) -> float:
    """Of the half-widths: what is expected is their variance, of which a root of few questions falls short."""
    return math.sqrt(np.mean([((estimate.high - estimate.low) / 2) ** 2 for estimate in estimates]))


@pytest.mark.parametrize("spread", SPREADS, ids=str)
@pytest.mark.parametrize(("questions", "samples"), [(30, 16), (30, 1), (200, 4)])
def test_the_variance_is_that_of_simulated_scores(spread: Spread, questions: int, samples: int) -> None:
    one, other = scores(spread, 4000, questions, samples)
    for paired, found in ((False, one.mean(axis=1)), (True, (one - other).mean(axis=1))):
        expected = spread.questions_part(paired=paired) + spread.answers_part(paired=paired) / samples
        assert found.std() == pytest.approx(math.sqrt(expected / questions), rel=0.05)


@pytest.mark.parametrize("spread", SPREADS[:2], ids=str)
@pytest.mark.parametrize(
    ("questions", "samples", "trials", "wider"), [(30, 16, 60, 0.10), (100, 8, 20, 0.06), (500, 1, 60, 0.03)]
)
def test_the_half_width_is_that_of_the_intervals_that_are_made(
    spread: Spread, questions: int, samples: int, trials: int, wider: float
) -> None:
    """Expected widths may be wider by a share `wider`, since Student's t is where a bootstrap of few questions is not,
    and narrower by 3 %."""
    one, other = scores(spread, trials, questions, samples)
    of_score = [mean_interval(rates, samples, 0.95, seed) for seed, rates in enumerate(one)]
    of_difference = [difference_interval(a, b, samples, 0.95, 1) for a, b in zip(one, other, strict=True)]
    for paired, estimates in ((False, of_score), (True, of_difference)):
        made = root_mean_square(estimates)
        assert 0.97 < half_width(questions, samples, 0.95, paired=paired, spread=spread) / made < 1 + wider


def test_the_half_width_of_a_study_s_corrected_difference() -> None:
    one, other = scores(Spread(), 400, 102, 8)
    made = [
        lead(Student("a", (a[None, :],), (8,)), Student("b", (b[None, :],), (8,)), 0.995)
        for a, b in zip(one, other, strict=True)
    ]
    assert half_width(102, 8, 0.995, paired=True) == pytest.approx(root_mean_square(made), rel=0.04)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 3000),
    st.floats(0.002, 0.3),
    st.booleans(),
    st.builds(Spread, mean=st.floats(0.05, 0.95), between=st.floats(0.05, 0.95), alike=st.floats(0, 0.95)),
)
def test_the_samples_are_enough_and_one_less_is_not(
    questions: int, wanted: float, paired: bool, spread: Spread
) -> None:
    enough = samples_for(wanted, questions, 0.95, paired=paired, spread=spread)
    if enough is None:
        assert half_width(questions, 10**9, 0.95, paired=paired, spread=spread) > wanted * (1 - 1e-6)
        return
    assert half_width(questions, enough, 0.95, paired=paired, spread=spread) <= wanted * (1 + 1e-9)
    if enough > 1:
        assert half_width(questions, enough - 1, 0.95, paired=paired, spread=spread) > wanted


@settings(max_examples=30, deadline=None)
@given(st.floats(0.005, 0.4), st.integers(1, 64), st.booleans())
def test_the_questions_are_enough_and_one_less_is_not(wanted: float, samples: int, paired: bool) -> None:
    enough = questions_for(wanted, samples, 0.95, paired=paired)
    assert half_width(enough, samples, 0.95, paired=paired) <= wanted
    if enough > 2:
        assert half_width(enough - 1, samples, 0.95, paired=paired) > wanted


def test_samples_alone_do_not_tell_two_points_apart_on_aime() -> None:
    assert samples_for(0.02, 30, 0.95, paired=True) is None
    assert half_width(30, math.inf, 0.95, paired=True) > 0.08


def test_one_question_has_no_spread() -> None:
    with pytest.raises(ValueError, match="at least two"):
        half_width(1, 8, 0.95)
