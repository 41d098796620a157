"""Curves as figures: training by epoch, of one run or of several, and validation accuracy by a hyper-parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.reporting.lettering import DOTS, fitted, measured
from fer_cli.reporting.style import (
    DASHES,
    GRID,
    HEADING,
    INK,
    LINES,
    MARKERS,
    MUTED,
    WIDE,
    bare,
    heading,
    new_figure,
    power_label,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Runs = Mapping[str, Sequence[Mapping[str, float]]]

_LOSSES: Final = {"train_loss": ("train", LINES[1]), "validation_loss": ("validation", LINES[0])}
METRICS: Final = {
    "accuracy": ("accuracy", LINES[2]),
    "balanced_accuracy": ("balanced accuracy", LINES[0]),
    "macro_f1": ("macro F1", LINES[3]),
}
_TRAINED: Final = {"train_accuracy": ("training", LINES[1])}
_SHORT: Final = {**METRICS, "balanced_accuracy": ("balanced", LINES[0])}
_PANELS: Final = (2.75, 3.6, 2.2)  # inches
_PER_ROW: Final = 4  # runs in a row of the legend of chosen epochs
_RING: Final[dict[str, Any]] = {"markersize": 7.5, "markerfacecolor": "white", "markeredgewidth": 1.7}


def curves_figure(
    runs: Runs,
    *,
    chosen: Mapping[str, int],
    metric: str = "balanced_accuracy",
    title: str = "",
    subtitle: str = "",
    paper: float | None = None,
) -> Figure:
    """Draw how training went, with the chosen epoch of every run marked.

    Several runs are thin lines in a band from the least to the greatest, and their mean is a bold one, at the epochs at
    which every run has a number: a mean of those that are left would jump where one stops early. What is not finite
    leaves a gap.

    Args:
        runs: name, such as "seed 0", -> one record an epoch: epoch (from 1), lr, train_loss, validation_loss, and on
            validation accuracy, balanced_accuracy and macro_f1 as shares; train_accuracy too, where all have it: of the
            epoch's augmented images while it went on.
        chosen: name -> the epoch that was chosen.
        metric: the one of the three that chose it.
        title: one line.
        subtitle: one line under it, such as the system and the data set.
        paper: inches of a paper's width: in a column's the panels stand one below the other.

    Raises:
        ValueError: no run, a run without an epoch, a metric that is none, or a chosen epoch that was not run.
    """
    from matplotlib.lines import Line2D

    if metric not in METRICS:
        raise ValueError(f"epochs are chosen by one of {', '.join(METRICS)}, not by {metric!r}")
    if not runs or not all(runs.values()):
        raise ValueError("no run, or a run without an epoch")
    for name, epoch in chosen.items():
        if name not in runs or epoch not in [row["epoch"] for row in runs[name]]:
            raise ValueError(f"epoch {epoch} of {name!r} was chosen but not run")
    stacked = paper is not None and paper < WIDE
    left, gap, top, high = 0.68, 0.72, 0.72 + (HEADING if title else 0), 1.3 if stacked else 2.5
    per_row, below = (1, high + 1.05) if stacked else (_PER_ROW, 0.0)
    footer = top + high + 2 * below + 0.72
    wides = (paper - left - 0.12,) * 3 if stacked and paper is not None else _PANELS
    with styled():
        figure = new_figure(
            paper if stacked and paper is not None else left + sum(_PANELS) + 2 * gap + 0.3,
            footer + 0.3 * max(1, ceil(len(chosen) / per_row)) + 0.2,
        )
        width, height = figure.get_size_inches()
        panels = []
        for k, wide in enumerate(wides):
            x = left if stacked else left + sum(_PANELS[:k]) + k * gap
            axes = figure.add_axes((x / width, 1 - (top + high + k * below) / height, wide / width, high / height))
            _prepare(axes, runs)
            panels.append(axes)
        losses, metrics, rates = panels
        solid = "validation_loss"
        _lines(losses, runs, {key: (*look, key == solid) for key, look in _LOSSES.items()}, narrow=stacked)
        trained = all("train_accuracy" in row for rows in runs.values() for row in rows)
        looks = {**(_SHORT if stacked or trained else METRICS), **(_TRAINED if trained else {})}
        _lines(
            metrics,
            runs,
            {key: (*look, key == metric) for key, look in looks.items()},
            factor=100,
            narrow=stacked,
        )
        rates_words = _rate_axis(rates, runs)
        _lines(rates, runs, {"lr": ("", LINES[0], True)}, stepped=True)
        for axes, words in (
            (losses, "Loss"),
            (metrics, "Validation metrics and training accuracy, %" if trained else "Validation metrics, %"),
            (rates, rates_words),
        ):
            place: dict[str, Any] = {
                "textcoords": "offset points",
                "fontweight": "bold",
                "fontsize": 8 if stacked else None,
            }
            axes.annotate(words, (0, 1), (0, 20 if stacked else 22), "axes fraction", **place)
        for k, (name, epoch) in enumerate(chosen.items()):
            marker, row = MARKERS[k % len(MARKERS)], next(one for one in runs[name] if one["epoch"] == epoch)
            for axes, key, factor in ((losses, solid, 1), (metrics, metric, 100), (rates, "lr", 1)):
                colour = {**_LOSSES, **METRICS}.get(key, ("", LINES[0]))[1]
                axes.plot(epoch, factor * row[key], marker, color=colour, zorder=5, clip_on=False, **_RING)
            x, y = 0.28 + k % per_row * (width - 0.4) / per_row, footer + 0.3 * (1 + k // per_row)
            at = (x + 0.08) / width, 1 - y / height
            figure.add_artist(Line2D([at[0]], [at[1]], marker=marker, color=INK, linestyle="", **_RING))
            score = f": epoch {epoch}, {100 * row[metric]:.1f}%"
            room = DOTS * ((width - 0.4) / per_row - 0.3) - measured(score, 8.5)
            figure.text((x + 0.24) / width, at[1], fitted(name, room, 8.5) + score, va="center_baseline", fontsize=8.5)
        words = f"Chosen by {METRICS[metric][0]}" if chosen else ""
        figure.text(0.28 / width, 1 - footer / height, words, va="center_baseline", fontsize=8.5, fontweight="bold")
        if len(runs) > 1 and not stacked:
            words = f"Thin lines and bands are the {len(runs)} runs, bold lines their mean."
            figure.text(
                1 - 0.3 / width, 1 - footer / height, words, ha="right", va="center_baseline", fontsize=8, color=MUTED
            )
        heading(figure, title, subtitle)
    return figure


@dataclass(frozen=True, slots=True)
class ParameterPath:
    """Validation accuracy by the values of a hyper-parameter."""

    parameter: str
    values: Sequence[float]
    """positive, ascending"""
    lines: Mapping[str, Sequence[float]]
    """predictor -> accuracies as shares; NaN where it was not tried"""
    chosen: tuple[str, float] | None = None
    """which predictor's choice is marked, and the value"""


