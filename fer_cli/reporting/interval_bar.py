"""Bars of intervals, inline SVG in a page's tables: drawn with CSS variables, so that they follow the page's theme."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup


def interval_bar(
    value: float,
    low: float,
    high: float,
    start: float,
    end: float,
    mark: float | None = None,
    title: str = "",
    runs: Sequence[float] = (),
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
            numbers are next to it.
        runs: the values whose mean it is, a dot each.
    """

    def x(number: float) -> float:
        return min(100.0, max(0.0, 100 * (number - start) / (end - start)))

    parts = [Markup('<line class="track" x1="0" y1="8" x2="100" y2="8"/>')]
    if not math.isnan(low + high):
        # At least as wide as the tick that marks the value, or a narrow interval would vanish behind it.
        left, right = x(low), max(x(high), x(low) + 0.4)
        box = Markup('<rect class="span" x="{:.2f}" y="4" width="{:.2f}" height="8"/>')
        parts.append(box.format(left, right - left))
    if mark is not None:
        parts.append(Markup('<line class="mark" x1="{0:.2f}" y1="1" x2="{0:.2f}" y2="15"/>').format(x(mark)))
    if not math.isnan(value):
        parts.append(Markup('<line class="tick" x1="{0:.2f}" y1="2" x2="{0:.2f}" y2="14"/>').format(x(value)))
    dot = Markup('<line class="run" x1="{0:.2f}" y1="8" x2="{0:.2f}" y2="8"/>')
    parts += [dot.format(x(run)) for run in runs if not math.isnan(run)]
    role = Markup('role="img"') if title else Markup('aria-hidden="true"')
    head = Markup("<title>{}</title>").format(title) if title else Markup("")
    return Markup('<svg class="bar" viewBox="0 0 100 16" preserveAspectRatio="none" {}>{}{}</svg>').format(
        role, head, Markup("").join(parts)
    )
