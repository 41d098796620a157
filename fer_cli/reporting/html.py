"""HTML pages: one way from values to a page, in which every text that is not ours is escaped."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from fer_cli.core.errors import one_line
from fer_cli.reporting.lettering import MARK, left_to_right


def environment() -> Environment:
    """Return the environment of our templates.

    Whatever a template prints is escaped for HTML, control characters and those that turn the direction of writing
    with it; only :class:`markupsafe.Markup` of our own making goes in as it is.
    """
    return Environment(
        loader=PackageLoader("fer_cli.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: object) -> object:
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return escape(left_to_right(one_line(value))).replace(MARK, Markup("&lrm;"))