def path_figure(paths: Sequence[ParameterPath], title: str = "", subtitle: str = "") -> Figure:
    """Draw a panel a hyper-parameter, its values on a logarithmic axis, with the chosen one marked.

    Raises:
        ValueError: no path, a line that does not fit the values, or a value that is not positive.
    """
    if not paths:
        raise ValueError("no hyper-parameter to draw")
    for path in paths:
        if not path.values or any(len(line) != len(path.values) for line in path.lines.values()):
            raise ValueError(f"the lines do not have the {len(path.values)} values of {path.parameter}")
        if min(path.values) <= 0:
            raise ValueError(f"{path.parameter} is not positive throughout: no logarithmic axis holds it")
    left, gap, top, wide, high = 0.68, 0.8, 0.72 + (HEADING if title else 0), 4.1, 2.7
    with styled():
        figure = new_figure(left + len(paths) * (wide + gap), top + high + 0.7)
        width, height = figure.get_size_inches()
        for k, path in enumerate(paths):
            place = (left + k * (wide + gap)) / width, 1 - (top + high) / height, wide / width, high / height
            axes = figure.add_axes(place)
            axes.set_xscale("log")
            _log_ticks(axes.xaxis)
            axes.set_xlabel(fitted(path.parameter, DOTS * wide, 9.5), labelpad=5)
            axes.grid(axis="y", color=GRID, linewidth=0.8)
            axes.set_axisbelow(True)
            bare(axes, keep=("bottom",))
            room = DOTS * (wide / max(1, len(path.lines)) - 0.45)
            lines: list[Line2D] = []
            for number, (name, line) in enumerate(path.lines.items()):
                points = [
                    (value, 100 * share) for value, share in zip(path.values, line, strict=True) if isfinite(share)
                ]
                look: dict[str, Any] = {"color": LINES[number % 4], "linestyle": DASHES[number % 4]}
                lines += axes.plot(
                    *zip(*points, strict=True),
                    label=fitted(name, room, 8.2),
                    linewidth=1.9,
                    marker="o",
                    markersize=3.4,
                    **look,
                )
                if path.chosen is not None and path.chosen[0] == name:
                    chosen = path.chosen[1], 100 * line[list(path.values).index(path.chosen[1])]
                    axes.plot(*chosen, "o", color=INK, zorder=5, clip_on=False, **_RING)
                    axes.annotate(f"chosen: {chosen[0]:,.4g}", chosen, (0, 9), textcoords="offset points", ha="center")
            axes.margins(y=0.14)
            words = "Validation accuracy, %"
            axes.annotate(words, (0, 1), (0, 22), "axes fraction", textcoords="offset points", fontweight="bold")
            _legend(axes, lines)
        heading(figure, title, subtitle)
    return figure


