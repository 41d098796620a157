"""A scatter of classes as inline SVG: a colour and a shape a class, wrong answers ringed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from markupsafe import Markup

from fer_cli.reporting.style import class_colour, class_marker

_WIDTH: Final = 460.0
_MARGIN: Final = 10.0
_LAYERS: Final = 8
# Corners of each of ``style.MARKERS`` about the centre; the circle, which has none, is drawn as arcs.
_CORNERS: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "s": ((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)),
    "^": ((0, -1.2), (1.1, 0.85), (-1.1, 0.85)),
    "D": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    "v": ((0, 1.2), (1.1, -0.85), (-1.1, -0.85)),
    "P": tuple(
        (x * 0.4, y * 0.4)
        for x, y in (
            *((-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1)),
            *((1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1)),
        )
    ),
    "X": tuple(
        (x * 0.55, y * 0.55)
        for x, y in (
            *((-2, -1), (-1, -2), (0, -1), (1, -2), (2, -1), (1, 0)),
            *((2, 1), (1, 2), (0, 1), (-1, 2), (-2, 1), (-1, 0)),
        )
    ),
    "*": tuple((r * math.sin(math.pi * k / 5), -r * math.cos(math.pi * k / 5)) for k, r in enumerate((1.4, 0.62) * 5)),
}


@dataclass(frozen=True, slots=True)
class Scatter:
    """Points of classes, or why there can be none.

    ``labels`` are positions in ``classes``, ``wrong`` tells which points were answered wrongly.
    """

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    wrong: tuple[bool, ...] = ()
    classes: tuple[str, ...] = ()
    title: str = ""
    note: str = ""
    refusal: str = ""

    def __post_init__(self) -> None:
        """Refuse points that are not finite, or without a class each."""
        if not len(self.points) == len(self.labels) == len(self.wrong):
            raise ValueError(f"{len(self.points)} points, {len(self.labels)} labels, {len(self.wrong)} answers")
        if not all(math.isfinite(number) for point in self.points for number in point):
            raise ValueError("a point is nowhere")

    def tally(self) -> list[tuple[str, int, int]]:
        """Return each class with its points, and how many of them were answered wrongly."""
        return [
            (
                name,
                self.labels.count(k),
                sum(wrong for label, wrong in zip(self.labels, self.wrong, strict=True) if label == k),
            )
            for k, name in enumerate(self.classes)
        ]


def scatter_chart(scatter: Scatter) -> Markup:
    """Draw the points on a common scale, in an order that is fixed and favours no class."""
    table = np.asarray(scatter.points, dtype=np.float64).reshape(-1, 2)
    low, high = table.min(axis=0), table.max(axis=0)
    scale = (_WIDTH - 2 * _MARGIN) / (max(high - low) or 1.0)
    height = scale * (high - low)[1] + 2 * _MARGIN
    across = _WIDTH / 2 + scale * (table[:, 0] - (low + high)[0] / 2)
    down = height / 2 - scale * (table[:, 1] - (low + high)[1] / 2)
    radius = min(6.0, max(2.7, 100 / math.sqrt(len(table))))
    layer = np.random.default_rng(0).permutation(len(table)) * _LAYERS // len(table)
    parts = []
    for number in range(_LAYERS):
        for wrong in (False, True):
            for k, name in enumerate(scatter.classes):
                here = [
                    item
                    for item in np.flatnonzero(layer == number)
                    if scatter.labels[item] == k and scatter.wrong[item] == wrong
                ]
                if here:
                    shape = _shape(class_marker(name, k), radius)
                    path = "".join(f"M{across[item]:.1f} {down[item]:.1f}{shape}" for item in here)
                    parts.append(_path(path, name, k, wrong=wrong))
    return Markup('<svg class="chart scatter" viewBox="0 0 {:g} {:.1f}" role="img"><title>{}</title>{}</svg>').format(
        _WIDTH, height, scatter.title, Markup("").join(parts)
    )


def scatter_mark(name: str, position: int, *, wrong: bool = False) -> Markup:
    """Draw the mark of one class for a legend; it is hidden from screen readers, as the name stands beside it."""
    mark = _path(f"M8 8{_shape(class_marker(name, position), 5)}", name, position, wrong=wrong)
    return Markup('<svg class="scatter" viewBox="0 0 16 16" aria-hidden="true">{}</svg>').format(mark)


def _path(path: str, name: str, position: int, *, wrong: bool) -> Markup:
    return Markup('<path class="{}" fill="{}" d="{}"/>').format(
        "wrong" if wrong else "right", class_colour(name, position), path
    )


def _shape(marker: str, radius: float) -> str:
    """Return the path of a marker about the current point."""
    if marker == "o":
        r = round(radius, 1)
        return f"m{-r:g} 0a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0z"
    corners = [(radius * x, radius * y) for x, y in _CORNERS[marker]]
    steps = [corners[0], *((b[0] - a[0], b[1] - a[1]) for a, b in pairwise(corners))]
    (x, y), *rest = [(round(a, 1), round(b, 1)) for a, b in steps]
    return f"m{x:g} {y:g}l" + " ".join(f"{a:g} {b:g}" for a, b in rest) + "z"
