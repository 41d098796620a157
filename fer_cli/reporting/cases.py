"""Contact sheets of an audit: pictures that together are a finding, side by side, by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.reporting.lettering import fitted
from fer_cli.reporting.page import MARGIN, draw_image, drawn_size, largest_size, new_page, write
from fer_cli.reporting.style import MUTED, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE: Final = 192
_GAP: Final = 30
_COLUMNS: Final = 6  # pairs in a row, at most
_FEWEST: Final = 3  # that there is room for, so that the title has some too
_LINE: Final = 29
_SMALL: Final = 7.2  # points
_TOP: Final = 190
_HEADING: Final = 54


@dataclass(frozen=True, slots=True)
class ShownCase:
    """One picture or two, each with its captions (a line each), and a line below them."""

    images: tuple[NDArray[np.uint8], ...]
    """(H, W) grey or (H, W, 3) RGB."""
    captions: tuple[tuple[str, ...], ...]
    note: str = ""


def cases_figure(groups: Mapping[str, Sequence[ShownCase]], title: str, subtitle: str) -> Figure:
    """Draw cases in rows, the groups one under the other. Text that does not fit is shortened.

    Args:
        groups: heading -> cases, at least one in all; groups without any are left out.
        title: one line.
        subtitle: one line under it.
    """
    groups = {name: cases for name, cases in groups.items() if cases}
    shown = [image for cases in groups.values() for case in cases for image in case.images]
    assert shown, "nothing to draw"
    wide, tall = largest_size(shown, _SIDE)
    cell = max(2 * wide + 6, 360)
    columns = min(_COLUMNS, max(_FEWEST, *map(len, groups.values())))
    width = 2 * MARGIN + columns * (cell + _GAP) - _GAP
    lines = max(len(caption) for cases in groups.values() for case in cases for caption in case.captions) + 1
    needed = tall + 34 + _LINE * lines
    rows = {name: -(-len(cases) // columns) for name, cases in groups.items()}
    height = _TOP + sum(_HEADING + count * needed + 24 for count in rows.values())
    with styled():
        figure, page = new_page(width, height, title, subtitle)
        y = _TOP
        for name, cases in groups.items():
            write(page, MARGIN, y, fitted(name, width - 2 * MARGIN, 11, "bold"), 11, fontweight="bold")
            for k, case in enumerate(cases):
                left = MARGIN + k % columns * (cell + _GAP)
                top = y + _HEADING + k // columns * needed
                for place, (image, caption) in enumerate(zip(case.images, case.captions, strict=True)):
                    x = left + place * (cell + 6) // 2
                    draw_image(page, image, (x, top, *drawn_size(image, _SIDE)))
                    for number, line in enumerate(caption):
                        room = (cell - 6) / 2 - 8
                        said = fitted(line, room, _SMALL, middle=True)
                        write(page, x, top + tall + 8 + _LINE * number, said, _SMALL)
                below = top + tall + 8 + _LINE * max(len(caption) for caption in case.captions)
                if case.note:
                    write(page, left, below, fitted(case.note, cell, _SMALL), _SMALL, color=MUTED)
            y += _HEADING + rows[name] * needed + 24
    return figure
