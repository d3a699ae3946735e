"""No claim is stronger than its interval."""

import pytest

from kubedistill_api.status import Score, ScoreDelta
from kubedistill_runtime.report import wording
from kubedistill_runtime.report.contents import Benchmark, Track


def benchmark(name: str, low: float, high: float, *, base: bool = True) -> Benchmark:
    mean = (low + high) / 2
    scores = [Score(benchmark=name, model="student", metric="avg@8", n=50, mean=0.5 + mean, ci=(0.4, 0.6))]
    if base:
        scores.append(Score(benchmark=name, model="base", metric="avg@8", n=50, mean=0.5, ci=(0.4, 0.6)))
    return Benchmark(
        name=name,
        questions=50,
        samples=8,
        scores=tuple(scores),
        deltas=(ScoreDelta(benchmark=name, metric="avg@8", mean=mean, ci=(low, high)),) if base else (),
        intervals={"avg@8": "bootstrap"},
        base=None,
        student={},
        per_question=(),
        tokens={},
        texts={},
    )


def track(*benchmarks: Benchmark) -> Track:
    return Track("", "teacher", None, None, None, None, benchmarks, 0.95)


@pytest.mark.parametrize(
    ("low", "high", "finding", "words"),
    [
        (0.1, 0.2, "better", "The student is better than the base"),
        (-0.2, -0.1, "worse", "The student is worse than the base"),
        (-0.01, 0.2, "unclear", "No clear difference between student and base"),
        (0.0, 0.2, "unclear", "No clear difference between student and base"),
    ],
)
def test_the_headline_of_one_benchmark_follows_its_interval(low, high, finding, words):
    headline = wording.job_headline(track(benchmark("a", low, high)))
    assert (headline.finding, headline.title) == (finding, words)
    assert ("includes 0" in headline.detail) == (finding == "unclear")


@pytest.mark.parametrize(
    ("intervals", "finding", "words"),
    [
        ([(0.1, 0.2), (0.1, 0.2)], "better", "better than the base on both benchmarks"),
        ([(-0.2, -0.1)] * 3, "worse", "worse than the base on all 3 benchmarks"),
        ([(0.1, 0.2), (-0.1, 0.2)], "better", "Of 2 benchmarks the student is better on 1, no clear difference on 1"),
        ([(0.1, 0.2), (-0.2, -0.1)], "unclear", "Of 2 benchmarks the student is better on 1, worse on 1"),
        ([(-0.1, 0.2)] * 2, "unclear", "No clear difference on any of 2 benchmarks"),
    ],
)
def test_the_headline_of_several_benchmarks_hides_none(intervals, finding, words):
    headline = wording.job_headline(track(*(benchmark(str(n), *ends) for n, ends in enumerate(intervals))))
    assert headline.finding == finding
    assert words in headline.title


def test_without_a_base_nothing_is_said_about_change():
    headline = wording.job_headline(track(benchmark("a", 0.1, 0.2, base=False)))
    assert headline.finding == "unclear"
    assert "nothing can be said about change" in headline.detail


def test_several_benchmarks_come_with_a_word_on_chance():
    assert "by chance" in wording.caution([benchmark("a", 0, 1), benchmark("b", 0, 1)])
    assert "by chance" not in wording.caution([benchmark("a", 0, 1)])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4.21, "4.2 s"), (59.96, "60.0 s"), (185, "3 min 05 s"), (8040, "2 h 14 min"), (3599.7, "1 h 00 min")],
)
def test_durations_are_readable(seconds, words):
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0"), (999, "999"), (1234, "1.23k"), (4.03e6, "4.03M"), (2e12, "2T")]
)
def test_large_numbers_are_short(number, words):
    assert wording.compact(number) == words


@pytest.mark.parametrize(("number", "words"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (7e12, "7 TB")])
def test_sizes_are_readable(number, words):
    assert wording.size(number) == words


@pytest.mark.parametrize(("share", "words"), [(0.625, "63 %"), (0.375, "38 %"), (0.0, "0 %"), (1.0, "100 %")])
def test_halves_are_rounded_up(share, words):
    assert wording.percent(share, 0) == words


@pytest.mark.parametrize(("difference", "words"), [(0.625, "+63"), (-0.625, "−63"), (0.0, "+0")])
def test_differences_have_their_sign(difference, words):
    assert wording.points(difference, 0) == words
