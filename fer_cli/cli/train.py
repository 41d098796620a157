"""``fer train``: one subcommand a system, and the face parser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from fer_cli.cli.common import (
    console,
    listed,
    open_store,
    print_json,
    print_pairs,
    print_result,
    print_table,
    summary_of,
)
from fer_cli.cli.options import SEED_MAX, DebugOption, ForceOption, JsonOption, StoreOption
from fer_cli.core.errors import UsageError

if TYPE_CHECKING:
    from fer_cli.stages.train import TrainedResult

app = typer.Typer(help="Train a network from a recipe.", no_args_is_help=True, rich_markup_mode=None)


DatasetArgument = Annotated[str | None, typer.Argument(help="The data set. [default: the newest]")]
MasksOption = Annotated[
    str | None, typer.Option(help="The region maps that it learns from. [default: the newest of the data set]")
]
RecipeOption = Annotated[Path | None, typer.Option(help="A TOML file. [default: the system's own]")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE: replaces one of the recipe's, such as optim.lr=1e-4.")
]
SeedsOption = Annotated[str, typer.Option(help="One model a seed; several are put together as a study.")]
FoldOption = Annotated[
    str | None,
    typer.Option(
        "--fold",
        "--folds",
        help="Of a data set in folds: the fold to test, from 0, or all: a model each, put together as a study. "
        "[default: the data set's own splits]",
    ),
]
SelectOnOption = Annotated[
    str, typer.Option("--select-on", help="validation, or test: for the record, no such number is sound.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=0, max=64, help="Threads that prepare batches ahead; no result changes. [default: 2 with a GPU]"),
]
BoardOption = Annotated[Path | None, typer.Option("--tensorboard", help="A folder to write for TensorBoard as well.")]
PrintOption = Annotated[bool, typer.Option("--print-config", help="Print the recipe as it would be run, and exit.")]


SYSTEMS: Final = {
    "baseline": "Any timm backbone under a linear classifier: what every other system is measured against.",
    "conv-cut": "Conv-cut (Nan et al.): a truncated frozen backbone, a detail block, self-attention.",
    "psa-resnet": "PSA-ResNet (Gu & Jin): pyramid split attention in a ResNet50, joint softmax and island loss.",
    "slfer": "SLFER (Lv et al.): expression learned beside face regions, by the masks of `fer parse-masks`.",
}


def _command(system: str) -> Callable[..., None]:
    def command(
        dataset: DatasetArgument = None,
        recipe: RecipeOption = None,
        set_: SetOption = None,
        seeds: SeedsOption = "0",
        fold: FoldOption = None,
        select_on: SelectOnOption = "validation",
        device: DeviceOption = "auto",
        workers: WorkersOption = None,
        tensorboard: BoardOption = None,
        print_config: PrintOption = False,
        store: StoreOption = None,
        force: ForceOption = False,
        json: JsonOption = False,
        debug: DebugOption = False,
    ) -> None:
        how = {"select_on": select_on, "device": device, "workers": workers, "tensorboard": tensorboard, "force": force}
        _train(system, dataset, recipe, set_ or [], seeds, fold, print_config, store, json, **how)

    return command


def _slfer(
    dataset: DatasetArgument = None,
    masks: MasksOption = None,
    recipe: RecipeOption = None,
    set_: SetOption = None,
    seeds: SeedsOption = "0",
    fold: FoldOption = None,
    select_on: SelectOnOption = "validation",
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    tensorboard: BoardOption = None,
    print_config: PrintOption = False,
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    how = {"select_on": select_on, "device": device, "workers": workers, "tensorboard": tensorboard, "force": force}
    _train("slfer", dataset, recipe, set_ or [], seeds, fold, print_config, store, json, masks=masks, **how)


for _system, _help in SYSTEMS.items():
    app.command(_system, help=_help)(_slfer if _system == "slfer" else _command(_system))


def _train(
    system: str,
    dataset: str | None,
    recipe: Path | None,
    changes: list[str],
    seeds: str,
    fold: str | None,
    print_config: bool,
    store: Path | None,
    as_json: bool,
    **how: Any,  # noqa: ANN401 - further arguments of the stage
) -> None:
    from fer_cli.stages.train import recipe_of, train

    if print_config:
        read = recipe_of(system, recipe, changes)
        print_json(f"train {system}", recipe=read.model_dump(mode="json"))
        return
    trained = train(
        store=open_store(store),
        system=system,
        dataset=dataset,
        recipe=recipe,
        changes=changes,
        seeds=_seeds(seeds),
        fold=_fold(fold),
        **how,
    )
    _print_trained(system, trained, as_json=as_json)


def _seeds(text: str) -> list[int]:
    items = listed(text, "--seeds")
    if not all(item.isdecimal() and int(item) <= SEED_MAX for item in items):
        raise UsageError(f"--seeds {text!r} are no numbers", hint=f"write them as 0,1,2, each at most {SEED_MAX}")
    return [int(item) for item in items]


def _fold(text: str | None) -> int | Literal["all"] | None:
    if text is None:
        return None
    if text == "all":
        return "all"
    if not (text.isascii() and text.isdecimal() and len(text) <= 4):
        raise UsageError(f"--fold {text!r} is no fold", hint="write its number, from 0, or all")
    return int(text)


def _print_trained(system: str, trained: TrainedResult, *, as_json: bool) -> None:
    whole = trained.whole
    lines = [("", str(summary_of(one)["headline"])) for one in trained.models]
    if trained.study is None:
        measured = whole.artifact.manifest.measured
        lines.append(("time", _time(measured)))
    print_result(f"train {system}", whole, lines, as_json=as_json)


def _time(measured: dict[str, Any]) -> str:
    rate = measured["images_per_second"]
    return f"{measured['seconds'] / 60:.1f} min{'' if rate is None else f', {rate:,.0f} images/s'}"


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
    from fer_cli.core.labels import REGIONS
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
