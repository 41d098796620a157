"""``fer plot``: one subcommand a picture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_cli.cli.common import SEED_MAX, DebugOption, JsonOption, StoreOption, open_store, print_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fer_cli.artifacts.store import Store

app = typer.Typer(help="Draw one picture: PNG, SVG or PDF.", no_args_is_help=True, rich_markup_mode=None)

OutOption = Annotated[
    Path | None, typer.Option("--out", help="The file; its suffix chooses the format. [default: ./fer-WHAT-NAME.png]")
]


@app.command("confusion")
def confusion(
    evaluation: Annotated[str | None, typer.Argument(help="The evaluation. [default: the newest]")] = None,
    predictor: Annotated[str | None, typer.Option(help="One of the evaluation's. [default: the chosen one]")] = None,
    out: OutOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Confusion matrix of an evaluation."""
    from fer_cli.stages import plot

    _plot("confusion", partial(plot.confusion, reference=evaluation, predictor=predictor), out, store, json)


@app.command("tsne")
def tsne(
    source: Annotated[
        str | None, typer.Argument(metavar="FEATURES|MODEL", help="Features, or a model. [default: the newest]")
    ] = None,
    split: Annotated[str | None, typer.Option(help="[default: test, else validation]")] = None,
    perplexity: Annotated[float, typer.Option(help="Effective number of neighbours.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="Of the draw and of the embedding.")] = 0,
    device: Annotated[str, typer.Option(help="Of a model: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    out: OutOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Features in two dimensions, a colour a class: kept ones, or a model's own with its wrong answers ringed."""
    from fer_cli.stages import plot

    draw = partial(plot.tsne, reference=source, split=split, perplexity=perplexity, seed=seed, device=device)
    _plot("tsne", draw, out, store, json)


@app.command("classes")
def classes(
    dataset: Annotated[str | None, typer.Argument(help="The data set. [default: the newest]")] = None,
    faces: Annotated[int, typer.Option(min=0, max=6, help="Example faces of each class; 0 for none.")] = 6,
    out: OutOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """How many images each class has in each split, with example faces."""
    from fer_cli.stages import plot

    _plot("classes", partial(plot.classes, reference=dataset, faces=faces), out, store, json)


@app.command("masks")
def masks(
    masks: Annotated[str | None, typer.Argument(help="The masks. [default: the newest]")] = None,
    view: Annotated[str, typer.Option(help="faces: the best and the most doubtful; mean: where each region is.")] = (
        "faces"
    ),
    faces: Annotated[int, typer.Option(min=1, max=60, help="How many of the best, and of the most doubtful.")] = 12,
    compare_with: Annotated[
        str | None, typer.Option(help="Other masks of the same dataset, to show both and how much they agree.")
    ] = None,
    out: OutOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Faces with their region maps laid over, or the mean region map of a data set."""
    from fer_cli.stages import plot_masks

    draw = partial(plot_masks.masks, reference=masks, where=view, faces=faces, beside=compare_with)
    _plot("masks", draw, out, store, json)


@app.command("curves")
def curves(
    model: Annotated[str | None, typer.Argument(help="The model or study. [default: the newest]")] = None,
    out: OutOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Loss, validation scores and learning rate by epoch, the chosen epoch marked."""
    from fer_cli.stages import plot_models

    _plot("curves", partial(plot_models.curves, reference=model), out, store, json)


@app.command("gradcam")
def gradcam(
    model: Annotated[str | None, typer.Argument(help="The model. [default: the newest]")] = None,
    split: Annotated[str | None, typer.Option(help="[default: test, else validation]")] = None,
    each: Annotated[int, typer.Option(min=1, max=8, help="Right ones of each class, and as many wrong ones.")] = 3,
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="Of the draw of images.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    out: OutOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Where a model looks (Grad-CAM): right and wrong answers of each class."""
    from fer_cli.stages import plot_models

    draw = partial(plot_models.gradcam, reference=model, split=split, each=each, seed=seed, device=device)
    _plot("gradcam", draw, out, store, json)


@app.command("hierarchy")
def hierarchy(
    ahm: Annotated[
        str | None, typer.Argument(help="An ahm artifact, a TOML file, or 'default'. [default: the newest]")
    ] = None,
    out: OutOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The tree of expression, face part and action unit with its weights."""
    from fer_cli.stages import plot

    _plot("hierarchy", partial(plot.hierarchy, reference=ahm), out, store, json)


def _plot(
    what: str,
    draw: Callable[[Store], tuple[str, Figure]],
    out: Path | None,
    store: Path | None,
    json: bool,
) -> None:
    from fer_cli.stages.plot import plot

    path = plot(store=open_store(store), what=what, draw=draw, out=out)
    if json:
        print_json(f"plot {what}", out=str(path))
    else:
        typer.echo(path)
