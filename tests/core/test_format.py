"""Numbers as text."""

from __future__ import annotations

import math

from fer_cli.core.format import (
    binary,
    decimal,
    estimate,
    interval,
    percent,
    points,
    quantity,
    signed_percent,
    whole_percent,
)


def test_numbers_as_written() -> None:
    assert [percent(x) for x in (0.6543, 1.0, math.nan)] == ["65.4", "100.0", "–"]
    assert [points(x) for x in (0.012345, -0.0005, math.nan)] == ["+1.23", "−0.05", "–"]
    assert [signed_percent(x) for x in (0.0123, -0.004, math.nan)] == ["+1.2", "-0.4", "–"]
    assert [whole_percent(x) for x in (0, 0.004, 0.5, 0.999, 1)] == ["0%", "<1%", "50%", ">99%", "100%"]
    assert [quantity(x) for x in (4_651_960, 7.2e9, 312, 1234)] == ["4.65 M", "7.2 G", "312", "1.23 k"]
    assert [binary(x) for x in (734_003_200, 3 * 2**30)] == ["700 MiB", "3.00 GiB"]


def test_estimates_with_and_without_their_interval() -> None:
    assert estimate(0.641, 0.6204, 0.662) == "64.1 [62.0, 66.2]"
    assert estimate(-0.01, -0.02, 0.001, signed_percent) == "-1.0 [-2.0, +0.1]"
    assert estimate(0.0512, 0.04, 0.06, decimal) == "0.051 [0.040, 0.060]"
    for end in (None, math.nan):
        assert estimate(0.5, end, end) == "50.0"
        assert estimate(end, end, end) == "undefined"
        assert interval(end, 0.5) == interval(0.5, end) == "no interval"
    assert interval(0.5, 0.75, points) == "[+50.00, +75.00]"
