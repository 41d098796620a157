"""Tables and notes of a page as one self-contained HTML file."""

from __future__ import annotations

from fer_cli.reporting.html import environment
from fer_cli.reporting.tables import MINUS, Page


def html(page: Page) -> str:
    """Return a page as one self-contained HTML file: no script, no request."""
    templates = environment()
    templates.filters["minus"] = lambda text: MINUS.sub("−", text)
    return templates.get_template("page.html.j2").render(page=page)
