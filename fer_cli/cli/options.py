"""Options and arguments that several commands share, each declared once, and the decorator that makes a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, get_type_hints

import typer

from fer_cli.cli.common import Output, open_store, print_json

SEED_MAX: Final = 2**32 - 1

StoreOption = Annotated[
    Path | None, typer.Option("--store", help="The artifact store. [default: $FER_STORE, else ./artifacts]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Print a traceback with an error.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Rebuild the artifact even when it is up to date.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=SEED_MAX, help="Random seed.")]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="train, validation or test. [default: test, else validation]")
]
InputSizeOption = Annotated[
    int | None, typer.Option("--size", help="Side of the network's input in pixels. [default: the network's own]")
]
BatchOption = Annotated[int, typer.Option("--batch", help="Images per forward pass.")]
WeightsOption = Annotated[str, typer.Option("--weights", help="auto, none (random), or a file.")]
WeightsHashOption = Annotated[
    str | None, typer.Option("--weights-sha256", metavar="HEX", help="SHA-256 that the file of weights must have.")
]
DatasetArgument = Annotated[str | None, typer.Argument(help="The dataset. [default: the newest]")]
FeaturesArgument = Annotated[str | None, typer.Argument(help="The features. [default: the newest]")]
MasksArgument = Annotated[str | None, typer.Argument(help="The masks. [default: the newest]")]
ModelArgument = Annotated[str | None, typer.Argument(help="The model. [default: the newest]")]
EvaluationArgument = Annotated[str | None, typer.Argument(help="The evaluation. [default: the newest]")]


_STORE: Final = inspect.Parameter("store", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=StoreOption)
_PRINTING: Final = [
    inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption),
    inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=DebugOption),
]


def command(name: str) -> Callable[[Callable[..., Output]], Callable[..., None]]:
    """Make a command of a function: add ``--json`` and ``--debug``, and print the output that it returns.

    A parameter called ``store`` becomes ``--store`` and receives the opened store. ``--debug`` is read from the
    arguments themselves (:func:`fer_cli.cli.app.run`), so that it counts where parsing fails.

    Args:
        name: the command's full name without ``fer``, such as ``plot confusion``; ``--json`` prints it.
    """

    def decorate(body: Callable[..., Output]) -> Callable[..., None]:
        hints = get_type_hints(body, localns={"Store": object}, include_extras=True)
        names = inspect.signature(body).parameters
        parameters = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=parameter.default, annotation=hints[key])
            for key, parameter in names.items()
            if key != "store"
        ]
        parameters += _PRINTING if "store" not in names else [_STORE, *_PRINTING]

        @functools.wraps(body)
        def run(*, json: bool, debug: bool, store: Path | None = None, **values: object) -> None:
            output = body(**values, **({"store": open_store(store)} if "store" in names else {}))
            if json:
                print_json(name, **output.values)
            else:
                output.show()
            if output.failure is not None:
                raise output.failure

        run.__dict__["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del run.__dict__["__wrapped__"]
        return run

    return decorate
