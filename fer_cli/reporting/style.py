"""What all figures share: colours, fonts, and how they are saved."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_cli.artifacts.atomic_io import write_atomic
from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS
from fer_cli.reporting.lettering import DOTS, families, fitted, measured, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASS_COLOURS: Final[dict[str, str]] = {
    "neutral": "#b5b5b5",
    "happy": "#f0a91b",
    "sad": "#1248d1",
    "surprise": "#61a8ff",
    "fear": "#8b49a4",
    "disgust": "#0c855b",
    "anger": "#ce3800",
    "contempt": "#484458",
}
"""One colour an expression, in every picture. Chosen by search so that any two differ by 24 or more in CIELAB for
normal sight and for simulated protanopia, deuteranopia and tritanopia (Machado et al. 2009), and stand out
from white."""

REGION_COLOURS: Final[dict[str, str]] = {
    "skin": "#ffefba",
    "eye": "#0d49ff",
    "ear": "#ffae0d",
    "nose": "#617b12",
    "mouth": "#c93372",
    "neck": "#3debf2",
    "hair": "#7231a5",
}
"""One colour a face region; the background has none. Chosen by search, as above: any two differ by 32 or more in CIELAB
for all four kinds of sight, and regions that touch in a face still by 20 or more where both are laid half transparent
over the same grey, skin, lip or hair of a photograph. The large regions are quiet and the small ones loud."""

OTHER_COLOURS: Final = (
    *("#8a6d3b", "#0f9fb5", "#d4679a", "#6f8f1f", "#2b2f9e", "#e0603a"),
    *("#5f2a6b", "#c9a400", "#0b5d4a", "#8fb8d8", "#7a1f2b", "#a98fd6"),
)
"""For names that are no expressions, taken in turn; after these twelve the shape of a point tells classes apart."""

INK: Final = "#1b1d22"
EDGE: Final = "#fefefe"
"""Round a mark: as good as white on paper, lighter than the page where it is dark."""
MUTED: Final = "#666b75"
GRID: Final = "#e3e4e8"

HEAT: Final = "#1c5496"
ON_MID_HEAT: Final = "#1b1d23"
ON_HEAT: Final = "#fffffe"
LINES: Final = ("#1f5fa0", "#c2571a", "#1c7a58", "#7d4aa0")
"""Colours of lines that are no classes, the one that counts first."""
DASHES: Final[tuple[Any, ...]] = ("-", (0, (4.2, 1.5)), (0, (1.1, 1.3)), (0, (6, 1.5, 1.5, 1.5)))
"""One for each of the lines' colours: they are told apart in grey too."""

MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
"""One shape an expression, in the order of the canonical names: colour never stands alone."""

FORMATS: Final = (".png", ".svg", ".pdf")

# Fonts that come with matplotlib and identifiers that do not change: the same figure is the same file, anywhere.
_RC: Final[dict[str, Any]] = {
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "fer",
    "pdf.fonttype": 42,
    "path.simplify": False,
    "text.usetex": False,
    "text.parse_math": False,  # names are users': a dollar sign in one starts no formula
}


def styled(changes: Mapping[str, Any] | None = None) -> AbstractContextManager[None]:
    """Return the context in which every figure is drawn and saved: our fonts and colours, not the user's own."""
    from matplotlib import rc_context

    settings: Any = {
        **_RC,
        "font.family": list(families()),
        **(changes or {}),
    }  # typed by matplotlib as a literal of every setting there is
    return rc_context(settings)


def class_colour(name: str, position: int = 0) -> str:
    """Return the colour of an expression; of another name, the ``position``-th of the remaining colours."""
    return CLASS_COLOURS.get(name, OTHER_COLOURS[position % len(OTHER_COLOURS)])


