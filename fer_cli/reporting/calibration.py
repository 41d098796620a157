"""Calibration as a figure: accuracy against confidence (Guo et al. 2017, Figure 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fer_cli.reporting.style import GRID, HEADING, LINES, MUTED, bare, heading, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fer_cli.metrics import ReliabilityBin


def calibration_figure(bins: Sequence[ReliabilityBin], title: str = "", subtitle: str = "") -> Figure:
    """Draw a point a bin with its interval, its area by the bin's items, over a histogram of the confidences.

    Points on the diagonal are calibrated.

    Args:
        bins: of confidence.
        title: one line.
        subtitle: one line under it.
    """
    from matplotlib.ticker import PercentFormatter

    held = [one for one in bins if one.count]
    most = max((one.count for one in held), default=1)
    with styled():
        height = 4.85 + (HEADING if title else 0)
        figure = new_figure(5.2, height)
        axes = figure.add_axes((0.14, 1.45 / height, 0.82, 3.3 / height))
        histogram = figure.add_axes((0.14, 0.55 / height, 0.82, 0.75 / height))
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
        look: dict[str, Any] = {
            "color": MUTED,
            "fontsize": 8.5,
            "rotation": 45,
            "ha": "center",
            "transform_rotates_text": True,
        }
        axes.text(0.075, 0.1, "calibrated", **look)
        for one in held:
            if not math.isnan(one.accuracy.low + one.accuracy.high):
                axes.plot([one.confidence] * 2, [one.accuracy.low, one.accuracy.high], color=LINES[0], linewidth=1.6)
        axes.scatter(
            [one.confidence for one in held],
            [one.accuracy.value for one in held],
            s=[14 + 90 * one.count / most for one in held],
            color=LINES[0],
            edgecolors="white",
            linewidths=1,
            zorder=3,
            clip_on=False,
        )
        for one in held:
            size: dict[str, Any] = {"width": one.end - one.start - 0.006, "color": LINES[0], "alpha": 0.45}
            histogram.bar((one.start + one.end) / 2, one.count, **size)
        for each in (axes, histogram):
            each.set_xlim(0, 1)
            each.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            bare(each)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xticklabels([])
        axes.set_ylabel("accuracy")
        histogram.set_yticks([])
        histogram.set_ylabel("items")
        histogram.set_xlabel("confidence in the predicted class")
        heading(figure, title, subtitle)
    return figure
