"""The table of a study: differences with corrected intervals, and who is worth its cost."""

import numpy as np
import pytest

from kubedistill_api.comparison import ArmResult
from kubedistill_runtime.evaluate.paired import Student, lead, score_interval
from kubedistill_runtime.evaluate.study import Measured, compare, front


def measured(
    name: str, mean: float, against: str | None = "reference", seeds: int = 3, tokens: float = 100
) -> Measured:
    """Questions differ in how hard they are, and all variants meet the same ones."""
    hard = np.random.default_rng(0).uniform(-0.2, 0.2, 80)
    rng = np.random.default_rng(int(1000 * mean))
    rates = rng.binomial(8, np.clip(mean + hard, 0, 1), (seeds, 80)) / 8
    return Measured(
        student=Student(name, (rates,), (8,)),
        against=against,
        settings="",
        questions=10,
        traces=40,
        steps=30,
        training_tokens=100,
        response_tokens=50,
    )


def test_intervals_of_differences_are_corrected_for_their_number() -> None:
    found = [measured("reference", 0.6, None), measured("near", 0.61), measured("far", 0.3), measured("ahead", 0.75)]
    comparison = compare(found, confidence=0.95, base=0.25)
    assert comparison.comparisons == 3
    by_name = {arm.arm: arm for arm in comparison.arms}
    for one in found[1:]:
        expected = lead(one.student, found[0].student, 1 - 0.05 / 3)
        row = by_name[one.student.candidate]
        assert row.difference_ci == pytest.approx(expected.ci, abs=1e-4)
        assert row.ci == pytest.approx(score_interval(one.student, 0.95).ci, abs=1e-4)
        assert lead(one.student, found[0].student, 0.95).low > expected.low
    assert {name: arm.finding for name, arm in by_name.items()} == {
        "reference": None,
        "near": "unclear",
        "far": "worse",
        "ahead": "better",
    }
    assert (comparison.seeds, comparison.samples, comparison.benchmark_questions) == (3, 8, 80)
    assert comparison.best.arm == "ahead"
    assert len(comparison.sentences()) == 3


def test_a_combination_of_a_grid_is_compared_with_the_reference_in_it() -> None:
    found = [measured("r-g1", 0.5, None), measured("r-g2", 0.7, "r-g1"), measured("x-g2", 0.72, "r-g2")]
    rows = compare(found, confidence=0.9).arms
    assert rows[1].difference == pytest.approx(0.2, abs=0.05)
    assert rows[2].difference == pytest.approx(0.02, abs=0.05)


def test_students_that_were_not_asked_the_same_are_not_compared() -> None:
    with pytest.raises(ValueError, match="were not asked the same"):
        compare([measured("reference", 0.6, None), measured("other", 0.6, seeds=2)], confidence=0.95)
    with pytest.raises(ValueError, match="no variant is compared"):
        compare([measured("reference", 0.6, None)], confidence=0.95)


def row(name: str, score: float, cost: float) -> ArmResult:
    return ArmResult(
        arm=name, score=score, ci=(0, 1), questions=1, traces=1, steps=1, training_tokens=cost, response_tokens=1
    )


def test_the_front_has_whom_nobody_beats_at_no_more_cost() -> None:
    rows = [row("dear", 0.9, 500), row("beaten", 0.7, 400), row("middle", 0.8, 300), row("cheap", 0.2, 10)]
    assert front(rows, lambda arm: arm.training_tokens) == ["cheap", "middle", "dear"]
    twins = [row("a", 0.5, 100), row("b", 0.5, 100), row("c", 0.5, 200), row("d", 0.4, 100)]
    assert front(twins, lambda arm: arm.training_tokens) == ["a", "b"]
    assert front(rows, lambda arm: 1.0) == ["dear"]
