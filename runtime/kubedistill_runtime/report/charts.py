"""The plots of the report."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from kubedistill_api.comparison import ArmResult, Comparison
from kubedistill_api.status import Score, ScoreDelta
from kubedistill_runtime.report.contents import Benchmark, Covariates, Fate, Ints, PassRates, Training
from kubedistill_runtime.report.svg import Axis, Plot, axis
from kubedistill_runtime.report.wording import compact, count, finding, interval, percent, points

BINS = 36
MAX_HOVER_BANDS = 120
MAX_POINTS = 600
LEAST_POWER = -6
"""Smaller shares than this power of ten are not told apart."""
LINE_STYLES = ("s1", "s2", "s3", "s4", "s5", "s6")


@dataclass(frozen=True)
class Series:
    """Values with the name and the style they are drawn in."""

    label: str
    style: str
    values: Ints


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Style and label of every series."""
    return Markup('<ul class="legend">{}</ul>').format(
        Markup().join(Markup('<li><i class="key {}"></i>{}</li>').format(style, label) for style, label in entries)
    )


def histogram(series: Sequence[Series], x_label: str, y_label: str) -> Markup:
    """Overlaid histograms over the same bins; each bar tells its numbers."""
    values = [s for s in series if len(s.values)]
    if not values:
        return Markup('<p class="empty">Nothing to show.</p>')
    low = min(int(s.values.min()) for s in values)
    high = max(int(s.values.max()) for s in values)
    width = max(1, -(-(high - low + 1) // BINS))
    edges = np.arange(low, high + width + 1, width)
    heights = {s.label: np.histogram(s.values, edges)[0] for s in values}
    top = max(int(h.max()) for h in heights.values())
    shares = ", ".join(f"{s.label}: {len(s.values):,}, median {np.median(s.values):,.0f}" for s in values)
    plot = Plot(
        axis(low, float(edges[-1]), x_label, compact),
        axis(0, max(1, top * 1.05), y_label, compact, most=4),
        title=f"Histogram of {x_label}. {shares}.",
    )
    for s in values:
        _draw(plot, s, edges, heights[s.label], outlined=len(values) > 2)
    for at, left in enumerate(edges[:-1]):
        tip = f"{left:,} to {left + width - 1:,} {x_label}: " if width > 1 else f"{left:,} {x_label}: "
        numbers = ", ".join(f"{s.label} {heights[s.label][at]:,}" for s in values)
        plot.bar(left, left + width, 0, plot.y.high, "hover", tip + numbers)
    names = [(s.style, f"{s.label} · {len(s.values):,} · median {np.median(s.values):,.0f}") for s in values]
    return legend(names) + plot.render()


def _draw(plot: Plot, series: Series, edges: Ints, heights: Ints, *, outlined: bool) -> None:
    """Bars; outlines where bars of many series would hide one another."""
    if outlined:
        corners = [(x, h) for at, h in enumerate(heights) for x in edges[at : at + 2]]
        plot.line([(float(edges[0]), 0.0), *corners, (float(edges[-1]), 0.0)], series.style)
        return
    for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
        if height:
            plot.bar(left, right, 0, height, f"bar {series.style}")


def entropies(entries: Sequence[Covariates]) -> list[tuple[str, Markup]]:
    """Per corpus its label, and how many of its tokens have which entropy under the student, all on the same axes.

    Shares are on a logarithmic scale: most tokens of a trace follow from those before, and would hide the others.
    """
    high = max(entry.entropy.width * len(entry.entropy.counts) for entry in entries)
    smallest = min(count / entry.tokens for entry in entries for count in entry.entropy.counts if count)
    low = max(LEAST_POWER, math.floor(math.log10(smallest)))
    y = Axis(low, 0, tuple(map(float, range(low, 1))), "tokens in %, logarithmic", lambda power: f"{100 * 10**power:g}")
    return [(entry.label, _entropy(entry, axis(0, high, "entropy, in nats"), y)) for entry in entries]


def _entropy(entry: Covariates, x: Axis, y: Axis) -> Markup:
    spread = entry.entropy
    median = spread.quantiles[50]
    plot = Plot(
        x,
        y,
        height=180,
        title=f"Histogram of the entropy of {entry.tokens:,} tokens{' of ' if entry.label else ''}{entry.label}: "
        f"mean {spread.mean:.3f}, median {median:.3f} nats.",
    )
    for at, number in enumerate(spread.counts):
        left, right = at * spread.width, (at + 1) * spread.width
        if number:
            plot.bar(left, right, y.low, max(y.low, math.log10(number / entry.tokens)), "bar base")
        tip = f"{left:.1f} to {right:.1f} nats: {number:,} tokens, {percent(number / entry.tokens, 2)}"
        plot.bar(left, right, y.low, y.high, "hover", tip)
    plot.rule(spread.mean, "mean")
    return legend([("base", f"{entry.tokens:,} tokens · mean {spread.mean:.3f} · median {median:.3f}")]) + plot.render()


def pass_rates(rates: PassRates, divided: bool) -> Markup:
    """Questions by how often the student solves them before training; `divided` by what became of them."""
    samples = rates.samples
    parts = [("base", "questions", rates.hard + rates.easy + rates.unsolved)]
    if divided:
        parts = [
            ("kept", "hard, stayed", rates.hard),
            ("warn", "dropped as not hard enough", rates.easy),
            ("mute", "no usable trace", rates.unsolved),
        ]
    parts = [part for part in parts if part[2].sum()]
    total = rates.hard + rates.easy + rates.unsolved
    tick_at = sorted({round(i * samples / min(samples, 4)) for i in range(min(samples, 4) + 1)})
    x = Axis(
        -0.5, samples + 0.5, tuple(map(float, tick_at)), "pass rate of the student", lambda v: percent(v / samples, 0)
    )
    plot = Plot(
        x,
        axis(0, max(1, int(total.max()) * 1.08), "questions", compact, most=4),
        title=f"Questions by the student's pass rate over {samples} responses: "
        + ", ".join(f"{label} {int(values.sum()):,}" for _, label, values in parts),
    )
    for right in range(samples + 1):
        bottom = 0
        for style, _, values in parts:
            if values[right]:
                plot.bar(right - 0.42, right + 0.42, bottom, bottom + values[right], f"bar solid {style}")
            bottom += values[right]
        numbers = ", ".join(f"{label} {values[right]:,}" for _, label, values in parts)
        plot.bar(right - 0.5, right + 0.5, 0, plot.y.high, "hover", f"{right} of {samples} right: {numbers}")
    cut = _cut(rates) if divided else None
    if cut is not None:
        plot.rule(cut, "cut")
    return legend([(style, f"{label} · {int(v.sum()):,}") for style, label, v in parts]) + plot.render()


def _cut(rates: PassRates) -> float | None:
    """Between the easiest question that stayed and the hardest that went; None without a clean cut."""
    if not rates.easy.any() or not rates.hard.any():
        return None
    stayed, went = int(np.flatnonzero(rates.hard)[-1]), int(np.flatnonzero(rates.easy)[0])
    # With keepHardest, ties at the cut go both ways: it then runs through their bar.
    return (stayed + went) / 2


def loss(trainings: Sequence[tuple[str, Training]]) -> Markup:
    """Loss by step; with one training also each step's own, and the learning rate."""
    raw = [[(row["step"], row["loss"]) for row in training.rows] for _, training in trainings]
    steps = [step for line in raw for step, _ in line]
    losses = [value for line in raw for _, value in line]
    ends = "; ".join(f"{label or 'loss'} from {t.first_loss:.3g} to {t.last_loss:.3g}" for label, t in trainings)
    plot = Plot(
        axis(min(steps), max(steps), "step", compact),
        axis(min(0.0, *losses), max(losses) * 1.05, "loss", most=5),
        height=260,
        title=f"Training loss by step: {ends}.",
    )
    entries = []
    alone = len(trainings) == 1
    if alone:
        entries = _learning_rate(plot, trainings[0][1])
        plot.line(_thinned(raw[0]), "student raw")
    for at, ((label, training), line) in enumerate(zip(trainings, raw, strict=True)):
        style = "student" if alone else LINE_STYLES[at % len(LINE_STYLES)]
        plot.line(_thinned(_smoothed(line, training.window)), style)
        window = f", mean of {training.window} steps" if training.window > 1 else ""
        entries.insert(at, (style, f"{label or 'loss'}{window}"))
    if alone:
        _hover(plot, trainings[0][1])
    return legend(entries) + plot.render()


def _learning_rate(plot: Plot, training: Training) -> list[tuple[str, str]]:
    """Draws the schedule to a height of its own, and gives its entry in the legend."""
    rates = [(row["step"], row["learning_rate"]) for row in training.rows if row.get("learning_rate") is not None]
    peak = max((rate for _, rate in rates), default=0.0)
    if peak == 0:
        return []
    plot.curve([(plot.x.at(step), 92 * rate / peak) for step, rate in _thinned(rates)], "faint")
    return [("faint", f"learning rate, peak {peak:.2g}")]


def _hover(plot: Plot, training: Training) -> None:
    rows = training.rows
    every = -(-len(rows) // MAX_HOVER_BANDS)
    shown = rows[::every]
    for at, row in enumerate(shown):
        left = (shown[at - 1]["step"] + row["step"]) / 2 if at else row["step"]
        right = (shown[at + 1]["step"] + row["step"]) / 2 if at + 1 < len(shown) else row["step"]
        tip = f"step {row['step']:,}: loss {row['loss']:.4f}"
        if row.get("learning_rate") is not None:
            tip += f", learning rate {row['learning_rate']:.3g}"
        if row.get("grad_norm") is not None:
            tip += f", gradient norm {row['grad_norm']:.3g}"
        plot.bar(left, right, 0, plot.y.high, "hover", tip)


def _smoothed(line: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Mean of each point and those around it, within the window and the line."""
    values = np.array([y for _, y in line])
    before, after = window // 2, window - window // 2
    return [(x, float(values[max(0, at - before) : at + after].mean())) for at, (x, _) in enumerate(line)]


def _thinned(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MAX_POINTS`; longer lines by the mean of equal stretches, and the last point as it is."""
    if len(line) <= MAX_POINTS:
        return list(line)
    parts = np.array_split(np.array(line), MAX_POINTS)
    x, y = line[-1]
    return [*((float(x), float(y)) for x, y in (part.mean(axis=0) for part in parts)), (float(x), float(y))]


def funnel(steps: Sequence[tuple[str, int]], unit: str) -> Markup:
    """One bar per step, with the share that got through it."""
    most = max((number for _, number in steps), default=0) or 1
    rows = []
    before = None
    for label, number in steps:
        # A share that rounds to all of it says nothing.
        lost = "" if before in (None, 0) or before == number else f"−{before - number:,}"
        rows.append(
            Markup(
                '<tr><th scope="row">{}</th><td class="num">{}</td>'
                '<td class="wide"><svg width="100%" height="18" aria-hidden="true">'
                '<rect class="track" width="100%" height="18" rx="3"/>'
                '<rect class="fill {}" width="{}%" height="18" rx="3"/></svg></td>'
                '<td class="num lost">{}</td></tr>'
            ).format(label, count(number), "kept" if label == "kept" else "base", f"{100 * number / most:.2f}", lost)
        )
        before = number
    head = '<thead class="sr"><tr><th>step</th><th>{}</th><th>bar</th><th>lost</th></tr></thead>'
    return Markup('<table class="funnel">' + head + "<tbody>{}</tbody></table>").format(unit, Markup().join(rows))


def fates(entries: Sequence[Fate], total: int) -> Markup:
    """Why things ended where they did, as small bars."""
    return Markup().join(
        Markup(
            '<tr><td>{}</td><td><code data-stage="{} / ">{}</code><span class="example">{}</span></td>'
            '<td class="num">{}</td><td class="wide"><svg width="100%" height="10" aria-hidden="true">'
            '<rect class="fill {}" width="{}%" height="10" rx="2"/></svg></td></tr>'
        ).format(
            fate.stage,
            fate.stage,
            fate.reason,
            fate.example,
            count(fate.count),
            "kept" if fate.stage == "kept" else "warn",
            f"{100 * fate.count / max(1, total):.2f}",
        )
        for fate in entries
    )


def forest(base: Score | None, student: Score | None) -> Markup:
    """Two means with their intervals on 0 to 100 %."""
    rows = [(who, entry) for who, entry in (("base", base), ("student", student)) if entry]
    marks = [
        Markup('<line class="grid" x1="{0}%" x2="{0}%" y1="0" y2="100%"/>').format(x) for x in (0, 25, 50, 75, 100)
    ]
    height = 16 * len(rows) + 8
    for at, (who, entry) in enumerate(rows):
        marks.append(_whisker(100 * entry.ci[0], 100 * entry.mean, 100 * entry.ci[1], 12 + 16 * at, who))
    text = ", ".join(f"{who} {percent(e.mean)}, interval {interval(e)}" for who, e in rows)
    return _strip(text, height, marks)


def forest_delta(delta: ScoreDelta, reach: float) -> Markup:
    """A difference with its interval around 0; the strip goes from -reach to +reach."""

    def at(value: float) -> float:
        return 50 + 50 * value / reach

    style = {"better": "better", "worse": "worse", "unclear": "mute"}[finding(*delta.ci)]
    marks = [
        Markup('<line class="zero" x1="50%" x2="50%" y1="0" y2="100%"/>'),
        _whisker(at(delta.ci[0]), at(delta.mean), at(delta.ci[1]), 20, style),
    ]
    return _strip(f"difference {points(delta.mean)} points, interval {interval(delta)}", 40, marks)


def _whisker(low: float, mean: float, high: float, y: int, style: str) -> Markup:
    return Markup(
        '<line class="whisker {0}" x1="{1:.2f}%" x2="{3:.2f}%" y1="{4}" y2="{4}"/>'
        '<circle class="dot {0}" cx="{2:.2f}%" cy="{4}" r="5"/>'
    ).format(style, low, mean, high, y)


def _strip(text: str, height: int, marks: Sequence[Markup]) -> Markup:
    return Markup('<svg class="strip" width="100%" height="{}" role="img" aria-label="{}">{}</svg>').format(
        height, text, Markup().join(marks)
    )


def changes(benchmark: Benchmark) -> Markup:
    """Questions by how much their share of right answers changed."""
    pairs = [(before, after) for _, before, after in benchmark.per_question if before is not None]
    if not pairs:
        return Markup()
    steps = benchmark.samples
    moved = np.array([round((after - before) * steps) for before, after in pairs])
    # More than some forty bars cannot be told apart.
    width = max(1, -(-(2 * steps + 1) // 41))
    reach = -(-steps // width) * width
    places = np.round(moved / width).astype(int) * width
    values, numbers = np.unique(places, return_counts=True)
    x = Axis(
        -reach - width / 2,
        reach + width / 2,
        tuple(float(t) for t in (-reach, -reach / 2, 0, reach / 2, reach)),
        "change of the share of right answers, in points",
        lambda v: points(v / steps, 0) if v else "0",
    )
    better, worse = int((moved > 0).sum()), int((moved < 0).sum())
    same = len(pairs) - better - worse
    plot = Plot(
        x,
        axis(0, max(1, int(numbers.max()) * 1.08), "questions", compact, most=4),
        title=f"Change per question: {better} better, {same} the same, {worse} worse.",
    )
    for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
        style = "better" if value > 0 else "worse" if value < 0 else "mute"
        tip = f"{points(value / steps, 0) if value else '0'} points: {number:,} questions"
        plot.bar(value - 0.44 * width, value + 0.44 * width, 0, number, f"bar solid {style}", tip)
    return (
        legend([("better", f"better · {better:,}"), ("mute", f"same · {same:,}"), ("worse", f"worse · {worse:,}")])
        + plot.render()
    )


def fronts(comparison: Comparison) -> list[tuple[str, Markup]]:
    """Score against each cost: what it is, and the plot with the variants that no other dominates joined by a line."""
    return [
        (
            "Score by training tokens",
            _front(comparison, comparison.front_training, "tokens of one training", lambda arm: arm.training_tokens),
        ),
        (
            "Score by the length of answers",
            _front(comparison, comparison.front_response, "tokens of an answer", lambda arm: arm.response_tokens),
        ),
    ]


def _front(comparison: Comparison, names: Sequence[str], label: str, cost: Callable[[ArmResult], float]) -> Markup:
    costs, scores = [cost(arm) for arm in comparison.arms], [arm.score for arm in comparison.arms]
    room = 0.1 * (max(costs) - min(costs)) or 1.0
    lowest = max(0.0, min(scores) - 0.05)
    plot = Plot(
        axis(max(0.0, min(costs) - room), max(costs) + room, label, compact),
        axis(lowest, min(1.0, max(scores) + 0.05), "score", lambda value: percent(value, 0), most=5),
        height=300,
        title=f"Score by {label}. Not dominated: {', '.join(names)}.",
    )
    by_name = {arm.arm: arm for arm in comparison.arms}
    plot.line([(cost(by_name[name]), by_name[name].score) for name in names], "student")
    for arm in comparison.arms:
        tip = f"{arm.arm}: {percent(arm.score)}, {compact(cost(arm))} {label}"
        style = {"better": "better", "worse": "worse", "unclear": "mute", None: "base"}[arm.finding]
        plot.dot(cost(arm), arm.score, style, arm.arm, tip)
    return plot.render()


def share(value: float, most: float, style: str = "base") -> Markup:
    """A small bar in a table's cell."""
    return Markup(
        '<svg width="100%" height="10" aria-hidden="true"><rect class="track" width="100%" height="10" rx="2"/>'
        '<rect class="fill {}" width="{}%" height="10" rx="2"/></svg>'
    ).format(style, f"{100 * value / most if most else 0:.2f}")
