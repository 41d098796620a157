"""The confusion matrix as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fer_cli.core.format import count_text, whole_percent
from fer_cli.reporting.lettering import LONGEST, class_names
from fer_cli.reporting.style import HEADING, HEAT, INK, MUTED, ON_HEAT, ON_MID_HEAT, bare, heading, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELLS: Final = 24  # classes for which every cell has its count and share
_CELL: Final = 0.78  # inches of a cell
_ROOMY: Final = 0.42  # inches of a cell in a paper that holds a count over a share
_LEAST: Final = 0.17  # inches of one that holds a whole percentage
_COUNTS: Final = 60  # classes for which every cell that is not empty has its count


def confusion_figure(confusion: ArrayLike, classes: Sequence[str], title: str = "", *subtitle: str) -> Figure:
    """Draw a confusion matrix: shades and percentages by row, counts in every cell, each row's number of items.

    Args:
        confusion: (C, C) counts, or their means over runs; true classes in rows.
        classes: the C names.
        title: one line.
        subtitle: the line or two under it, such as the model, the data set and the split.

    Raises:
        ValueError: the matrix does not fit the classes.

    More than 24 classes become a map of small cells, with counts up to 60 classes; the numbers stand in the table.
    """
    from matplotlib.patches import Rectangle

    counts = np.asarray(confusion, dtype=np.float64)
    c = len(classes)
    if counts.shape != (c, c):
        raise ValueError(f"a confusion matrix of shape {counts.shape} for {c} classes")
    support = counts.sum(axis=1)
    share = counts / np.maximum(support, 1)[:, None]
    if c > _CELLS:
        return _map(counts, share, classes, title, *subtitle)
    names, widest = class_names(classes)
    turned = widest > 0.74  # wider than a cell: upright they stand next to each other
    cell, left, right, bottom = _CELL, max(1.25, widest + 0.45), 0.95, 0.5
    top = 0.7 + (HEADING + 0.22 if title else 0) + (widest - 0.1 if turned else 0)
    with styled():
        figure = new_figure(max(left + c * cell + right, 6.4), top + c * cell + bottom)
        width, height = figure.get_size_inches()
        axes = figure.add_axes((left / width, bottom / height, c * cell / width, c * cell / height))
        axes.set_xlim(-0.5, c - 0.5)
        axes.set_ylim(c - 0.5, -0.5)
        axes.set_xticks(range(c), names, rotation=90 if turned else 0)
        axes.set_yticks(range(c), names)
        axes.xaxis.tick_top()
        bare(axes)
        for (i, j), count in np.ndenumerate(counts):
            # One hue from none to all: it survives grey printing, and needs no key since every cell says its share.
            shade = {"facecolor": HEAT, "alpha": 0.03 + 0.89 * share[i, j], "linewidth": 0}
            axes.add_patch(Rectangle((j - 0.485, i - 0.485), 0.97, 0.97, **shade))
            ink = ON_HEAT if share[i, j] > 0.8 else ON_MID_HEAT if share[i, j] > 0.65 else INK if count else MUTED
            weight = "bold" if i == j else "normal"
            axes.text(j, i - 0.12, count_text(count), ha="center", va="center", color=ink, fontweight=weight)
            percent = f"{share[i, j]:.1%}" if support[i] else "–"
            axes.text(j, i + 0.22, percent, ha="center", va="center", color=ink, fontsize=7.8)
        for i, total in enumerate(support):
            axes.text(c - 0.35, i, count_text(total), va="center", ha="left", color=MUTED)
        for j, total in enumerate(counts.sum(axis=0)):
            axes.text(j, c - 0.28, count_text(total), ha="center", va="center", color=MUTED)
        axes.text(c - 0.35, c - 0.28, count_text(counts.sum()), ha="left", va="center", color=MUTED)
        axes.text(c - 0.35, -0.675, "items", va="center", ha="left", color=MUTED)
        axes.text(-0.58, c - 0.28, "items", va="center", ha="right", color=MUTED)
        axes.set_xlabel("predicted", labelpad=9, fontweight="bold")
        axes.xaxis.set_label_position("top")
        axes.set_ylabel("true", labelpad=6, fontweight="bold")
        heading(figure, title, *subtitle)
    return figure


def paper_confusion(confusion: ArrayLike, classes: Sequence[str], inches: float) -> Figure:
    """Draw a confusion matrix for a paper of this width, without a title.

    Where counts and shares do not fit the cells, the shares stand alone, in whole percent; in the smallest cells none.
    """
    figure = confusion_figure(confusion, classes)
    c, natural = len(classes), float(figure.get_figwidth())
    if c > _CELLS or _CELL * inches / natural >= _ROOMY:
        return figure
    counts, size = np.asarray(confusion, dtype=np.float64), 7.0
    share = counts / np.maximum(counts.sum(axis=1), 1)[:, None]
    names, widest = class_names(classes, size, LONGEST * size / 9.5)
    margin = widest + 0.25
    cell = max(0.05, (inches - margin) / c)
    with styled():
        figure = new_figure(inches, margin + c * cell)
        height = figure.get_figheight()
        axes = figure.add_axes((margin / inches, 0, c * cell / inches, c * cell / height))
        _shade(axes, share)
        axes.set_xticks(range(c), names, rotation=90, fontsize=size)
        axes.set_yticks(range(c), names, fontsize=size)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        bare(axes)
        for i, j in np.argwhere(counts) if cell >= _LEAST else ():
            ink = ON_HEAT if share[i, j] > 0.5 else INK
            text = whole_percent(float(share[i, j])).removesuffix("%")
            axes.text(j, i, text, ha="center", va="center", color=ink, fontsize=size)
        axes.set_xlabel("predicted, % of each true class" if cell >= _LEAST else "predicted", fontsize=size)
        axes.set_ylabel("true", fontsize=size)
    return figure


def _shade(axes: Axes, share: NDArray[np.float64]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("heat", ["#f6f8fb", HEAT])
    axes.imshow(share, cmap=colours, vmin=0, vmax=1, aspect="auto")


def _map(
    counts: NDArray[np.float64], share: NDArray[np.float64], classes: Sequence[str], title: str, *subtitle: str
) -> Figure:
    """Draw many classes as one picture of shades: (C, C) counts, and their shares of the rows."""
    c = len(classes)
    names, widest = class_names(classes)
    cell, size = (0.24, 7.5) if c <= _COUNTS else (0.125, 6.0)
    left = top = max(1.1, widest * size / 9.5 + 0.5)
    top += HEADING if title else 0
    with styled():
        figure = new_figure(max(left + c * cell + 0.3, 6.4), top + c * cell + 0.3)
        width, height = figure.get_size_inches()
        axes = figure.add_axes((left / width, 0.3 / height, c * cell / width, c * cell / height))
        _shade(axes, share)
        axes.set_xticks(range(c), names, rotation=90, fontsize=size)
        axes.set_yticks(range(c), names, fontsize=size)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        bare(axes)
        for i, j in np.argwhere(counts) if c <= _COUNTS else ():
            ink = ON_HEAT if share[i, j] > 0.5 else INK
            axes.text(j, i, f"{counts[i, j]:,.0f}", ha="center", va="center", color=ink, fontsize=5.5)
        axes.set_xlabel("predicted", labelpad=9, fontweight="bold")
        axes.set_ylabel("true", labelpad=6, fontweight="bold")
        heading(figure, title, *subtitle)
    return figure
