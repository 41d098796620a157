"""Plot ``roc``: each class against the rest, at every threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.metrics.roc import Floats, area, roc_curve
from fer_cli.plots.evaluations import EvaluationArgument, PredictorOption, open_scored
from fer_cli.plots.registry import Picture
from fer_cli.reporting.lettering import class_names
from fer_cli.reporting.style import GRID, INK, MUTED, bare, class_colour, heading, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Curves = dict[str, tuple[tuple[Floats, Floats], ...]]
"""Class -> false and true positive rates, a pair a run; none where a class has no items, or nothing else has."""
_GRID: Final = np.linspace(0, 1, 501)
"""False positive rates at which the curves of several runs are averaged."""


def draw(store: Store, evaluation: EvaluationArgument = None, predictor: PredictorOption = None) -> Picture:
    """ROC curve of each class against the rest, with its area (AUC); of a study the mean of the seeds in a band."""
    scored = open_scored(store, evaluation, predictor)
    table = read_table(scored.artifact.file("all-predictors.parquet"))
    predictors, labels = (np.array(table[column].to_pylist()) for column in ("predictor", "label"))
    curves: Curves = {}
    for name in scored.metrics.classes:
        of_class = np.asarray(table[f"score_{name}"].to_numpy(), dtype=np.float64)
        found = []
        for run in scored.runs:
            scores, positive = of_class[predictors == run], labels[predictors == run] == name
            if not np.isfinite(scores).all():
                raise FerError(
                    f"{scored.artifact.reference} holds labels without scores",
                    hint="evaluate predictions that have scores",
                )
            if 0 < positive.sum() < len(positive):
                found.append(roc_curve(scores, positive))
        curves[name] = tuple(found)
    return Picture(
        scored.artifact.name,
        roc_figure(curves, "ROC curves, each class against the rest", scored.subtitle),
        scored.artifact.version,
    )


def roc_figure(curves: Curves, title: str = "", subtitle: str = "") -> Figure:
    """Draw one curve a class and the diagonal of chance; the legend has the areas, and their mean (macro AUC).

    Of several runs the curve is their mean at each false positive rate, the band reaches from the lowest to the highest
    of them, and the areas are the means of the runs' areas with their standard deviation.

    Args:
        curves: class -> its curve of each run.
        title: one line.
        subtitle: one line under it.
    """
    areas = {name: np.array([area(*curve) for curve in of]) for name, of in curves.items() if of}
    names, widest = class_names(list(curves))
    with styled():
        spread = any(len(of) > 1 for of in curves.values())
        width = 8.2 + max(0, widest - 1.0) + 0.65 * spread
        figure = new_figure(width, 6.6)
        axes = figure.add_axes((0.74 / width, 0.09, 5.08 / width, 0.77))
        [chance] = axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        lines: list[Line2D] = []
        labels = []
        dashes = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
        for position, (name, of) in enumerate(curves.items()):
            labels.append(f"{names[position]}   " + (_area_text(areas[name]) if of else "no items"))
            x, y = of[0] if of else (np.empty(0), np.empty(0))
            if len(of) > 1:
                runs = np.stack([_at(*one) for one in of])
                x, y = np.append(0.0, _GRID), np.append(0.0, runs.mean(axis=0))
                axes.fill_between(
                    _GRID, runs.min(axis=0), runs.max(axis=0), color=class_colour(name, position), alpha=0.18, lw=0
                )
            style = dashes[position % len(dashes)]
            lines += axes.plot(
                x, y, color=class_colour(name, position), linewidth=1.8, linestyle=style, label=labels[-1]
            )
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.01)
        axes.set_aspect("equal")
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        bare(axes, keep=("left", "bottom"))
        legend = figure.legend(
            [*lines, chance],
            [*labels, "chance   0.500"],
            title=f"AUC; macro {_area_text(np.mean(list(areas.values()), axis=0))}" if areas else "AUC",
            loc="upper left",
            bbox_to_anchor=(5.99 / width, 0.86),
            frameon=False,
            handlelength=2.6,
            alignment="left",
        )
        legend.get_title().set_fontweight("bold")
        for text in legend.get_texts():
            text.set_color(INK)
        heading(figure, title, subtitle, left=0.28, top=0.25)
    return figure


def _at(false_rates: Floats, true_rates: Floats) -> Floats:
    """Return the true positive rates (501,) at :data:`_GRID`: where the curve rises, the top of the rise."""
    last = np.append(np.flatnonzero(np.diff(false_rates)), len(false_rates) - 1)
    rates: Floats = np.interp(_GRID, false_rates[last], true_rates[last])
    return rates


def _area_text(areas: Floats) -> str:
    return f"{areas.mean():.3f}" + (f" ± {areas.std(ddof=1):.3f}" if len(areas) > 1 else "")
