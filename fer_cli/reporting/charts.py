"""Charts of the report as inline SVG: drawn with CSS variables, so that they follow the page into dark and onto paper.

``Markup.format`` escapes every text that goes in. A chart that speaks for itself has a title for screen readers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

if TYPE_CHECKING:
    from fer_cli.metrics import ReliabilityBin

_WIDTH: Final = 460.0


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a curve; NaN leaves a point out."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """A line chart: validation accuracy by lambda, or anything by epoch.

    ``log_x`` needs positive ``x``. ``percent`` writes shares as percentages. ``chosen`` is a series' name and a
    position in ``x``.
    """

    title: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    series: tuple[Series, ...]
    log_x: bool = False
    percent: bool = True
    chosen: tuple[str, int] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse lines that do not fit the axis."""
        if not self.x or any(len(series.values) != len(self.x) for series in self.series):
            raise ValueError(f"the series of {self.title!r} do not have the {len(self.x)} points of x")
        if self.log_x and min(self.x) <= 0:
            raise ValueError(f"the axis of {self.title!r} is logarithmic and not all positive")


def interval_bar(
    value: float, low: float, high: float, start: float, end: float, mark: float | None = None, title: str = ""
) -> Markup:
    """Draw a value and its interval on a line from ``start`` to ``end`` that stretches to the width of its place.

    Args:
        value: NaN draws the line alone.
        low: lower end of the interval; NaN draws no interval.
        high: upper end.
        start: value at the left end.
        end: value at the right end.
        mark: a value to compare with, such as zero or chance.
        title: what it shows, for screen readers; without one the chart is hidden from them, for a place where the same
            numbers stand beside it.
    """

    def x(number: float) -> float:
        return min(100.0, max(0.0, 100 * (number - start) / (end - start)))

    parts = [Markup('<line class="track" x1="0" y1="8" x2="100" y2="8"/>')]
    if mark is not None:
        parts.append(Markup('<line class="mark" x1="{0:.2f}" y1="1" x2="{0:.2f}" y2="15"/>').format(x(mark)))
    if not math.isnan(low + high):
        # At least as wide as the tick that marks the value, or a narrow interval would vanish behind it.
        left, right = x(low), max(x(high), x(low) + 0.4)
        box = Markup('<rect class="span" x="{:.2f}" y="4" width="{:.2f}" height="8"/>')
        parts.append(box.format(left, right - left))
    if not math.isnan(value):
        parts.append(Markup('<line class="tick" x1="{0:.2f}" y1="2" x2="{0:.2f}" y2="14"/>').format(x(value)))
    role = Markup('role="img"') if title else Markup('aria-hidden="true"')
    head = Markup("<title>{}</title>").format(title) if title else Markup("")
    return Markup('<svg class="bar" viewBox="0 0 100 16" preserveAspectRatio="none" {}>{}{}</svg>').format(
        role, head, Markup("").join(parts)
    )


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) from at or below ``low`` to at or above ``high``."""
    if not high > low:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def tick_label(number: float) -> str:
    """Return a number as short as an axis needs it: powers of ten from 10,000 up and below 0.001 as powers."""
    power = round(math.log10(number)) if number > 0 else 0
    if (power > 3 or power < -3) and math.isclose(number, 10.0**power):
        return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{number:,.10g}"


def _text(x: float, y: float, what: str, *, anchor: str = "middle", kind: str = "") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(x, y, anchor, kind, what)


def _frame(height: float, title: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {:g} {:g}" role="img"><title>{}</title>{}</svg>').format(
        _WIDTH, height, title, Markup("").join(parts)
    )


def reliability_chart(bins: Sequence[ReliabilityBin], title: str) -> Markup:
    """Draw accuracy against confidence, a point a bin with its interval, over a histogram of the confidences.

    Points on the diagonal are calibrated (Guo et al. 2017, Figure 1); the area of a point grows with its bin's items.
    """
    left, top, side_x, side_y, strip = 54.0, 30.0, 384.0, 290.0, 46.0
    height = top + side_y + strip + 52

    def x(share: float) -> float:
        return left + share * side_x

    def y(share: float) -> float:
        return top + (1 - share) * side_y

    parts: list[Markup] = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(
            Markup('<line class="grid" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
                x(0), y(share), x(1), y(share)
            )
        )
        parts.append(_text(left - 8, y(share) + 4, f"{share:.0%}", anchor="end", kind="label"))
        parts.append(_text(x(share), height - 26, f"{share:.0%}", kind="label"))
    parts.append(
        Markup('<line class="ideal" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(x(0), y(0), x(1), y(1))
    )
    # Where the line's slope lets the words run along it.
    angle = -math.degrees(math.atan2(side_y, side_x))
    parts.append(
        Markup(
            '<text class="label" text-anchor="middle" transform="translate({:.1f} {:.1f}) rotate({:.1f})">{}</text>'
        ).format(x(0.13), y(0.13) - 6, angle, "calibrated")
    )
    most = max((one.count for one in bins), default=0) or 1
    base = height - 42
    for one in bins:
        if not one.count:
            continue
        bar = strip * one.count / most * 0.92
        parts.append(
            Markup('<rect class="hist" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                x(one.start) + 1, base - bar, (one.end - one.start) * side_x - 2, bar
            )
        )
        if not math.isnan(one.accuracy.low + one.accuracy.high):
            parts.append(
                Markup('<line class="whisker" x1="{0:.1f}" y1="{1:.1f}" x2="{0:.1f}" y2="{2:.1f}"/>').format(
                    x(one.confidence), y(one.accuracy.low), y(one.accuracy.high)
                )
            )
        parts.append(
            Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>').format(
                x(one.confidence),
                y(one.accuracy.value),
                3 + 5 * math.sqrt(one.count / most),
                f"{one.count:,} items: confidence {one.confidence:.1%}, accuracy {one.accuracy.value:.1%}",
            )
        )
    parts.append(_text(x(0.5), height - 6, "confidence in the predicted class", kind="axis"))
    parts.append(_text(0, 12, "accuracy", anchor="start", kind="axis"))
    return _frame(height, title, parts)


def line_chart(curve: Curve) -> Markup:
    """Draw one line a series over a common axis, with the chosen point marked."""
    left, top, wide, high = 50.0, 34.0, 388.0, 230.0
    height = top + high + 46
    values = [number for series in curve.series for number in series.values if math.isfinite(number)]
    ticks = nice_ticks(min(values, default=0.0), max(values, default=1.0), 4)
    scale = [math.log10(number) if curve.log_x else number for number in curve.x]
    first, last = min(scale), max(scale)
    if first == last:
        first, last = first - 0.5, last + 0.5

    def x(number: float) -> float:
        return left + wide * ((math.log10(number) if curve.log_x else number) - first) / (last - first)

    def y(number: float) -> float:
        return top + high * (1 - (number - ticks[0]) / (ticks[-1] - ticks[0]))

    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9) - (2 if curve.percent else 0))
    parts: list[Markup] = []
    for tick in ticks:
        parts.append(
            Markup('<line class="grid" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
                left, y(tick), left + wide, y(tick)
            )
        )
        label = f"{tick:.{decimals}%}" if curve.percent else f"{tick:.{decimals}f}"
        parts.append(_text(left - 8, y(tick) + 4, label, anchor="end", kind="label"))
    if curve.log_x:
        powers = range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)
        step = max(1, math.ceil(len(powers) / 7))
        below = [10.0**power for power in powers[::step]]
    else:
        below = [tick for tick in nice_ticks(first, last, 6) if first <= tick <= last]
    parts += [_text(x(tick), top + high + 18, tick_label(tick), kind="label") for tick in below]
    for k, series in enumerate(curve.series):
        points = [(x(a), y(b)) for a, b in zip(curve.x, series.values, strict=True) if math.isfinite(b)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(Markup('<polyline class="line s{}" points="{}"/>').format(k % 4, path))
        parts += [
            Markup('<circle class="point s{}" cx="{:.1f}" cy="{:.1f}" r="2.6"/>').format(k % 4, a, b) for a, b in points
        ]
    if curve.chosen is not None:
        name, position = curve.chosen
        k = [series.name for series in curve.series].index(name)
        a, b = x(curve.x[position]), y(curve.series[k].values[position])
        anchor = "end" if a > left + wide * 0.7 else "start" if a < left + wide * 0.3 else "middle"
        # Below the point where it lies at the very top.
        lift = 20 if b < top + 24 else -12
        words = f"chosen: {curve.x[position]:,.4g}"
        parts.append(Markup('<circle class="ring" cx="{:.1f}" cy="{:.1f}" r="6.5"/>').format(a, b))
        parts.append(_text(a, b + lift, words, anchor=anchor, kind="strong"))
    parts.append(_text(left + wide / 2, height - 6, curve.x_label, kind="axis"))
    parts.append(_text(0, 12, curve.y_label, anchor="start", kind="axis"))
    return _frame(height, curve.title, parts)
