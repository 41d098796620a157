"""Which plots there are. A new one is a module and its line here: ``fer plot`` learns its command from both.

The module has a function ``draw(store, ...)`` that returns a :class:`Picture`. Its parameters, annotated for typer, are
the command's arguments and options, its docstring is the command's help.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTS: Final[dict[str, str]] = {
    "confusion": "fer_cli.plots.confusion",
    "roc": "fer_cli.plots.roc",
    "curves": "fer_cli.plots.curves",
    "gradcam": "fer_cli.plots.gradcam",
    "tsne": "fer_cli.plots.tsne",
    "hierarchy": "fer_cli.plots.hierarchy",
    "masks": "fer_cli.plots.masks",
    "classes": "fer_cli.plots.classes",
    "trials": "fer_cli.plots.trials",
    "scarcity": "fer_cli.plots.scarcity",
}
"""Name of the command -> module."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure, and the name and version of what it shows, for the default file name.

    ``paper`` draws it for a paper, given the width in inches, where the screen's figure would be too dense for one.
    """

    name: str
    figure: Figure
    version: str = ""
    paper: Callable[[float], Figure] | None = None


def plot_of(name: str) -> Callable[..., Picture]:
    """Return the function that draws a plot: a store and the plot's own options in, a picture out."""
    return cast(Callable[..., Picture], import_module(PLOTS[name]).draw)
