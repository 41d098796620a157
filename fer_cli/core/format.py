"""Numbers as text: shares, sizes, and estimates with their 95% intervals. None and NaN are undefined."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

UNDEFINED: Final = "–"


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal, without the sign: 0.6543 is "65.4"."""
    return UNDEFINED if math.isnan(share) else f"{100 * share:.1f}"


def whole_percent(share: float) -> str:
    """Return a share as a whole percentage; what is not quite nothing, or not quite all, never reads as if it were."""
    return "<1%" if 0 < share < 0.005 else ">99%" if 0.995 <= share < 1 else f"{100 * share:.0f}%"


def signed_percent(share: float) -> str:
    """Return a difference of shares in percentage points with its sign and one decimal: 0.0123 is "+1.2"."""
    return UNDEFINED if math.isnan(share) else f"{100 * share:+.1f}"


def points(share: float) -> str:
    """Return a difference of shares in percentage points with two decimals, the minus sign a true one."""
    return UNDEFINED if math.isnan(share) else f"{100 * share:+.2f}".replace("-", "−")


def decimal(number: float) -> str:
    """Return a number with three decimals."""
    return UNDEFINED if math.isnan(number) else f"{number:.3f}"


def quantity(number: float) -> str:
    """Return a large number with three digits and a prefix: 4651960 is "4.65 M"."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.3g}"


def count_text(count: float) -> str:
    """Return a number of items, with a decimal where it is a mean over runs and not whole."""
    return f"{count:,.1f}" if round(count, 6) % 1 else f"{count:,.0f}"


def binary(size: int) -> str:
    """Return a number of bytes in MiB or GiB."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def clock(seconds: float) -> str:
    """Return a time as "40 s", "12 min 05 s" or "3 h 20 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def interval(low: float | None, high: float | None, form: Callable[[float], str] = percent) -> str:
    """Return the ends of an interval as "[62.0, 66.2]", or "no interval" where an end is undefined."""
    if low is None or high is None or math.isnan(low + high):
        return "no interval"
    return f"[{form(low)}, {form(high)}]"


def estimate(
    value: float | None,
    low: float | None,
    high: float | None,
    form: Callable[[float], str] = percent,
    *,
    sd: float | None = None,
) -> str:
    """Return a value with its interval as "64.1 [62.0, 66.2]"; an undefined interval is left out.

    A mean over runs has their standard deviation after it: "64.1 ± 0.4 [62.0, 66.2]".
    """
    if value is None or math.isnan(value):
        return "undefined"
    ends = interval(low, high, form)
    shown = form(value) if sd is None or math.isnan(sd) else f"{form(value)} ± {form(sd)}"
    return shown if ends == "no interval" else f"{shown} {ends}"
