"""Stage ``plot``: an artifact in, one picture out."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fer_cli.artifacts.store import Store
from fer_cli.core.errors import UsageError
from fer_cli.core.progress import warn
from fer_cli.datasets.folder import safe_name
from fer_cli.plots.registry import PLOTS, plot_of

STYLES: Final = ("screen", "paper")
_UNNAMED: Final = ("compare_with", "device")
"""Options that no default name holds: what is compared is in the picture's own name and version."""


def plot(
    *,
    store: Store,
    what: str,
    out: Path | None = None,
    style: str = "screen",
    width: str | None = None,
    **options: Any,  # noqa: ANN401 - a plot's own
) -> Path:
    """Draw one picture and return the path of its file.

    Args:
        store: where artifacts are.
        what: one of :data:`fer_cli.plots.registry.PLOTS`.
        out: the file, PNG, SVG or PDF by its suffix; ``./fer-<what>-<name>-<version>.png`` (``.pdf`` for a paper)
            where it is None, with the options that are not left at their defaults.
        style: ``screen``, or ``paper``: of a column's width, without title, letters of 7 to 9 points.
        width: of a paper's figure: ``single`` (the default), ``double`` or millimetres.
        options: of the plot.

    Raises:
        UsageError: no such plot, style or width, or another suffix.
    """
    from fer_cli.reporting.style import FORMATS, MILLIMETRES, fit_to_paper, save_figure

    if what not in PLOTS:
        raise UsageError(f"no plot {what!r}", hint=f"choose one of {', '.join(PLOTS)}")
    if out is not None and out.suffix.lower() not in FORMATS:  # before minutes of work, not after
        raise UsageError(
            f"--out {out}: unknown suffix {out.suffix!r}" if out.suffix else f"--out {out} has no suffix",
            hint=f"end it in one of {', '.join(FORMATS)}",
        )
    millimetres = _width(style, width)
    picture = plot_of(what)(store, **options)
    figure = picture.figure
    if millimetres is not None:
        figure = picture.figure if picture.paper is None else picture.paper(millimetres / MILLIMETRES)
        if touching := fit_to_paper(figure, millimetres):
            pairs = "1 pair of texts touches" if touching == 1 else f"{touching} pairs of texts touch"
            warn(f"{pairs} at {millimetres:g} mm; take a larger --width")
    words = ["fer", what, safe_name(picture.name) or "unnamed", *([picture.version] if picture.version else [])]
    words += [safe_name(text) for text in _option_words(what, options)]
    words += [] if width is None or width == "single" else [safe_name(width)]
    default = f"{'-'.join(words)}.{'png' if millimetres is None else 'pdf'}"
    return save_figure(figure, out or Path(default), cropped=millimetres is not None)


def _option_words(what: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options that differ from a plot's defaults, without the reference: no two pictures get one name."""
    _store, _reference, *parameters = inspect.signature(plot_of(what)).parameters.values()
    for parameter in parameters:
        value = options.get(parameter.name, parameter.default)
        if parameter.name not in _UNNAMED and value != parameter.default:
            yield f"{parameter.name}-{value:g}" if isinstance(value, float) else f"{parameter.name}-{value}"


def _width(style: str, width: str | None) -> float | None:
    """Return the millimetres of a paper's figure; None for the screen."""
    from fer_cli.reporting.style import PAPER_WIDTHS

    if style not in STYLES:
        raise UsageError(f"--style {style!r} is not a choice", hint=f"take {' or '.join(STYLES)}")
    if style == "screen":
        if width is not None:
            raise UsageError("--width is for --style paper", hint="give that too, or leave it out")
        return None
    width = width or "single"
    try:
        millimetres = PAPER_WIDTHS[width] if width in PAPER_WIDTHS else float(width)
    except ValueError:
        millimetres = 0.0
    if not 40 <= millimetres <= 500:
        raise UsageError(f"--width {width!r} is no width", hint="take single, double or 40 to 500 (millimetres)")
    return millimetres
