"""Numbers and findings in words, no stronger than the intervals allow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kubedistill_api.comparison import Comparison
from kubedistill_api.decision import RoundScore
from kubedistill_api.status import Score, ScoreDelta
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


def ends(interval: tuple[float, float], signed: bool = False) -> str:
    """`25.1 to 34.8` in percent; with signs for a difference."""
    low, high = (points(end) if signed else f"{100 * end:.1f}" for end in interval)
    return f"{low} to {high}"


def behind(entry: RoundScore) -> str:
    """Percentage points behind the leader: `12.3 (10.1 to 14.5)`."""
    if entry.behind is None or entry.behind_ci is None:
        return "–"
    low, high = (points(end) for end in entry.behind_ci)
    return f"{100 * entry.behind:.1f} ({low} to {high})"


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
    """Candidates by their students' scores (DED, section 3): those still in the running, then the last to leave."""
    tracks = {track.name: track for track in report.tracks}
    return [(tracks[name], entry.score) for name, (entry, _) in report.placed.items() if name in tracks]


def probe_headline(report: Report) -> Headline | None:
    """Which teacher makes the best student, and by how much. None where nothing was decided."""
    if not report.decisions:
        return None
    decision = report.decisions[-1]
    rounds = f" and all {len(report.decisions)} rounds" if len(report.decisions) > 1 else ""
    detail = (
        f"In the last round, {decision.reason}. Differences are on the same {count(decision.questions)} questions; the "
        f"intervals hold together at {percent(decision.confidence, 0)} for all pairs of candidates{rounds}."
    )
    if decision.outcome != "clear":
        title = f"{decision.leader} is ahead, but not clearly"
        return Headline("unclear", title, f"{detail} More questions, samples or training seeds would tell.")
    first = next((track for track in report.evaluated if track.name == decision.leader), None)
    against = [finding(*delta.ci) for b in first.benchmarks if (delta := b.delta(b.metric))] if first else []
    if against and "better" not in against:
        word = "worse than" if "worse" in against else "not clearly better than"
        return Headline("unclear", f"{decision.leader} makes the best student, but it is {word} the base", detail)
    return Headline("better", f"{decision.leader} makes the best student", detail)


def study_headline(comparison: Comparison) -> Headline:
    """Whether something beats the reference, and what falls behind it."""
    named = {key: [arm.arm for arm in comparison.arms if arm.finding == key] for key in ("better", "worse", "unclear")}
    told = [
        f"{label}: {', '.join(named[key])}."
        for key, label in (("better", "Better"), ("worse", "Worse"), ("unclear", "No difference that was seen"))
        if named[key]
    ]
    reference = next(arm.arm for arm in comparison.arms if arm.against is None)
    if named["better"]:
        return Headline("better", f"{_some(named['better'])} better than the reference", " ".join(told))
    if named["worse"] and not named["unclear"]:
        return Headline("worse", f"Every other variant is worse than {reference}", " ".join(told))
    return Headline("unclear", f"Nothing is better than {reference} as far as this study could see", " ".join(told))


def _some(names: Sequence[str]) -> str:
    return f"{names[0]} is" if len(names) == 1 else f"{len(names)} variants are"


def headline(report: Report) -> Headline | None:
    """The page's first words; None where nothing was scored."""
    if report.comparison:
        return study_headline(report.comparison)
    if report.is_probe:
        return probe_headline(report)
    return next((job_headline(track) for track in report.tracks), None)


def caution_of(report: Report) -> str:
    """What the report's intervals do not say."""
    if report.comparison:
        return study_caution(report.comparison)
    if report.decisions:
        return report.decisions[-1].scope()
    return caution(report.evaluated[0].benchmarks) if report.evaluated else ""


def of_several(report: Report) -> str:
    """Which of several trainings a probe's page shows."""
    if not report.decisions or report.decisions[-1].seeds == 1:
        return ""
    decision = report.decisions[-1]
    each = ", each on traces of its own" if decision.draws > 1 else ""
    return (
        f"Scores of this table are means of {decision.seeds} trainings{each}. All else is of the first one, except "
        "what the corpora are to the student."
    )


def study_caution(comparison: Comparison) -> str:
    """What a study's intervals do not say."""
    text = "No difference that was seen is not the same as none: the intervals say how large one may still be."
    if comparison.seeds == 1:
        return text + " They do not cover the seed of the training: a second training may differ by more."
    if comparison.draws > 1:
        return text + " They cover other traces of this teacher and other trainings, not another teacher or student."
    return text + " All variants learnt from one draw of the teacher's traces; another draw may differ."


def caution(benchmarks: Sequence[Benchmark]) -> str:
    """What the intervals do not say."""
    text = (
        "Intervals cover the draw of questions and samples, not the seed of the training: a second training of the "
        "same corpus may differ by more."
    )
    if len(benchmarks) > 1:
        text += f" With {len(benchmarks)} benchmarks side by side, one may exclude 0 by chance."
    return text


def covariates_caution(report: Report) -> str:
    """What the measures of corpora do not say."""
    number = len(report.covariates)
    text = (
        "In the DED paper (arXiv 2508.09883) two teachers were compared in this way, and the one whose corpus had the "
        "lower entropy made the better student. Two are no rule (n = 2), and under which model it measured is not "
        "clear. "
    )
    if number < 2:
        return text + "The figures of one corpus predict nothing; they are here to be compared with other corpora."
    of = "candidates" if report.is_probe else "variants"
    return (
        f"{text}With {number} {of} no correlation with the scores is claimed here either: the figures describe how the "
        "corpora differ, and the scores decide."
    )
