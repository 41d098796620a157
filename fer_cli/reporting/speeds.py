"""Speeds as a figure: images a second by the number of images at once, a panel for each number of threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from fer_cli.reporting.style import GRID, HEADING, LINES, MARKERS, MUTED, bare, heading, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDE = 3.0  # inches, a panel
_HIGH = 2.6


class SpeedPoint(Protocol):
    """What is drawn of a measurement: images a second with its interval, infinite where there is none."""

    @property
    def form(self) -> str:
        """What was measured."""

    @property
    def threads(self) -> int:
        """Threads that computed."""

    @property
    def batch(self) -> int:
        """Images at once."""

    @property
    def rate(self) -> float:
        """Images a second."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end of the interval."""


def speeds_figure(speeds: Sequence[SpeedPoint], title: str = "", subtitle: str = "") -> Figure:
    """Draw how many images a second are answered, a line for each form; all panels have the same height axis.

    Args:
        speeds: one or more.
        title: one line.
        subtitle: one line under it.

    Raises:
        ValueError: there are none.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    if not speeds:
        raise ValueError("nothing was measured")
    forms = list(dict.fromkeys(one.form for one in speeds))
    threads = sorted({one.threads for one in speeds})
    batches = sorted({one.batch for one in speeds})
    left, gap, top, bottom = 0.75, 0.35, 0.75 + (HEADING if title else 0), 0.6
    ends = [end for one in speeds for end in (one.rate, one.low, one.high) if math.isfinite(end)]
    with styled():
        figure = new_figure(max(left + len(threads) * (_WIDE + gap), 7.0), top + _HIGH + bottom)
        width, height = figure.get_size_inches()
        for number, count in enumerate(threads):
            x = left + number * (_WIDE + gap)
            axes = figure.add_axes((x / width, bottom / height, _WIDE / width, _HIGH / height))
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.grid(visible=True, color=GRID, linewidth=0.6, zorder=0)
            for place, form in enumerate(forms):
                points = sorted(
                    (one for one in speeds if (one.form, one.threads) == (form, count)), key=lambda one: one.batch
                )
                colour = (*LINES, MUTED)[place % 5]
                axes.plot(
                    [one.batch for one in points],
                    [one.rate for one in points],
                    marker=MARKERS[place % len(MARKERS)],
                    color=colour,
                    markersize=5,
                    label=form,
                    zorder=3,
                )
                for one in points:
                    if math.isfinite(one.low):
                        axes.plot([one.batch, one.batch], [one.low, one.high], color=colour, linewidth=3, alpha=0.4)
            axes.set_ylim(min(ends) / 1.3, max(ends) * 1.3)
            axes.set_xlim(batches[0] / 1.3, batches[-1] * 1.3)
            axes.xaxis.set_major_locator(FixedLocator(batches))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
            axes.set_xlabel("images at once")
            axes.tick_params(labelleft=number == 0)
            words = f"{count} {'thread' if count == 1 else 'threads'}"
            axes.annotate(words, (0, 1), (0, 8), "axes fraction", textcoords="offset points", fontweight="bold")
            if number == 0:
                axes.set_ylabel("images a second")
                figure.legend(
                    *axes.get_legend_handles_labels(),
                    loc="upper left",
                    bbox_to_anchor=(0.2 / width, 1 - (top - 0.72) / height),
                    ncols=len(forms),
                    frameon=False,
                    fontsize=8.5,
                )
            bare(axes, keep=("left", "bottom"))
        heading(figure, title, subtitle)
    return figure
