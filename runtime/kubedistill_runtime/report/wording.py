"""Numbers and findings in words, no stronger than the intervals allow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kubedistill_api.status import Score, ScoreDelta
from kubedistill_runtime.evaluate.intervals import Estimate, difference_interval
from kubedistill_runtime.report.contents import Benchmark, Report, Track

HALF_UP = 1e-9
"""Makes 62.5 % round to 63 % as people expect it, and as the page's script does."""

Finding = Literal["better", "worse", "unclear"]


def percent(share: float | None, digits: int = 1) -> str:
    """`87.3 %`."""
    return "–" if share is None else f"{100 * share + HALF_UP:.{digits}f} %"


def points(difference: float, digits: int = 1) -> str:
    """`+57.1`: percentage points with their sign."""
    return f"{100 * difference + math.copysign(HALF_UP, difference):+.{digits}f}".replace("-", "−")


def count(number: float | None) -> str:
    """`1,234`."""
    return "–" if number is None else f"{number:,.0f}"


def compact(number: float) -> str:
    """`12.3k`, `4.5M`: for axes and tiles."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 05 s`, `2 h 14 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def size(number: int) -> str:
    """`3.4 MB`."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def interval(entry: Score | ScoreDelta) -> str:
    """`25.1 to 34.8` in percent, or with signs for a difference."""
    if isinstance(entry, ScoreDelta):
        return f"{points(entry.ci[0])} to {points(entry.ci[1])}"
    return f"{100 * entry.ci[0]:.1f} to {100 * entry.ci[1]:.1f}"


def finding(low: float, high: float) -> Finding:
    """What an interval of a difference allows to say."""
    return "better" if low > 0 else "worse" if high < 0 else "unclear"


def sentence(benchmark: Benchmark, confidence: float) -> str:
    """What happened on one benchmark."""
    after = benchmark.score("student", benchmark.metric)
    before = benchmark.score("base", benchmark.metric)
    delta = benchmark.delta(benchmark.metric)
    assert after is not None
    if before is None or delta is None:
        return f"{benchmark.name}: {percent(after.mean)}. The base was not scored, so nothing can be said about change."
    verb = "includes" if finding(*delta.ci) == "unclear" else "excludes"
    return (
        f"On {benchmark.name}, {percent(before.mean)} became {percent(after.mean)}: {points(delta.mean)} points, "
        f"and the {percent(confidence, 0)} interval of the difference ({interval(delta)}) {verb} 0."
    )


@dataclass(frozen=True)
class Headline:
    """The page's first words."""

    finding: Finding
    title: str
    detail: str


def job_headline(track: Track) -> Headline | None:
    """Did it work? None where nothing was scored."""
    if not track.benchmarks:
        return None
    found = [finding(*delta.ci) for b in track.benchmarks if (delta := b.delta(b.metric)) is not None]
    detail = " ".join(sentence(b, track.confidence) for b in track.benchmarks)
    if not found:
        return Headline("unclear", "The student was scored, the base was not", detail)
    better, worse, number = found.count("better"), found.count("worse"), len(found)
    if number == 1:
        titles = {
            "better": "The student is better than the base",
            "worse": "The student is worse than the base",
            "unclear": "No clear difference between student and base",
        }
        return Headline(found[0], titles[found[0]], detail)
    every = "both" if number == 2 else f"all {number}"
    if number in (better, worse):
        word = "better" if better else "worse"
        return Headline(found[0], f"The student is {word} than the base on {every} benchmarks", detail)
    parts = [f"{word} on {n}" for word, n in (("better", better), ("worse", worse)) if n]
    if number - better - worse:
        parts.append(f"no clear difference on {number - better - worse}")
    title = (
        f"Of {number} benchmarks the student is {', '.join(parts)}"
        if better or worse
        else (f"No clear difference on any of {number} benchmarks")
    )
    return Headline("better" if better and not worse else "worse" if worse and not better else "unclear", title, detail)


def ranking(report: Report) -> list[tuple[Track, float]]:
    """Candidates by the mean of their student's scores over the benchmarks (DED, section 3), the best first."""
    means = [
        (track, float(np.mean([s.mean for b in track.benchmarks if (s := b.score("student", b.metric))])))
        for track in report.evaluated
    ]
    return sorted(means, key=lambda pair: -pair[1])


def lead(first: Track, second: Track) -> Estimate | None:
    """Paired difference of two candidates' students over all questions that both answered, benchmarks weighted by
    their questions; None where they did not answer the same."""
    after, before, samples = [], [], 1
    others = {b.name: b for b in second.benchmarks}
    for benchmark in first.benchmarks:
        other = others.get(benchmark.name)
        if other is None or [q[0] for q in benchmark.per_question] != [q[0] for q in other.per_question]:
            return None
        after += [q[2] for q in benchmark.per_question]
        before += [q[2] for q in other.per_question]
        samples = max(samples, benchmark.samples)
    return difference_interval(np.array(after), np.array(before), samples, first.confidence)


def probe_headline(report: Report) -> Headline | None:
    """Which teacher makes the best student, and by how much. None where nothing was scored."""
    ranked = ranking(report)
    if not ranked:
        return None
    (first, mean), *rest = ranked
    if not rest:
        return Headline("unclear", f"Only {first.label} was scored", f"Its student has {percent(mean)}.")
    second, second_mean = rest[0]
    scores = f"Its student has {percent(mean)}, the student of {second.label} {percent(second_mean)}"
    ahead = lead(first, second)
    if ahead is None:
        return Headline("unclear", f"{first.label} makes the best student", f"{scores}.")
    change = (
        f"{points(ahead.mean)} points on the same questions, {percent(first.confidence, 0)} interval "
        f"{points(ahead.low)} to {points(ahead.high)}"
    )
    if finding(ahead.low, ahead.high) != "better":
        return Headline(
            "unclear",
            f"{first.label} is ahead, but not clearly",
            f"{scores} ({change}, which includes 0). More questions or samples would tell.",
        )
    against = [finding(*delta.ci) for b in first.benchmarks if (delta := b.delta(b.metric))]
    detail = f"{scores} ({change}, which excludes 0)."
    if against and "better" not in against:
        word = "worse than" if "worse" in against else "not clearly better than"
        return Headline("unclear", f"{first.label} makes the best student, but it is {word} the base", detail)
    return Headline("better", f"{first.label} makes the best student", detail)


def headline(report: Report) -> Headline | None:
    """The page's first words; None where nothing was scored."""
    if report.is_probe:
        return probe_headline(report)
    return next((job_headline(track) for track in report.tracks), None)


def caution(benchmarks: Sequence[Benchmark]) -> str:
    """What the intervals do not say."""
    text = (
        "Intervals cover the draw of questions and samples, not the seed of the training: a second training of the "
        "same corpus may differ by more."
    )
    if len(benchmarks) > 1:
        text += f" With {len(benchmarks)} benchmarks side by side, one may exclude 0 by chance."
    return text
