"""``fer train``: one subcommand a system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fer_cli.cli.common import DebugOption, JsonOption, console, print_json, print_pairs, print_table

app = typer.Typer(help="Train a network from a recipe.", no_args_is_help=True, rich_markup_mode=None)


@app.command("parser")
def parser(
    recipe: Annotated[Path, typer.Argument(help="A TOML file, such as recipes/compact-parser/augmented.toml.")],
    source: Annotated[
        Path, typer.Option(help="A tar in CelebAMask-HQ's layout: images/ID.jpg, masks/ID.png with its own class ids.")
    ],
    out: Annotated[Path, typer.Option(help="The weights to write, .safetensors.")],
    start: Annotated[
        Path | None, typer.Option(help="Weights of a compact parser to go on from. [default: the recipe's encoder]")
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The compact face parser, for `fer parse-masks --parser compact --weights FILE`."""
    from fer_cli.labels import REGIONS
    from fer_cli.stages.train_parser import scores_table, train_parser

    trained = train_parser(recipe=recipe, source=source, out=out, start=start)
    rows = scores_table(trained.scores)
    if json:
        print_json(
            "train parser",
            out=str(trained.path),
            sha256=trained.sha256,
            kept_aside=trained.aside,
            seconds=round(trained.seconds, 1),
            scores=rows,
        )
        return
    console().print(f"[bold]{trained.path}[/bold]  written", highlight=False, soft_wrap=True)
    print_pairs([("sha256", trained.sha256), ("time", f"{trained.seconds / 60:.0f} min")])
    columns = {"px": "right", "": "left", "mIoU": "right", **dict.fromkeys(REGIONS, "right")}
    cells = [[str(row["px"]), row["colour"], *(f"{row[name]:.3f}" for name in ("miou", *REGIONS))] for row in rows]
    print_table(columns, cells, title=f"IoU on {trained.aside:,} faces kept aside")
