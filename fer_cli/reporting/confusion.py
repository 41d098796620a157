"""The confusion matrix as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from fer_cli.reporting.style import INK, MUTED, bare, heading, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_figure(confusion: ArrayLike, classes: Sequence[str], title: str = "", subtitle: str = "") -> Figure:
    """Draw a confusion matrix: colours and percentages by row, counts in every cell, each row's number of items.

    Args:
        confusion: (C, C) counts, true classes in rows.
        classes: the C names.
        title: one line.
        subtitle: one line under it, such as the data set, the split and the predictor.

    Raises:
        ValueError: the matrix does not fit the classes.
    """
    from matplotlib.colors import LinearSegmentedColormap

    counts = np.asarray(confusion, dtype=np.int64)
    c = len(classes)
    if counts.shape != (c, c):
        raise ValueError(f"a confusion matrix of shape {counts.shape} for {c} classes")
    support = counts.sum(axis=1)
    share = counts / np.maximum(support, 1)[:, None]
    cell = 0.78
    left, top, right, bottom = 1.25, 1.5, 0.95, 0.5
    with styled():
        figure = new_figure(max(left + c * cell + right, 5.6), top + c * cell + bottom)
        width, height = figure.get_size_inches()
        axes = figure.add_axes((left / width, bottom / height, c * cell / width, c * cell / height))
        # Light to dark in one hue: it survives grey printing, and needs no key since every cell says its share.
        shades = LinearSegmentedColormap.from_list("share", ["#f6f8fb", "#a9c7e8", "#3f7fc1", "#123e73"])
        axes.imshow(share, cmap=shades, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_xticks(np.arange(c + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(c + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.6)
        axes.set_xticks(range(c), classes, parse_math=False)
        axes.set_yticks(range(c), classes, parse_math=False)
        axes.xaxis.tick_top()
        bare(axes)
        axes.tick_params(which="both", length=0)
        for i in range(c):
            axes.text(c - 0.35, i, f"{support[i]:,}", va="center", ha="left", color=MUTED)
            for j in range(c):
                # Black or white, whichever reads better on the cell (relative luminance of WCAG 2, roughly).
                red, green, blue, _ = shades(share[i, j])
                dark = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 < 0.3
                ink = "white" if dark else INK if counts[i, j] else "#9498a1"
                weight = "bold" if i == j else "normal"
                axes.text(j, i - 0.12, f"{counts[i, j]:,}", ha="center", va="center", color=ink, fontweight=weight)
                percent = f"{share[i, j]:.1%}" if support[i] else "–"
                axes.text(j, i + 0.22, percent, ha="center", va="center", color=ink, fontsize=7.2)
        for j, total in enumerate(counts.sum(axis=0)):
            axes.text(j, c - 0.28, f"{total:,}", ha="center", va="center", color=MUTED)
        axes.text(c - 0.35, c - 0.28, f"{counts.sum():,}", ha="left", va="center", color=MUTED)
        axes.text(c - 0.35, -0.675, "items", va="center", ha="left", color=MUTED)
        axes.text(-0.58, c - 0.28, "items", va="center", ha="right", color=MUTED)
        axes.set_xlabel("predicted", labelpad=9, fontweight="bold")
        axes.xaxis.set_label_position("top")
        axes.set_ylabel("true", labelpad=6, fontweight="bold")
        heading(figure, title, subtitle, left=0.28, top=0.25)
    return figure