def class_marker(name: str, position: int = 0) -> str:
    """Return the shape of an expression's points; of another name, the ``position``-th shape."""
    if name in EXPRESSIONS:
        return MARKERS[EXPRESSIONS.index(name) % len(MARKERS)]
    # The first twelve have a colour and a shape of their own; each further dozen begins with another shape.
    return MARKERS[(position + position // len(OTHER_COLOURS)) % len(MARKERS)]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure, in inches. Call it and draw inside ``styled()``."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="white")


def bare(axes: Axes, *, keep: Sequence[str] = ()) -> None:
    """Remove the frame of ``axes`` but for the sides in ``keep``, and the tick marks."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in keep)
    axes.tick_params(length=0)


_HEADING: Final = "heading"
"""Marks a title and its subtitle, which a figure of a paper leaves to its caption."""
HEADING: Final = 0.8
"""Inches that a title with its subtitle needs; a figure inside a page has neither."""


def heading(figure: Figure, title: str, *subtitle: str, left: float = 0.28, top: float = 0.25) -> None:
    """Write the title and, under it, the lines of the subtitle, from ``left`` and ``top``, in inches, on.

    Each takes the width of the figure: what is too long for it is written smaller, then shortened.
    """
    width, height = figure.get_size_inches()
    room = DOTS * (width - 2 * left)
    [title], size = _shrunk([title], room, 13.5, "bold")
    figure.text(left / width, 1 - top / height, title, fontsize=size, fontweight="bold", va="top", gid=_HEADING)
    lines, size = _shrunk(subtitle, room, 9.5)
    figure.text(
        left / width, 1 - (top + 0.29) / height, "\n".join(lines), fontsize=size, color=MUTED, va="top", gid=_HEADING
    )


def _shrunk(lines: Sequence[str], room: float, size: float, weight: str = "normal") -> tuple[list[str], float]:
    """Return lines that fit ``room`` dots, and their size: at least three quarters of ``size``, in points."""
    widest = max((measured(printable(line[:1000]), size, weight) for line in lines), default=0)
    size = max(0.75 * size, min(size, 0.999 * size * room / max(widest, 1)))
    return [fitted(line, room, size, weight, middle=True) for line in lines], size


def power_label(number: float) -> str:
    """Return a power of ten as 10⁻³, for a logarithmic axis, and nothing for what lies between two of them."""
    power = round(math.log10(number))
    if not math.isclose(number, 10.0**power):
        return ""
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


PAPER_WIDTHS: Final = {"single": 88.0, "double": 180.0}
"""Millimetres of a column and of a page of two."""
PAPER_POINTS: Final = (7.0, 9.0)
"""The smallest and the largest letters of a figure in a paper."""
MILLIMETRES: Final = 25.4
"""In an inch."""
WIDE: Final = 5.0
"""Inches from which a figure of a paper has room for two panels, and small pictures beside its bars."""
_TRIES: Final = 12
_MARGIN: Final = 0.025
"""Inches round a cropped figure: letters of a PDF are as wide as its reader draws them."""


def fit_to_paper(figure: Figure, millimetres: float) -> int:
    """Make a figure one of a paper: without title, as wide as asked when cropped, with letters of 7 to 9 points.

    Args:
        figure: to change; save it with ``cropped``.
        millimetres: its width.

    Returns:
        How many pairs of texts touch at this width.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    with styled():
        for text in [one for one in figure.texts if one.get_gid() == _HEADING]:
            text.remove()
        canvas: Any = FigureCanvasAgg(figure)  # untyped
        wanted, size = millimetres / MILLIMETRES - 2 * _MARGIN, figure.get_size_inches()
        canvas.draw()
        texts = [one for one in figure.findobj(Text) if isinstance(one, Text) and one.get_text().strip()]
        scale = wanted / size[0]
        low, high = PAPER_POINTS
        for one in texts:
            one.set_fontsize(min(high, max(low, float(one.get_fontsize()) * scale)))
        for _ in range(_TRIES):
            figure.set_size_inches(*(size * scale))
            canvas.draw()
            found = figure.get_tightbbox(canvas.get_renderer()).width
            if abs(found - wanted) < 0.002 * wanted:
                break
            scale *= wanted / found
        boxes = [one.get_window_extent() for one in texts if one.get_visible()]
        boxes = [box.padded(-1) for box in boxes if box.width > 2 and box.height > 2]
        ends = np.array([box.extents for box in boxes]).reshape(-1, 4)
        low_ends, high_ends = ends[:, None, :2], ends[None, :, 2:]
        begins_before = (low_ends <= high_ends).all(axis=2)
        return int(np.triu(begins_before & begins_before.T, 1).sum())


def save_figure(figure: Figure, path: Path | str, *, dpi: int = 200, cropped: bool = False) -> Path:
    """Write a figure as PNG, SVG or PDF, by the suffix of ``path``; whole, or not at all.

    The file holds no date and no random identifier: the same figure gives the same bytes.

    Args:
        figure: of matplotlib's object API.
        path: ends in one of ``FORMATS``; an existing file is replaced.
        dpi: of a PNG, in dots per inch.
        cropped: to what is drawn, without a margin.

    Returns:
        The path.

    Raises:
        FerError: an unknown suffix, a folder that is not there, or a disk that does not take the file.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise FerError(
            f"a picture cannot be written as {suffix or 'a file without a suffix'}",
            hint=f"end the name in one of {', '.join(FORMATS)}",
            path=path,
        )
    metadata = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[suffix]
    crop: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": _MARGIN} if cropped else {}
    try:
        picture = io.BytesIO()
        with styled():
            figure.savefig(picture, format=suffix[1:], dpi=dpi, metadata=metadata, **crop)
        write_atomic(path, picture.getvalue())
    except OSError as error:
        raise FerError(
            f"the picture cannot be written: {error.strerror or error}",
            hint="choose another place with --out",
            path=path,
        ) from error
    return path
