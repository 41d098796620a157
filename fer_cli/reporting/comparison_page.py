"""A comparison as one self-contained HTML page: scores and differences drawn, images that changed, then its tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fer_cli.core.format import count_text, percent, signed_percent
from fer_cli.reporting.comparison import (
    HEADINGS,
    SIGNIFICANT,
    Comparison,
    Pair,
    System,
    p_text,
    page_of,
)
from fer_cli.reporting.heatmap import PNG_URI
from fer_cli.reporting.html import environment
from fer_cli.reporting.interval_bar import interval_bar
from fer_cli.reporting.paper_table import row_names
from fer_cli.reporting.style import class_colour
from fer_cli.reporting.tables import MINUS

_STEP: Final = 0.05  # of the ends of the axis of scores
_LEAST: Final = 0.01  # reach of the axis of differences: of systems that are all alike


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image that changed. ``runs``: (right, all) of the system's runs, then of the first system's."""

    id: str
    label: str
    answer: str  # the wrong answer of the system that is behind
    runs: tuple[tuple[int, int], tuple[int, int]]
    thumbnail: str = ""  # a data URI, data:image/png;base64,...

    def __post_init__(self) -> None:
        """Refuse a picture from elsewhere."""
        if self.thumbnail and not PNG_URI.fullmatch(self.thumbnail):
            raise ValueError(f"the thumbnail of {self.id!r} is no PNG data URI")


@dataclass(frozen=True, slots=True)
class ChangeStrip:
    """Some of the ``total`` images on which a system is ahead of the first (``won``) or behind it."""

    system: System
    won: bool
    total: int
    images: tuple[ShownImage, ...]


def comparison_html(comparison: Comparison, strips: Sequence[ChangeStrip] = (), names: Sequence[str] = ()) -> str:
    """Return a comparison as one self-contained HTML file: no script, no request.

    Args:
        comparison: what is shown.
        strips: of the images that changed.
        names: of the systems: :func:`fer_cli.reporting.paper_table.row_names`.

    Raises:
        UsageError: ``names`` are at fault.
    """
    templates = environment()
    templates.filters.update(
        minus=lambda text: MINUS.sub("−", text), percent=percent, points=signed_percent, count=count_text, p=p_text
    )
    templates.globals.update(interval_bar=interval_bar, class_colour=class_colour, isnan=math.isnan, verdict=verdict)
    return templates.get_template("comparison.html.j2").render(
        comparison=comparison,
        page=page_of(comparison),
        first=comparison.systems[0],
        names=row_names(comparison.systems, names),
        metrics=HEADINGS,
        axis=score_axis(comparison.systems),
        extent=difference_axis(comparison.pairs),
        strips=strips,
        positions={name: position for position, name in enumerate(comparison.classes)},
    )


def verdict(pair: Pair) -> str:
    """Return what the test of accuracy, adjusted for the number of systems, allows to say."""
    if math.isnan(pair.adjusted):
        return "no test"
    if pair.adjusted >= SIGNIFICANT:
        return "no difference shown"
    return "better" if pair.differences["accuracy"].value > 0 else "worse"


def score_axis(systems: Sequence[System]) -> tuple[float, float]:
    """Return the ends of an axis that holds all scores, their intervals and their runs."""
    ends = _finite(
        end
        for one in systems
        for metric, score in one.scores.items()
        for end in (score.value, score.low, score.high, *one.runs[metric])
    )
    low, high = math.floor(min(ends) / _STEP + 1e-9), math.ceil(max(ends) / _STEP - 1e-9)
    return low * _STEP, max(high, low + 1) * _STEP


def difference_axis(pairs: Sequence[Pair]) -> float:
    """Return how far an axis with zero in its middle reaches to hold all differences, in whole points."""
    ends = _finite(end for pair in pairs for one in pair.differences.values() for end in (one.value, one.low, one.high))
    return max(_LEAST, math.ceil(100 * max(map(abs, ends)) - 1e-9) / 100)


def _finite(numbers: Iterable[float]) -> list[float]:
    return [number for number in numbers if not math.isnan(number)]
