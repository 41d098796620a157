"""Figures inside an HTML page."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from fer_cli.reporting.heatmap import shrunk
from fer_cli.reporting.style import EDGE, GRID, HEAT, INK, LINES, MUTED, ON_HEAT, ON_MID_HEAT, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_THEME: Final = {
    INK: "var(--ink)",
    MUTED: "var(--soft)",
    GRID: "var(--rule)",
    EDGE: "var(--edge)",
    "#ffffff": "var(--page)",
    HEAT: "rgb(var(--heat))",
    ON_MID_HEAT: "var(--on-mid)",
    ON_HEAT: "var(--on-heat)",
    **{colour: f"var(--s{k})" for k, colour in enumerate(LINES)},
}
"""What a figure's colours become in a page, so that they follow its theme; all others stay as they are."""
_DPI: Final = 120  # of pictures in the figure
_COLOUR: Final = re.compile("#[0-9a-f]{6}")


def inline_svg(figure: Figure, title: str) -> Markup:
    """Return a figure as an SVG element for an HTML page: texts as text in the page's font, colours by its theme.

    Args:
        figure: of matplotlib's object API.
        title: what it shows, for screen readers; unique in the page.
    """
    stream = io.StringIO()
    with styled({"svg.fonttype": "none", "svg.hashsalt": title, "image.composite_image": False}):
        figure.savefig(stream, format="svg", dpi=_DPI, transparent=True)
    head, _, body = stream.getvalue().partition("<svg ")[2].partition(">")
    width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', head)
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.S)
    used = set(re.findall(r"#([\w-]+)[\")]", body))
    body = re.sub(r'(<\w+) id="([^"]*)"', lambda tag: tag[0] if tag[2] in used else tag[1], body)
    body = re.sub(r'style="[^"]*"', lambda style: _COLOUR.sub(lambda one: _THEME.get(one[0], one[0]), style[0]), body)
    body = re.sub(r'data:image/png;base64,\s*([\w+/=\s]+)"', lambda image: f'{shrunk(image[1])}"', body)
    opening = '<svg class="figure" role="img" viewBox="0 0 {} {}" style="width:{:.0f}px"><title>{}</title>'
    return Markup(opening).format(width, height, float(width) * 96 / 72, title) + Markup(body.strip())  # noqa: S704
