"""Plots as inline SVG that stretch with the page while their text stays readable.

Horizontal and vertical positions are percentages of the plot's area; text and strokes are in pixels. Colours come from
the style sheet by class, so that light, dark and print need no second plot.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Axis:
    """From numbers to percentages."""

    low: float
    high: float
    ticks: tuple[float, ...]
    label: str = ""
    show: Callable[[float], str] = "{:g}".format

    def at(self, value: float) -> float:
        """Position of a value, 0 to 100."""
        span = self.high - self.low
        return 0.0 if span == 0 else 100 * (value - self.low) / span


def axis(
    low: float, high: float, label: str = "", show: Callable[[float], str] = "{:g}".format, *, most: int = 6
) -> Axis:
    """An axis over low..high with ticks at round numbers (1, 2, 5 times a power of ten)."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        high = low + 1
    raw = (high - low) / most
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    ticks = tuple(i * step for i in range(first, math.floor(high / step + 1e-9) + 1))
    return Axis(low, high, ticks, label, show)


@dataclass
class Plot:
    """An area with axes, filled mark by mark."""

    x: Axis
    y: Axis
    height: int = 220
    title: str = ""
    """What it shows, for who cannot see it."""
    marks: list[Markup] = field(default_factory=list)

    def bar(self, x0: float, x1: float, y0: float, y1: float, style: str, tip: str = "") -> None:
        """A box from (x0, y0) to (x1, y1) in the axes' units."""
        left, right = sorted((self.x.at(x0), self.x.at(x1)))
        top, bottom = sorted((100 - self.y.at(y0), 100 - self.y.at(y1)))
        if bottom - top > 0 or tip:
            self.marks.append(
                Markup('<rect class="{}" x="{}%" y="{}%" width="{}%" height="{}%"{}/>').format(
                    style, _n(left), _n(top), _n(right - left), _n(bottom - top), _tip(tip)
                )
            )

    def line(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """A line through the points."""
        self.curve([(self.x.at(x), self.y.at(y)) for x, y in points], style)

    def curve(self, places: Sequence[tuple[float, float]], style: str) -> None:
        """A line through places in percent, for a line with an axis of its own."""
        path = " ".join(f"{_n(10 * x)},{_n(1000 - 10 * y)}" for x, y in places)
        self.marks.append(
            Markup(
                '<svg viewBox="0 0 1000 1000" width="100%" height="100%" preserveAspectRatio="none">'
                '<polyline class="line {}" points="{}" vector-effect="non-scaling-stroke"/></svg>'
            ).format(style, path)
        )

    def dot(self, x: float, y: float, style: str, label: str = "", tip: str = "") -> None:
        """A point with its name beside it."""
        across, down = self.x.at(x), 100 - self.y.at(y)
        anchor, shift = ("end", -9) if across > 60 else ("start", 9)
        self.marks.append(
            Markup(
                '<circle class="dot {0}" cx="{1}%" cy="{2}%" r="5"{3}/>'
                '<text class="note" x="{1}%" y="{2}%" dx="{4}" dy="-6" text-anchor="{5}">{6}</text>'
            ).format(style, _n(across), _n(down), _tip(tip), shift, anchor, label)
        )

    def rule(self, x: float, label: str, style: str = "cut") -> None:
        """A vertical line with a label at its top."""
        at = self.x.at(x)
        anchor, shift = ("end", -6) if at > 60 else ("start", 6)
        self.marks.append(
            Markup(
                '<line class="rule {0}" x1="{1}%" x2="{1}%" y1="0%" y2="100%"/>'
                '<text class="note {0}" x="{1}%" y="0" dx="{2}" dy="11" text-anchor="{3}">{4}</text>'
            ).format(style, _n(at), shift, anchor, label)
        )

    def render(self) -> Markup:
        """The plot as HTML."""
        grid = Markup().join(
            Markup(
                '<line class="grid" x1="0" x2="100%" y1="{0}%" y2="{0}%"/>'
                '<text class="tick" x="0" y="{0}%" dx="-8" dy="4" text-anchor="end">{1}</text>'
            ).format(_n(100 - self.y.at(tick)), self.y.show(tick))
            for tick in self.y.ticks
        )
        ticks = Markup().join(
            Markup('<text class="tick" x="{}%" y="100%" dy="18" text-anchor="middle">{}</text>').format(
                _n(self.x.at(tick)), self.x.show(tick)
            )
            for tick in self.x.ticks
        )
        return Markup(
            '<div class="plot" role="img" aria-label="{}">{}'
            '<svg width="100%" height="{}" aria-hidden="true" focusable="false">{}{}{}'
            '<line class="axis" x1="0" x2="100%" y1="100%" y2="100%"/></svg>{}</div>'
        ).format(
            self.title,
            Markup('<span class="y-label">{}</span>').format(self.y.label) if self.y.label else "",
            self.height,
            grid,
            Markup().join(self.marks),
            ticks,
            Markup('<span class="x-label">{}</span>').format(self.x.label) if self.x.label else "",
        )


def _tip(text: str) -> Markup:
    return Markup(' data-tip="{}"').format(escape(text)) if text else Markup()


def _n(value: float) -> str:
    """A coordinate with as many digits as can be seen."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
