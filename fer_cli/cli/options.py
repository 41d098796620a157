"""Options and arguments that several commands share, each declared once, and the decorator that makes a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer

from fer_cli.cli.common import Output, emit, open_store

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


def command(name: str) -> Callable[[Callable[..., Output]], Callable[..., None]]:
    """Make a command of a function: add ``--json`` and ``--debug``, and print the output that it returns.

    A parameter called ``store`` becomes ``--store`` and receives the opened store; one whose type is a NamedTuple of
    options becomes those options. ``--debug`` is read from the arguments themselves (:func:`fer_cli.cli.app.run`), so
    that it counts where parsing fails.

    Args:
        name: the command's full name without ``fer``, such as ``plot confusion``; ``--json`` prints it.
    """

    def decorate(body: Callable[..., Output]) -> Callable[..., None]:
        hints = get_type_hints(body, localns={"Store": object}, include_extras=True)
        names = inspect.signature(body).parameters
        groups = {key: hints[key] for key in names if hasattr(hints[key], "_fields")}
        parameters: list[inspect.Parameter] = []
        for key, parameter in names.items():
            if key in groups:
                fields = get_type_hints(groups[key], include_extras=True)
                defaults = groups[key]._field_defaults
                parameters += [_keyword(field, hint, defaults[field]) for field, hint in fields.items()]
            elif key != "store":
                parameters.append(_keyword(key, hints[key], parameter.default))
        if "store" in names:
            parameters.append(_keyword("store", StoreOption, None))
        parameters += [_keyword("json", JsonOption, False), _keyword("debug", DebugOption, False)]

        def run(*, json: bool, debug: bool, store: Path | None = None, **values: Any) -> None:  # noqa: ANN401
            given = {
                key: group(**{field: values.pop(field) for field in group._fields}) for key, group in groups.items()
            }
            if "store" in names:
                given["store"] = open_store(store)
            emit(name, body(**values, **given), as_json=json)

        run.__doc__ = body.__doc__
        run.__dict__["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _keyword(name: str, hint: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
