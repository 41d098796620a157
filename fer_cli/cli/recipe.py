"""``fer recipe``: recipes that come with fer, those of models, and one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_cli.cli.common import Output, counted, headline, print_table, say
from fer_cli.cli.options import ForceOption, command
from fer_cli.core.errors import FerError

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Store

app = typer.Typer(
    help="List, copy, check and compare recipes.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
RecipeArgument = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="A file, a name of 'fer recipe ls', or a model, study or search."),
]
SystemOption = Annotated[
    str | None, typer.Option("--system", help="The system that it is of. [default: its about.system]")
]


@app.command("ls")
@command("recipe ls")
def ls(
    system: Annotated[str | None, typer.Argument(help="Only this system's. [default: all]")] = None,
) -> Output:
    """List the recipes that come with fer: what they train, how long, and what that gave."""
    from fer_cli.systems import registry
    from fer_cli.systems.recipe_sources import shipped

    if system is not None:
        registry.load(system)
    entries = []
    for one in shipped():
        if system is not None and one.system != system:
            continue
        recipe = registry.read_recipe(one.system, one.path)
        entries.append(
            {
                "name": one.name,
                "system": one.system,
                "default": one.is_default,
                "backbone": None if recipe.backbone is None else recipe.backbone.backbone,
                "size": recipe.data.size,
                "epochs": recipe.train.epochs,
                "measured": recipe.about.measured,
                "path": str(one.path),
            }
        )

    def show() -> None:
        columns = {"recipe": "left", "backbone": "left", "px": "right", "epochs": "right", "measured": "left"}
        rows = [
            [
                f"{entry['name']}{' (default)' if entry['default'] else ''}",
                str(entry["backbone"] or "its own"),
                str(entry["size"]),
                str(entry["epochs"]),
                str(entry["measured"] or ""),
            ]
            for entry in entries
        ]
        print_table(columns, rows, wrap=["measured"])

    return Output({"recipes": entries}, show)


@app.command("cp")
@command("recipe cp")
def cp(
    store: Store,
    recipe: RecipeArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    force: ForceOption = False,
) -> Output:
    """Copy a recipe to a file of your own, to change it there."""
    from fer_cli.artifacts.atomic_io import write_atomic
    from fer_cli.systems.recipe_sources import find_source

    source = find_source(recipe, store)
    if file.is_dir():
        raise FerError("is a folder", hint="name a file in it", path=file)
    if file.exists() and not force:
        raise FerError("is there already", hint="take another name, or replace it with --force", path=file)
    write_atomic(file, source.text.encode())
    return Output({"recipe": source.label, "file": str(file)}, lambda: headline(str(file), f"copied {source.label}"))


@app.command("check")
@command("recipe check")
def check(
    store: Store,
    recipe: RecipeArgument,
    system: SystemOption = None,
) -> Output:
    """Name every fault of a recipe with its file and line; exit with 1 where there is one."""
    from fer_cli.systems.recipe_sources import find_source

    source = find_source(recipe, store)
    faults = source.faults(system)
    name = source.of(system)

    def show() -> None:
        for fault in faults:
            say(str(fault))
        if not faults:
            headline(source.label, f"a sound recipe of {name}")

    def fail() -> None:
        if faults:
            raise FerError(f"{source.label}: {counted(len(faults), 'fault')}", hint="correct them and check again")

    entries = [{"line": fault.line, "what": fault.what, "hint": fault.hint} for fault in faults]
    return Output({"recipe": source.label, "system": name, "path": str(source.path), "faults": entries}, show, fail)


@app.command("diff")
@command("recipe diff")
def diff(
    store: Store,
    first: RecipeArgument,
    second: RecipeArgument,
    system: SystemOption = None,
) -> Output:
    """List the settings in which two recipes differ; what they say of themselves does not count."""
    from fer_cli.core.toml_text import LEFT_OUT, KeyDifference, differences, toml_value
    from fer_cli.systems.recipe_sources import find_source

    sources = [find_source(recipe, store) for recipe in (first, second)]
    systems = [source.of(system) for source in sources]
    found = differences(*(source.read(name) for source, name in zip(sources, systems, strict=True)))
    if systems[0] != systems[1]:
        found.insert(0, KeyDifference("system", toml_value(systems[0]), toml_value(systems[1])))
    labels = [source.label for source in sources]

    def show() -> None:
        if not found:
            say(f"{labels[0]} and {labels[1]} have the same settings")
            return
        rows = [[one.key, one.first or LEFT_OUT, one.second or LEFT_OUT] for one in found]
        columns = dict.fromkeys(("key", "first", "second"), "left")
        print_table(columns, rows, f"first {labels[0]}, second {labels[1]}", wrap=["first", "second"])

    entries = [{"key": one.key, "first": one.first, "second": one.second} for one in found]
    return Output({"first": labels[0], "second": labels[1], "differences": entries}, show)
