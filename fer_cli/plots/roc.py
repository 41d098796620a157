"""Plot ``roc``: each class against the rest, at every threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

Curves = dict[str, tuple[Floats, Floats] | None]
"""Class -> false and true positive rates; None where a class has no items, or nothing else has."""


def draw(store: Store, evaluation: EvaluationArgument = None, predictor: PredictorOption = None) -> Picture:
    """ROC curve of each class against the rest, with the area under it (AUC)."""
    scored = open_scored(store, evaluation, predictor)
    table = read_table(scored.artifact.file("all-predictors.parquet"))
    mine = np.array(table["predictor"].to_pylist()) == scored.predictor
    labels = np.array(table["label"].to_pylist())[mine]
    curves: Curves = {}
    for name in scored.metrics.classes:
        scores = np.asarray(table[f"score_{name}"].to_numpy(), dtype=np.float64)[mine]
        if not np.isfinite(scores).all():
            raise FerError(
                f"{scored.artifact.reference} holds labels without scores", hint="evaluate predictions that have scores"
            )
        positive = labels == name
        curves[name] = roc_curve(scores, positive) if 0 < positive.sum() < len(positive) else None
    return Picture(
        scored.artifact.name,
        roc_figure(curves, "ROC curves, each class against the rest", scored.subtitle),
        scored.artifact.version,
    )


def roc_figure(curves: Curves, title: str = "", subtitle: str = "") -> Figure:
    """Draw one curve a class and the diagonal of chance; the legend has the areas, and their mean (macro AUC).

    Args:
        curves: class -> its curve.
        title: one line.
        subtitle: one line under it.
    """
    areas = {name: area(*curve) for name, curve in curves.items() if curve is not None}
    names, widest = class_names(list(curves))
    with styled():
        width = 8.2 + max(0, widest - 1.0)
        figure = new_figure(width, 6.6)
        axes = figure.add_axes((0.74 / width, 0.09, 5.08 / width, 0.77))
        [chance] = axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        lines: list[Line2D] = []
        labels = []
        dashes = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
        for position, (name, curve) in enumerate(curves.items()):
            labels.append(f"{names[position]}   " + (f"{areas[name]:.3f}" if curve is not None else "no items"))
            x, y = curve or (np.empty(0), np.empty(0))
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
            title=f"AUC; macro {np.mean(list(areas.values())):.3f}" if areas else "AUC",
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