def _legend(axes: Axes, handles: Sequence[Line2D], *, narrow: bool = False) -> None:
    """Say above the axes which line is which; ``narrow`` is in a column of a paper."""
    axes.legend(
        handles,
        [str(handle.get_label()) for handle in handles],
        loc="lower left",
        bbox_to_anchor=(0, 1.015),
        ncols=len(handles),
        frameon=False,
        fontsize=7.0 if narrow else 8.2,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.5 if narrow else 2.3,
        handletextpad=0.5,
        columnspacing=0.9 if narrow else 1.3,
    )


def _log_ticks(axis: Axis) -> None:
    """Write every label of a logarithmic axis as a power of ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda number, _: power_label(number)))
    axis.set_minor_formatter(NullFormatter())
    axis.axes.tick_params(which="minor", length=0)


def _prepare(axes: Axes, runs: Runs) -> None:
    """Set the axis of epochs and the grid."""
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for rows in runs.values() for row in rows]
    first, last = min(epochs), max(epochs)
    room = max(0.025 * (last - first), 0 if last > first else 0.5)
    axes.set_xlim(first - room, last + room)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel("epoch", labelpad=5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    bare(axes, keep=("bottom",))


def _lines(
    axes: Axes,
    runs: Runs,
    looks: Mapping[str, tuple[str, str, bool]],
    *,
    factor: float = 1,
    stepped: bool = False,
    narrow: bool = False,
) -> None:
    """Draw a line a run and, of several, their mean; and above the axes which line is which.

    ``looks``: key -> words, colour, whether it is the one that counts. A logarithmic axis shows no zero.
    """
    from matplotlib.lines import Line2D

    epochs = np.unique([row["epoch"] for rows in runs.values() for row in rows])
    handles = []
    for dashes, (key, (words, colour, counts)) in zip(_dashes(looks), looks.items(), strict=True):
        table = np.full((len(runs), len(epochs)), np.nan)
        for line, rows in zip(table, runs.values(), strict=True):
            line[np.searchsorted(epochs, [row["epoch"] for row in rows])] = [factor * row[key] for row in rows]
        table[~np.isfinite(table) | ((table <= 0) & (axes.get_yscale() == "log"))] = np.nan
        bold: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 2.1 if counts else 1.6}
        thin: dict[str, Any] = {"color": colour, "linewidth": 0.7, "alpha": 0.5 if counts else 0.3}
        drawn = [
            (f"{name} {key}", line, bold if len(runs) == 1 else thin) for name, line in zip(runs, table, strict=True)
        ]
        if len(runs) > 1:
            drawn.append((f"mean {key}", table.mean(axis=0), bold))
            if not stepped:
                axes.fill_between(epochs, table.min(axis=0), table.max(axis=0), color=colour, alpha=0.12, linewidth=0)
        for label, line, look in drawn:
            style = "steps-mid" if stepped else "default"
            # Dashes lie over the solid line: where two metrics are equal both can be seen.
            axes.plot(epochs, line, label=label, drawstyle=style, zorder=2.5 if counts else 3, **look)
            alone = _alone(line)
            size = 5 if look is bold else 3
            axes.plot(epochs[alone], line[alone], "o", color=colour, markersize=size, alpha=look.get("alpha"), zorder=3)
        handles.append(Line2D([], [], label=words, **bold))
    if len(looks) > 1:
        _legend(axes, handles, narrow=narrow)


def _dashes(looks: Mapping[str, tuple[str, str, bool]]) -> list[Any]:
    """Return a solid line for the one that counts and other dashes for each of the rest."""
    rest = iter(DASHES[1:])
    return ["-" if counts else next(rest) for _, _, counts in looks.values()]


def _alone(line: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points have no neighbour that a line could join them to."""
    there = np.pad(np.isfinite(line), 1)
    alone: NDArray[np.bool_] = there[1:-1] & ~there[:-2] & ~there[2:]
    return alone


def _rate_axis(axes: Axes, runs: Runs) -> str:
    """Set the axis of learning rates, logarithmic where they span a decade, and return its words."""
    from matplotlib.ticker import FuncFormatter

    rates = [row["lr"] for rows in runs.values() for row in rows if np.isfinite(row["lr"]) and row["lr"] > 0]
    least, most = min(rates, default=1), max(rates, default=1)
    if most >= 10 * least:
        axes.set_yscale("log", nonpositive="mask")
        _log_ticks(axes.yaxis)
        return "Learning rate, log scale"
    axes.set_ylim(0, 1.12 * most)
    unit = 10.0 ** floor(log10(most) + 1e-9) if most < 1e-3 else 1.0
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate / unit:,.10g}"))
    return "Learning rate" if unit == 1 else f"Learning rate, in {power_label(unit)}"
