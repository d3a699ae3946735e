"""Plots say what their numbers say."""

import numpy as np

from kubedistill_runtime.report import charts
from kubedistill_runtime.report.charts import Series
from kubedistill_runtime.report.contents import PassRates, Training
from tests.unit.report.html_tree import parse


def tips(html: str) -> list[str]:
    return [attributes["data-tip"] for attributes in parse(str(html)).named("rect") if "data-tip" in attributes]


def test_a_histogram_counts_every_value_once():
    values = np.random.default_rng(0).integers(5, 5000, 777)
    total = sum(
        int(tip.rsplit(" ", 1)[1].replace(",", ""))
        for tip in tips(charts.histogram([Series("a", "base", values)], "x", "y"))
    )
    assert total == 777


def test_a_histogram_of_one_value_or_none_is_still_one():
    assert len(tips(charts.histogram([Series("a", "base", np.array([7]))], "x", "y"))) == 1
    assert "Nothing to show" in charts.histogram([Series("a", "base", np.array([], int))], "x", "y")


def test_many_series_are_outlined_so_that_none_hides_another():
    series = [Series(str(n), f"s{n + 1}", np.arange(20)) for n in range(3)]
    tree = parse(str(charts.histogram(series, "x", "y")))
    assert len(tree.named("polyline")) == 3
    assert not [r for r in tree.named("rect") if r["class"].startswith("bar")]


def rates(hard: list[int], easy: list[int]) -> PassRates:
    return PassRates(4, np.array(hard), np.array(easy), np.zeros(5, int))


def test_the_cut_lies_between_what_stayed_and_what_went():
    assert charts._cut(rates([3, 2, 1, 0, 0], [0, 0, 0, 4, 1])) == 2.5


def test_a_cut_through_ties_runs_through_their_bar():
    assert charts._cut(rates([3, 2, 1, 0, 0], [0, 0, 2, 4, 1])) == 2


def test_without_dropped_questions_there_is_no_cut():
    assert charts._cut(rates([3, 2, 1, 0, 0], [0] * 5)) is None


def training(losses: list[float]) -> Training:
    return Training(tuple({"step": n + 1, "loss": loss, "learning_rate": 1e-5} for n, loss in enumerate(losses)))


def test_losses_are_told_as_means_over_a_twentieth_of_the_steps():
    found = training([2.0] * 3 + [1.0] * 57)
    assert (found.window, found.first_loss, found.last_loss) == (3, 2.0, 1.0)


def test_a_smoothed_line_keeps_its_steps_and_its_mean_level():
    line = [(float(step), float(step % 2)) for step in range(100)]
    smooth = charts._smoothed(line, 10)
    assert [x for x, _ in smooth] == [x for x, _ in line]
    assert all(abs(y - 0.5) < 0.11 for _, y in smooth)
    assert charts._smoothed(line, 1) == line


def test_long_curves_are_thinned_and_keep_their_last_point():
    line = [(float(step), 1 / (1 + step)) for step in range(10_000)]
    thin = charts._thinned(line)
    assert len(thin) <= charts.MAX_POINTS + 1
    assert thin[-1] == line[-1]


def test_a_training_of_one_step_has_a_plot():
    assert parse(str(charts.loss([("", training([0.5]))]))).problems == []


def test_every_step_of_a_funnel_says_what_was_lost():
    words = parse(str(charts.funnel([("drawn", 100), ("correct", 60), ("kept", 60)], "traces"))).words
    assert "−40" in words
    assert "−0" not in words
