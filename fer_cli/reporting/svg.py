"""Figures inside an HTML page."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final
from warnings import catch_warnings, filterwarnings

from markupsafe import Markup

from fer_cli.core.errors import one_line
from fer_cli.reporting.heatmap import shrunk
from fer_cli.reporting.lettering import left_to_right
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
_TAG: Final = re.compile("<[^<>]*>")  # between two stands text, which may be anyone's: it is not looked into
_COLOUR: Final = re.compile("#[0-9a-f]{6}")


def inline_svg(figure: Figure, title: str) -> Markup:
    """Return a figure as an SVG element for an HTML page: texts as text in the page's font, colours by its theme.

    Args:
        figure: of matplotlib's object API.
        title: what it shows, for screen readers; unique in the page.
    """
    title, stream = left_to_right(one_line(title)), io.StringIO()
    with styled({"svg.fonttype": "none", "svg.hashsalt": title, "image.composite_image": False}), catch_warnings():
        filterwarnings("ignore", "Glyph .* missing from font")  # the page's reader has the font
        figure.savefig(stream, format="svg", dpi=_DPI, transparent=True)
    head, _, body = stream.getvalue().partition("<svg ")[2].partition(">")
    width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', head)
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.S)
    used = set(re.findall(r"#([\w-]+)[\")]", "".join(_TAG.findall(body))))

    def themed(tag: re.Match[str]) -> str:
        text = re.sub(r'(<\w+) id="([^"]*)"', lambda name: name[0] if name[2] in used else name[1], tag[0])
        text = re.sub(r'style="[^"]*"', lambda look: _COLOUR.sub(lambda one: _THEME.get(one[0], one[0]), look[0]), text)
        return re.sub(r'data:image/png;base64,\s*([\w+/=\s]+)"', lambda image: f'{shrunk(image[1])}"', text)

    body = _TAG.sub(themed, body)
    opening = '<svg class="figure" role="img" viewBox="0 0 {} {}" style="width:{:.0f}px"><title>{}</title>'
    return Markup(opening).format(width, height, float(width) * 96 / 72, title) + Markup(body.strip())  # noqa: S704
