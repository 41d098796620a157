"""Options and arguments that several commands share, each declared once, and the decorator that makes a command."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import typer
from typer.core import TyperGroup
from typer.main import get_command_from_info
from typer.models import CommandInfo

from fer_cli.cli.common import Output, counted, emit, print_pairs
from fer_cli.core import machine
from fer_cli.core.errors import UsageError
from fer_cli.core.progress import speaks

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Store

SEED_MAX: Final = 2**32 - 1
_COMPUTING: Final = frozenset(
    {"prepare", "parse-masks", "extract", "fit-ahm", "train", "search", "ensemble", "eval", "predict", "export"}
    | {"compare", "audit", "plot", "demo", "reproduce"}
)
"""Commands, by their first word, that get ``--threads``."""

StoreOption = Annotated[
    Path | None, typer.Option("--store", help="The artifact store. [default: $FER_STORE, else ./artifacts]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Print a traceback with an error.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Rebuild or replace what is there already.")]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--name", help="Name of what is made: a-z, 0-9, '.', '_', '-'. [default: from its inputs and settings]"
    ),
]
TagOption = Annotated[
    list[str] | None, typer.Option("--tag", help="A tag for what is made, a study's models too; may be repeated.")
]
NoteOption = Annotated[str | None, typer.Option("--note", help="A note on what is made.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        max=1024,
        help="Threads that compute on a CPU; another number is another training. [default: those of an equal training "
        "that is there or unfinished, else $OMP_NUM_THREADS, else one per core]",
    ),
]
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


@dataclass(frozen=True, slots=True)
class Chosen:
    """The name, the tags and the note that a user gives to what a command makes."""

    name: str | None
    tags: tuple[str, ...]
    note: str | None

    @classmethod
    def checked(cls, name: str | None, tags: Sequence[str] | None, note: str | None) -> Chosen:
        """Return them in their composed form, before any work begins.

        Raises:
            UsageError: one of them cannot be what it is to be.
        """
        if name is None and not tags and note is None:
            return cls(None, (), None)
        from fer_cli.artifacts.annotations import note_text, tag
        from fer_cli.artifacts.naming import chosen_name

        return cls(
            None if name is None else chosen_name(name),
            tuple(tag(text) for text in tags or ()),
            None if note is None else note_text(note),
        )

    def added(self, store: Store, output: Output) -> Output:
        """Write tags and note beside what was made, and return an output that shows them."""
        from fer_cli.artifacts.annotations import Annotations

        if (made := output.made) is None:
            return output
        annotations = Annotations(store)
        said = annotations.of(made.kind, made.version)
        if speaks() and (self.tags or self.note is not None):
            said = annotations.change(made, add=self.tags, note=self.note)
            for part in output.parts:
                annotations.change(part, add=self.tags)
        also = f"  (also of its {counted(len(output.parts), 'model')})" if self.tags and output.parts else ""

        def show() -> None:
            output.show()
            if not said.is_empty:
                tags = f"{' '.join(said.tags)}{also}" if said.tags else ""
                print_pairs([(what, text) for what, text in (("tags", tags), ("note", said.note)) if text])

        return replace(output, values={**output.values, "tags": list(said.tags), "note": said.note}, show=show)


def command(name: str) -> Callable[[Callable[..., Output]], Callable[..., None]]:
    """Make a command of a function: add ``--json`` and ``--debug``, and print the output that it returns.

    A parameter called ``store`` becomes ``--store`` and receives the opened store; one called ``as_json`` receives
    whether ``--json`` was given. One called ``name`` is of a command that makes an artifact: it receives the checked
    ``--name``, and ``--tag`` and ``--note``, which come with it, are written beside the artifact that the output is of.
    Commands that compute get ``--threads``. ``--debug`` is read from the arguments themselves
    (:func:`fer_cli.cli.app.run`), so that it counts where parsing fails.

    Args:
        name: the command's full name without ``fer``, such as ``plot confusion``; ``--json`` prints it.
    """

    def decorate(body: Callable[..., Output]) -> Callable[..., None]:
        hints = get_type_hints(body, localns={"Store": object}, include_extras=True)
        names = inspect.signature(body).parameters
        given = {"store", "as_json", "name"}
        parameters = [_keyword(key, hints[key], names[key].default) for key in names if key not in given]
        if "name" in names:
            options = (("name", NameOption), ("tag", TagOption), ("note", NoteOption))
            parameters += [_keyword(key, hint, None) for key, hint in options]
        if "store" in names:
            parameters.append(_keyword("store", StoreOption, None))
        if name.partition(" ")[0] in _COMPUTING:
            parameters.append(_keyword("threads", ThreadsOption, None))
        parameters += [_keyword("json", JsonOption, False), _keyword("debug", DebugOption, False)]

        def run(
            *,
            json: bool,
            debug: bool,
            store: Path | None = None,
            threads: int | None = None,
            **values: Any,  # noqa: ANN401
        ) -> None:
            if "store" in names:
                from fer_cli.artifacts.store import open_store

                values["store"] = open_store(store)
            if "as_json" in names:
                values["as_json"] = json
            with machine.computing_with(threads):
                if "name" not in names:
                    emit(name, body(**values), as_json=json)
                    return
                chosen = Chosen.checked(values.pop("name"), values.pop("tag"), values.pop("note"))
                output = body(**values, name=chosen.name)
                emit(name, chosen.added(values["store"], output), as_json=json)

        run.__doc__ = body.__doc__
        run.__dict__["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


class CommandGroup(TyperGroup):
    """A group that says which command a misspelt one may have meant, those of a registry too."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - typer's own signature
        """Return the command that is named.

        Raises:
            UsageError: there is none.
        """
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], names, n=3)
            meant = f"did you mean {' or '.join(near)}?" if near else f"take {', '.join(names)};"
            raise UsageError(f"No such command {args[0]!r}", hint=f"{meant} see '{ctx.command_path} --help'")
        return super().resolve_command(ctx, args)


def registry_app(
    help: str,
    names: Callable[[], Sequence[str]],
    build: Callable[[str], tuple[Callable[..., None], dict[str, Any]]],
) -> typer.Typer:
    """Return a group whose commands come from a registry; each is built when it is asked for, not before.

    Args:
        help: the group's help.
        names: returns the names of its commands.
        build: returns the function of a command, and its ``help`` and ``short_help`` where it has no docstring.
    """

    class Group(CommandGroup):
        def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer's own signature
            return [*self.commands, *(name for name in names() if name not in self.commands)]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 - typer's own signature
            if cmd_name not in self.commands and cmd_name in names():
                function, settings = build(cmd_name)
                info = CommandInfo(cmd_name, callback=function, **settings)
                built = get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode=None)
                self.commands[cmd_name] = built
            return self.commands.get(cmd_name)

    app = typer.Typer(cls=Group, help=help, no_args_is_help=True, rich_markup_mode=None)
    app.callback()(lambda: None)  # without one typer does not take an empty group for a group
    return app


def _keyword(name: str, hint: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
