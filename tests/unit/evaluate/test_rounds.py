"""Paired comparisons and the decisions of a probe's rounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubedistill_runtime.evaluate.intervals import student_t
from kubedistill_runtime.evaluate.paired import Student, lead, score_interval
from kubedistill_runtime.evaluate.rounds import decide, pair_confidence
from tests.benchmarks.probe_statistics import World, coverage, procedure, widths

ONE_ROUND = {"number": 1, "rounds": 1, "growth": 3, "confidence": 0.95}


def student(
    name: str, mean: float, *, questions: int = 100, seeds: int = 1, seed: int = 0, samples: int = 8
) -> Student:
    rng = np.random.default_rng([seed, int(1e6 * mean)])
    chance = np.clip(np.linspace(-0.3, 0.3, questions) + mean, 0, 1)
    return Student(name, (rng.binomial(samples, np.tile(chance, (seeds, 1))) / samples,), (samples,))


@pytest.mark.parametrize(
    ("confidence", "freedom", "expected"),
    [
        (0.95, 1, 12.7062),
        (0.95, 2, 4.30265),
        (0.99, 3, 5.84091),
        (0.95, 10, 2.22814),
        (0.999, 29, 3.65941),
        (0.95, 1e4, 1.96020),
    ],
)
def test_quantiles_of_t_are_those_of_the_tables(confidence: float, freedom: float, expected: float) -> None:
    assert student_t(confidence, freedom) == pytest.approx(expected, rel=2e-4)


def test_the_error_is_spread_over_rounds_and_pairs_and_no_more_of_it_is_spent() -> None:
    spent = [1 - pair_confidence(0.95, 4, r, 3, 3) for r in (1, 2, 3)]
    assert 6 * sum(spent) == pytest.approx(0.05)
    assert spent[2] == pytest.approx(9 * spent[0])


def test_a_clear_leader_is_named_with_the_differences() -> None:
    decision = decide([student("a", 0.2), student("b", 0.7), student("c", 0.4)], candidates=3, **ONE_ROUND)
    assert (decision.outcome, decision.leader, decision.survivors) == ("clear", "b", ["b"])
    assert [entry.candidate for entry in decision.scores] == ["b", "c", "a"]
    entry = decision.scores[2]
    assert entry.behind_ci[0] <= entry.behind <= entry.behind_ci[1]
    assert decision.reason.startswith("b leads c by ")
    assert f" and a by {entry.behind:.2f} [{entry.behind_ci[0]:.2f}, {entry.behind_ci[1]:.2f}]" in decision.reason


def test_close_ones_stay_and_at_the_end_of_the_budget_it_is_a_tie() -> None:
    students = [student("a", 0.5, seed=1), student("b", 0.5, seed=2), student("c", 0.1)]
    first = decide(students, candidates=3, number=1, rounds=2, growth=3, confidence=0.95)
    assert (first.outcome, set(first.survivors)) == ("continue", {"a", "b"})
    assert first.dismisses("c")
    assert not first.dismisses("a")
    last = decide(students[:2], candidates=3, number=2, rounds=2, growth=3, confidence=0.95)
    assert last.outcome == "tie"
    assert last.reason.startswith(f"tie between {last.leader} and ")
    assert last.dismisses("a")
    assert last.dismisses(None)


def test_among_equals_the_first_leads() -> None:
    same = student("a", 0.5)
    decision = decide([same, Student("b", same.rates, (8,))], candidates=2, **ONE_ROUND)
    assert (decision.leader, decision.outcome) == ("a", "tie")
    low, high = decision.scores[1].behind_ci
    assert low < 0 < high, "equal scores on 100 questions are no proof of equality"


def test_other_questions_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="were not asked the same"):
        lead(student("a", 0.5), student("b", 0.5, questions=99), 0.95)


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 8), st.integers(0, 10**6), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_a_lead_is_within_its_interval_and_mirrors(
    questions: int, seeds: int, samples: int, seed: int, benchmarks: int
) -> None:
    rng = np.random.default_rng(seed)
    one, other = (
        Student(
            name,
            tuple(
                rng.binomial(samples, rng.beta(0.5, 0.5, (seeds, questions + b))) / samples for b in range(benchmarks)
            ),
            (samples,) * benchmarks,
        )
        for name in "ab"
    )
    there, back = lead(one, other, 0.99), lead(other, one, 0.99)
    assert there.low - 1e-9 <= there.mean <= there.high + 1e-9
    assert there.mean == pytest.approx(one.score - other.score)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=2e-3)


def test_questions_that_all_differ_alike_leave_the_seeds_to_say_how_sure_it_is() -> None:
    ahead = np.array([[0.4, 0.6, 0.8], [0.5, 0.7, 0.9], [0.3, 0.5, 0.7]])
    behind = 1 - np.array([[0.8, 0.6, 0.4]] * 3)
    lead_ = lead(Student("a", (ahead,), (8,)), Student("b", (behind,), (8,)), 0.95)
    of_seeds = (ahead - behind).mean(axis=1)
    half = 4.302653 * float(of_seeds.std(ddof=1)) / 3**0.5
    assert (lead_.low, lead_.high) == pytest.approx((lead_.mean - half, lead_.mean + half), abs=1e-4)


def test_two_questions_say_little() -> None:
    score = lead(Student("a", (np.array([[0.2, 0.6]]),), (8,)), Student("b", (np.array([[0.1, 0.5]]),), (8,)), 0.95)
    assert score.low < 0 < score.high


def test_seeds_that_differ_widen_the_interval() -> None:
    quiet, other = student("a", 0.6, seeds=3), student("b", 0.5, seeds=3)
    noise = np.array([[-0.1], [0.0], [0.1]])
    noisy = Student("a", (quiet.rates[0] + noise,), (8,))
    one, more = lead(quiet, other, 0.95), lead(noisy, other, 0.95)
    assert more.mean == pytest.approx(one.mean)
    assert more.high - more.low > 2 * (one.high - one.low)


def test_benchmarks_count_alike_whatever_their_size() -> None:
    rates = {
        "a": (np.full((1, 10), 1.0), np.full((1, 1000), 0.5)),
        "b": (np.full((1, 10), 0.0), np.full((1, 1000), 0.5)),
    }
    estimate = lead(Student("a", rates["a"], (4, 4)), Student("b", rates["b"], (4, 4)), 0.95)
    assert estimate.mean == pytest.approx(0.5)


def test_each_benchmark_s_interval_goes_by_its_own_number_of_answers() -> None:
    rng = np.random.default_rng(0)
    rates = [rng.binomial(8, 0.6, (1, 20)) / 8 for _ in range(3)]
    parts = [score_interval(Student("a", (rates[at],), (samples,)), 0.95) for at, samples in ((0, 8), (1, 1))]
    together = score_interval(Student("a", (rates[0], rates[1]), (8, 1)), 0.95)
    assert parts[1].high - parts[1].low > 1.5 * (parts[0].high - parts[0].low)
    down = sum((part.mean - part.low) ** 2 for part in parts) ** 0.5 / 2
    assert together.mean - together.low == pytest.approx(down)
    with pytest.raises(ValueError, match="were not asked the same"):
        lead(Student("a", (rates[0],), (8,)), Student("b", (rates[2],), (1,)), 0.95)


# Shares of seeded trials; the margins are more than three standard errors. `tests/benchmarks/probe_statistics` has the
# same with more trials, and docs/statistics.md what came out.


@pytest.mark.parametrize(("questions", "seeds"), [(10, 1), (102, 1), (102, 3)])
def test_paired_intervals_cover_at_their_rate(questions: int, seeds: int) -> None:
    assert coverage(questions, seeds, 0.1 if seeds > 1 else 0.0, trials=600) > 0.92


def test_pairing_makes_intervals_narrower() -> None:
    assert widths(102, trials=60) < 0.8


def test_equal_candidates_leave_no_more_often_than_was_allowed() -> None:
    found = procedure(World((0.5,) * 4), trials=500, rounds=2)
    assert found["best_left"] <= found["missed"] < 0.08
    assert found["tie"] > 0.95


def test_a_clear_leader_is_found_at_less_than_the_full_cost() -> None:
    found = procedure(World((1.5, 0.5, 0.0, -1.0)), trials=150, rounds=2)
    assert found["right_winner"] > 0.97
    assert found["wrong_winner"] == 0
    assert found["cost"] < 0.6
