"""``fer plot``: one subcommand a picture, learned from the registry of plots."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperGroup

from fer_cli.cli.common import DebugOption, JsonOption, StoreOption, open_store, print_json
from fer_cli.plots.registry import PLOTS, plot_of

OutOption = Annotated[
    Path | None, typer.Option("--out", help="The file; its suffix chooses the format. [default: ./fer-WHAT-NAME.png]")
]


def _common(
    *, out: OutOption = None, store: StoreOption = None, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """The options that every plot has."""


def _command(name: str) -> Callable[..., None]:
    """Return the command of a plot, with the parameters and the words of the function that draws it."""
    draw = plot_of(name)

    def command(
        out: Path | None,
        store: Path | None,
        json: bool,
        debug: bool,
        **options: Any,  # noqa: ANN401
    ) -> None:
        from fer_cli.stages.plot import plot

        path = plot(store=open_store(store), what=name, out=out, **options)
        if json:
            print_json(f"plot {name}", out=str(path))
        else:
            typer.echo(path)

    parameters = [
        parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for function in (draw, _common)
        for hints in [get_type_hints(function, include_extras=True)]
        for parameter in inspect.signature(function).parameters.values()
        if (function, parameter.name) != (draw, "store")
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = draw.__doc__
    return command


class _Plots(TyperGroup):
    """Imports a plot's module when its command is wanted, not before."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer's own signature
        """Return the names of the plots."""
        return list(PLOTS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 - typer's own signature
        """Return the command of a plot, or None."""
        if cmd_name in PLOTS and cmd_name not in self.commands:
            one = typer.Typer(rich_markup_mode=None, add_completion=False)
            one.command(cmd_name)(_command(cmd_name))
            self.commands[cmd_name] = typer.main.get_command(one)
        return self.commands.get(cmd_name)


app = typer.Typer(cls=_Plots, help="Draw one picture: PNG, SVG or PDF.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _plot() -> None:
    pass
