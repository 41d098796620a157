"""Plot ``scarcity``: what each predictor of AHM keeps of a class as it is fitted on fewer of its images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import find_input
from fer_cli.artifacts.sections import SplitName
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import AhmConfig, DatasetSummary, EvaluationConfig
from fer_cli.core.errors import FerError
from fer_cli.evaluation.metrics_file import read_metrics
from fer_cli.plots.registry import Picture
from fer_cli.reporting.style import DASHES, GRID, LINES, MUTED, bare, heading, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Recalls = Mapping[int, tuple[float, ...]]
"""Training images of the class -> its recall in each evaluation."""
_FITTED: Final = {"ahm-semantic": 0, "ahm-visual": 1, "logistic": 2, "nearest-mean": 3}
"""Predictors that are fitted -> the number of their colour and dashes."""


def draw(
    store: Store,
    fit: Annotated[str | None, typer.Argument(help="An AHM fit with --reduce. [default: the newest]")] = None,
    of: Annotated[
        str | None, typer.Option("--class", help="The class. [default: the one that the fit has less of]")
    ] = None,
) -> Picture:
    """Recall of a class by the number of its training images, over fits with --reduce that were scored."""
    artifact = _newest(store) if fit is None else store.find(fit, ["ahm"])
    config = AhmConfig.of(artifact)
    name = of or next(iter(config.reduced or {}), None)
    if name is None:
        raise FerError(f"{artifact.reference} has all images of each class", hint="name the class with --class")
    curves: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    scored: SplitName | None = None
    data = ""
    for images, evaluation in _evaluations(store, artifact, name):
        split = EvaluationConfig.of(evaluation).split
        if scored not in {None, split}:
            continue
        scored, metrics = split, read_metrics(evaluation)
        data = metrics.dataset
        for predictor, values in metrics.predictors.items():
            recall = next(one.recall.value for one in values.per_class if one.name == name)
            curves[predictor][images].append(recall)
    if len({images for of_one in curves.values() for images in of_one}) < 2:
        raise FerError(
            f"there are no two evaluations of fits of these features with other numbers of {name}",
            hint=f"fer fit-ahm {artifact.manifest.inputs['features'].name} --reduce {name}=0.1, then fer eval",
        )
    found = {predictor: {n: tuple(of_n) for n, of_n in sorted(one.items())} for predictor, one in curves.items()}
    centring = "" if config.centring is None else f", centring {config.centring}"
    subtitle = f"{artifact.manifest.inputs['features'].name} on {data} {scored}{centring}"
    figure = scarcity_figure(found, name, f"{name.capitalize()} from fewer training images", subtitle)
    return Picture(f"{name}-{artifact.manifest.inputs['features'].name}", figure)


def _newest(store: Store) -> Artifact:
    for directory in store.directories(("ahm",)):
        artifact = store.open(directory)
        if AhmConfig.of(artifact).reduced:
            return artifact
    raise FerError("no fit with fewer images of a class", hint="make some with fer fit-ahm --reduce disgust=0.1")


def _evaluations(store: Store, fit: Artifact, name: str) -> Iterator[tuple[int, Artifact]]:
    """Yield the evaluations of fits that differ from one in the images of a class alone, with the number of these."""
    wanted, seen = _but_for_images(fit), set[str]()
    for directory in store.directories(("evaluation",)):
        evaluation = store.open(directory)
        source = evaluation.manifest.inputs.get("model")
        if source is None or source.kind != "ahm" or EvaluationConfig.of(evaluation).tta != "none":
            continue
        other = find_input(store, source)
        if other is None or source.version in seen or _but_for_images(other) != wanted:
            continue
        if evaluation.manifest.inputs["dataset"].content != other.manifest.inputs["dataset"].content:
            continue
        reduced = AhmConfig.of(other).reduced or {}
        if set(reduced) <= {name}:
            seen.add(source.version)
            yield reduced[name].images if reduced else _of_class(store, other, name), evaluation


def _but_for_images(fit: Artifact) -> object:
    config = AhmConfig.of(fit).model_copy(update={"reduced": None, "reduced_seed": None, "numerics": None})
    return config, {role: one.content for role, one in fit.manifest.inputs.items()}


def _of_class(store: Store, fit: Artifact, name: str) -> int:
    dataset = find_input(store, fit.manifest.inputs["dataset"])
    if dataset is None:
        raise FerError(f"the data set of {fit.reference} is not in this store", hint="prepare it again")
    counts = DatasetSummary.of(dataset).classes["train"]
    if name not in counts:
        raise FerError(f"{dataset.reference} has no class {name!r}", hint=f"it has {', '.join(counts)}")
    return counts[name]


def scarcity_figure(curves: Mapping[str, Recalls], name: str, title: str = "", subtitle: str = "") -> Figure:
    """Draw the recall of a class by predictor and number of its training images, which has a logarithmic axis.

    Of several evaluations at one number, those of other seeds, the mean is drawn in a band from the lowest to the
    highest. A predictor that was not fitted on these images, the network's own softmax, is a dotted line.

    Args:
        curves: predictor -> its recalls.
        name: of the class.
        title: one line.
        subtitle: one line under it.
    """
    with styled():
        figure = new_figure(6.8, 4.6)
        axes = figure.add_axes((0.1, 0.13, 0.62, 0.69))
        for predictor, recalls in curves.items():
            numbers = sorted(recalls)
            means = [100 * sum(recalls[n]) / len(recalls[n]) for n in numbers]
            if predictor not in _FITTED:
                axes.axhline(means[-1], color=MUTED, linewidth=1.2, linestyle=(0, (1, 1.5)), label=predictor)
            else:
                at = _FITTED[predictor]
                axes.plot(
                    numbers, means, color=LINES[at], linestyle=DASHES[at], marker="o", markersize=4, label=predictor
                )
                low, high = ([100 * pick(recalls[n]) for n in numbers] for pick in (min, max))
                axes.fill_between(numbers, low, high, color=LINES[at], alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        every = sorted({n for recalls in curves.values() for n in recalls})
        axes.set_xticks(every, [f"{n:,}" for n in every])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"training images of {name}")
        axes.set_ylabel(f"recall of {name}, %")
        bare(axes, keep=("left", "bottom"))
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, handlelength=2.6)
        heading(figure, title, subtitle, left=0.28, top=0.25)
    return figure
