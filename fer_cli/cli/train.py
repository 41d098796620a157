"""``fer train``: a subcommand for every system of the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fer_cli.cli.common import (
    Output,
    artifact_output,
    listed,
    print_file,
    print_table,
)
from fer_cli.cli.options import SEED_MAX, CommandGroup, DatasetArgument, DeviceOption, ForceOption, command
from fer_cli.core.errors import UsageError
from fer_cli.systems import registry

if TYPE_CHECKING:
    from fer_cli.artifacts.artifact import Artifact
    from fer_cli.artifacts.store import Store
    from fer_cli.stages.train import TrainedResult

MasksOption = Annotated[
    str | None,
    typer.Option("--masks", help="The region maps, of a system trained with them. [default: the dataset's newest]"),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="A TOML file, a name of 'fer recipe ls', or a model, study or search that holds one. "
        "[default: the system's own]",
    ),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE replaces a key of the recipe, such as optim.lr=1e-4.")
]
SeedsOption = Annotated[str, typer.Option("--seeds", help="One model per seed; several make a study.")]
FoldOption = Annotated[
    str | None,
    typer.Option(
        "--fold",
        "--folds",
        help="Of a dataset in folds: the fold to test, from 0, or all: a model each, put together as a study. "
        "[default: the dataset's own splits]",
    ),
]
SelectOnOption = Annotated[
    str, typer.Option("--select-on", help="validation, or test: for the record, no such number is sound.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", min=0, max=64, help="Threads that prefetch batches; no result changes. [default: 2 with a GPU]"
    ),
]
BoardOption = Annotated[Path | None, typer.Option("--tensorboard", help="A folder to write for TensorBoard as well.")]
LogOption = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        help="wandb or mlflow: log the training there as well, as their environment variables say; may be repeated.",
    ),
]
PrintOption = Annotated[
    bool, typer.Option("--print-config", help="Print the recipe as it would be run, as TOML, and exit.")
]
HelpRecipeOption = Annotated[bool, typer.Option("--help-recipe", help="List the keys of the recipe, and exit.")]


class _Systems(CommandGroup):
    """A subcommand for every system of the registry, made when it is asked for, and those that are declared here."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - typer's own signature
        """Return the systems' names, then the other commands'."""
        return [*registry.names(), *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - typer's own signature
        """Return the command of a system, or one that is declared here."""
        if cmd_name not in registry.names():
            return super().get_command(ctx, cmd_name)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name, help=registry.help_line(cmd_name))(_command(cmd_name))
        return typer.main.get_command(single)


app = typer.Typer(help="Train a network from a recipe.", no_args_is_help=True, rich_markup_mode=None, cls=_Systems)


def _command(system: str) -> Callable[..., None]:
    def train_system(
        store: Store,
        dataset: DatasetArgument = None,
        recipe: RecipeOption = None,
        changes: SetOption = None,
        seeds: SeedsOption = "0",
        fold: FoldOption = None,
        masks: MasksOption = None,
        select_on: SelectOnOption = "validation",
        device: DeviceOption = "auto",
        workers: WorkersOption = None,
        tensorboard: BoardOption = None,
        log: LogOption = None,
        print_config: PrintOption = False,
        help_recipe: HelpRecipeOption = False,
        force: ForceOption = False,
        name: str | None = None,
    ) -> Output:
        if help_recipe:
            return _reference(system)
        if print_config:
            return _config(store, system, recipe, changes or [])
        from fer_cli.stages.train import train

        trained = train(
            store=store,
            system=system,
            dataset=dataset,
            recipe=recipe,
            changes=changes or [],
            seeds=seed_list(seeds),
            fold=_fold(fold),
            masks=masks,
            select_on=select_on,
            device=device,
            workers=workers,
            tensorboard=tensorboard,
            log=log or [],
            force=force,
            name=name,
        )
        return _trained(trained)

    return command(f"train {system}")(train_system)


def _reference(system: str) -> Output:
    keys = registry.recipe_reference(system)

    def show() -> None:
        columns = dict.fromkeys(("key", "default", "values", "what it is"), "left")
        rows = []
        for key in keys:
            only = f"{key.key.partition('.')[0]}.name = {key.variant}: " if key.variant else ""
            unit = f" [{key.unit}]" if key.unit else ""
            rows.append([key.key, key.default or "(required)", key.values, f"{only}{key.title}{unit}"])
        print_table(columns, rows, wrap=["values", "what it is"])

    return Output({"keys": [asdict(key) for key in keys]}, show)


def _config(store: Store, system: str, recipe: str | None, changes: list[str]) -> Output:
    from fer_cli.core.toml_text import toml_text
    from fer_cli.systems.recipe_sources import find_source

    read = find_source(recipe or system, store).read(system, changes)
    text = toml_text(read)
    return Output({"recipe": read.model_dump(mode="json"), "toml": text}, lambda: print_file(text))


def seed_list(text: str) -> list[int]:
    """Return the numbers of ``--seeds``.

    Raises:
        UsageError: one is no seed.
    """
    items = listed(text, "--seeds")
    if not all(item.isdecimal() and len(item) <= 20 and int(item) <= SEED_MAX for item in items):
        raise UsageError(f"--seeds {text!r} is not a list of numbers", hint=f"write 0,1,2; each at most {SEED_MAX}")
    return [int(item) for item in items]


def _fold(text: str | None) -> int | Literal["all"] | None:
    if text is None:
        return None
    if text == "all":
        return "all"
    if not (text.isascii() and text.isdecimal() and len(text) <= 4):
        raise UsageError(f"--fold {text!r} is not a fold", hint="write its number, from 0, or all")
    return int(text)


def _trained(trained: TrainedResult) -> Output:
    from fer_cli.artifacts.summaries import Measured, ModelSummary, StudySummary

    whole = trained.whole.artifact
    if trained.study is not None:
        lines = [("", StudySummary.of(whole).headline), *(_member(model.artifact) for model in trained.models)]
        return replace(artifact_output(trained.whole, lines), parts=[model.artifact for model in trained.models])
    measured = Measured.of(whole)
    rate = measured.images_per_second
    speed = "" if rate is None else f", {rate:,.0f} images/s"
    time = f"{(measured.seconds or 0) / 60:.1f} min{speed}"
    return artifact_output(trained.whole, [("", ModelSummary.of(whole).headline), ("time", time)])


def _member(model: Artifact) -> tuple[str, str]:
    """Return what tells a model of a study from the others, and what it gave."""
    from fer_cli.artifacts.summaries import ModelConfig, ModelSummary

    config, summary = ModelConfig.of(model), ModelSummary.of(model)
    fold = "" if config.fold is None else f"fold {config.fold}, "
    scores = f"{config.select_on} accuracy {summary.selected.accuracy:.1%}"
    balanced = f"balanced {summary.selected.balanced_accuracy:.1%}"
    return f"{fold}seed {config.seed}", f"epoch {summary.epoch} of {summary.epochs}, {scores}, {balanced}"
