"""``fer plot``: one subcommand per picture, from the registry of plots."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from fer_cli.cli.common import Output, say
from fer_cli.cli.options import command, registry_app
from fer_cli.plots.registry import PLOTS, plot_of

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Store

OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="The file; its suffix is the format. [default: ./fer-WHAT-NAME-VERSION.png with the options that are "
        "given, .pdf for a paper]",
    ),
]


StyleOption = Annotated[
    str, typer.Option("--style", help="screen, or paper: a column's width, no title, letters of 7 to 9 points.")
]
WidthOption = Annotated[
    str | None, typer.Option("--width", help="With --style paper: single, double or millimetres. [default: single]")
]


def _build(name: str) -> tuple[Callable[..., None], dict[str, Any]]:
    """Return the command of a plot, with the parameters and the help of the function that draws it."""
    draw = plot_of(name)

    def body(store: Store, out: Path | None, style: str, width: str | None, **options: object) -> Output:
        from fer_cli.stages.plot import plot

        path = plot(store=store, what=name, out=out, style=style, width=width, **options)
        return Output({"out": str(path)}, partial(say, str(path)))

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [parameter.replace(kind=keyword) for parameter in inspect.signature(draw).parameters.values()]
    out = inspect.Parameter("out", keyword, default=None, annotation=OutOption)
    style = inspect.Parameter("style", keyword, default="screen", annotation=StyleOption)
    width = inspect.Parameter("width", keyword, default=None, annotation=WidthOption)
    body.__dict__["__signature__"] = inspect.Signature([*parameters, out, style, width])
    body.__annotations__ = {
        **get_type_hints(draw, include_extras=True),
        "out": OutOption,
        "style": StyleOption,
        "width": WidthOption,
    }
    body.__doc__ = draw.__doc__
    return command(f"plot {name}")(body), {}


app = registry_app("Draw one picture: PNG, SVG or PDF.", lambda: list(PLOTS), _build)
