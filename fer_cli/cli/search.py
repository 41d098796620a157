"""``fer search``: settings of a recipe compared on validation, and the leaderboard of a search."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_cli.cli.common import Output, artifact_output, counted, print_pairs, print_table
from fer_cli.cli.options import DatasetArgument, DeviceOption, ForceOption, SeedOption, command
from fer_cli.cli.train import LogOption, MasksOption, SetOption, WorkersOption

if TYPE_CHECKING:
    from fer_cli.artifacts.artifact import Artifact
    from fer_cli.artifacts.store import Store

SpaceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--space",
        help="KEY=A,B,C, KEY=LOW..HIGH or KEY=log:LOW..HIGH, a range with /POINTS for a grid; or a TOML file with "
        "[search]. May be repeated.",
    ),
]


@command("search")
def search(
    store: Store,
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A system, a file, a name of 'fer recipe ls', or a model, study or search."
        ),
    ],
    dataset: DatasetArgument = None,
    space: SpaceOption = None,
    changes: SetOption = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="random; grid: all combinations; halving: random and short at first, a third goes on for three "
            "times the epochs.",
        ),
    ] = "random",
    trials: Annotated[
        int | None, typer.Option("--trials", help="Settings to draw. [default: 20; of halving 27; of a grid all]")
    ] = None,
    seed: SeedOption = 0,
    fold: Annotated[
        int | None,
        typer.Option(
            "--fold",
            min=0,
            help="Of a dataset in folds: the fold to leave as test. [default: the dataset's own splits]",
        ),
    ] = None,
    masks: MasksOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    log: LogOption = None,
    force: ForceOption = False,
    name: str | None = None,
) -> Output:
    """Try settings of a recipe and compare them on validation; the test split is never read.

    Each trial is a model that `fer train` would make: none is trained twice, and more --trials go on where fewer ended.
    The best model's protocol says how many settings it was selected from. `fer train SYSTEM --recipe search/NAME`
    trains the best recipe again, with other seeds for one.
    """
    from fer_cli.stages import search as stage

    options = {
        "--space": space,
        "--set": changes,
        "--method": method,
        "--trials": trials,
        "--seed": seed,
        "--fold": fold,
        "--masks": masks,
        "--name": name,
    }
    given = [
        word
        for option, value in options.items()
        for item in (value if isinstance(value, list) else [value])
        if item is not None
        for word in (option, str(item))
    ]
    result = stage.search(
        store=store,
        recipe=recipe,
        dataset=dataset,
        space=space or [],
        changes=changes or [],
        method=method,
        trials=trials,
        seed=seed,
        fold=fold,
        masks=masks,
        device=device,
        workers=workers,
        log=log or [],
        force=force,
        name=name,
        command=shlex.join(["fer", "search", recipe, *([] if dataset is None else [dataset]), *given]),
    )
    output = artifact_output(result, _lines(result.artifact))
    board = trials_board(result.artifact)

    def show() -> None:
        output.show()
        print_board(board)

    return replace(output, values={**output.values, "trials": board["trials"]}, show=show)


def _lines(artifact: Artifact) -> list[tuple[str, str]]:
    from fer_cli.artifacts.summaries import SearchConfig, SearchSummary

    summary, config = SearchSummary.of(artifact), SearchConfig.of(artifact)
    failed = f", {summary.failed} diverged" if summary.failed else ""
    return [
        ("", summary.headline),
        ("trials", f"{counted(summary.trials, 'setting')}, {counted(summary.trainings, 'training')}{failed}"),
        ("best model", summary.model),
        (
            "its recipe",
            f"fer train {config.system} {artifact.manifest.inputs['dataset'].name} --recipe {artifact.reference}",
        ),
    ]


def trials_board(artifact: Artifact) -> dict[str, Any]:
    """Return the leaderboard of a search as JSON values: each of the settings by its last training, the best first."""
    from fer_cli.artifacts.summaries import Measured, SearchConfig
    from fer_cli.training.trials import leaderboard, read_trials, ties

    config, trials = SearchConfig.of(artifact), read_trials(artifact)
    seconds = Measured.of(artifact).seconds_by_value or {}
    took = {
        one.number: sum(seconds.get(f"trial{one.number}-round{number}", 0.0) for number in range(one.round + 1))
        for one in trials
    }
    entries = [
        {
            "trial": one.number,
            "state": one.state,
            config.metric: one.score(config.metric),
            "epochs": one.epochs,
            "epoch": one.epoch,
            "seconds": round(took[one.number], 1),
            "values": one.values,
            "model": one.model,
            "fault": one.fault,
        }
        for one in leaderboard(trials, config.metric)
    ]
    equal = [asdict(one) for one in ties(trials, config.metric)]
    return {"metric": config.metric, "keys": list(config.space), "trials": entries, "ties": equal}


def print_board(board: Mapping[str, Any]) -> None:
    """Print the leaderboard of a search."""
    metric, keys = str(board["metric"]), list(board["keys"])
    leaves = [key.removesuffix(".name").rpartition(".")[2] for key in keys]
    heads = [leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(keys, leaves, strict=True)]
    score = metric.replace("_", " ").replace("f1", "F1")
    columns = {"trial": "right", score: "right", **dict.fromkeys(heads, "right"), "epochs": "right", "time": "right"}
    rows = []
    for one in board["trials"]:
        value = one[metric]
        shown = "diverged" if value is None else _score(metric, value)
        settings = [str(one["values"].get(key, "")).strip('"') for key in keys]
        minutes, seconds = divmod(round(one["seconds"]), 60)
        rows.append([str(one["trial"]), shown, *settings, str(one["epochs"]), f"{minutes}:{seconds:02}"])
    print_table(columns, rows, "trials by validation, the best first", wrap=heads, drop=["time", "epochs"])
    print_pairs([("tie", _tie(one, metric)) for one in board["ties"]])


def _tie(tie: Mapping[str, Any], metric: str) -> str:
    taken, equal = (", ".join(map(str, tie[key])) for key in ("taken", "trials"))
    did = f"{taken} is called the best" if tie["is_last_round"] else f"{taken} went on from round {tie['round'] + 1}"
    hint = "more validation images" + ("" if metric == "loss" else " or --set train.monitor=loss")
    return (
        f"trials {equal} are equal ({_score(metric, tie['score'])}): {did} for the lowest number alone, which says "
        f"nothing of the settings; {hint} may tell them apart"
    )


def _score(metric: str, value: float) -> str:
    return f"{value:.4f}" if metric == "loss" else f"{value:.1%}"
