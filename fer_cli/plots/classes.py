"""Plot ``classes``: how many images each class of a data set has in each split, and what they look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from fer_cli.artifacts.protocol import DatasetProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import DatasetSummary, ModelConfig
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.fold_view import dataset_of
from fer_cli.plots.registry import Picture
from fer_cli.reporting.lettering import DOTS, LONGEST, class_names, fitted
from fer_cli.reporting.style import GRID, MUTED, WIDE, bare, class_colour, heading, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(
    store: Store,
    dataset: Annotated[
        str | None,
        typer.Argument(
            help="The data set, or a model: its training images before and after data.limit and data.oversample. "
            "[default: the newest data set]"
        ),
    ] = None,
    faces: Annotated[int, typer.Option(min=0, max=6, help="Example faces of each class; 0 for none.")] = 6,
) -> Picture:
    """How many images each class has in each split, or in the training of a model, with example faces."""
    artifact = store.find(dataset, ["dataset"] if dataset is None else ["dataset", "model"])
    opened = open_dataset(artifact) if artifact.kind == "dataset" else dataset_of(store, artifact)
    generator = np.random.default_rng(0)
    examples = {}
    for label, name in enumerate(opened.classes):
        rows = np.flatnonzero(opened.labels == label)
        chosen = np.sort(generator.choice(rows, size=min(faces, len(rows)), replace=False))
        examples[name] = [np.asarray(opened.images[row]) for row in chosen]
    if artifact.kind == "dataset":
        counts = {str(split): counts for split, counts in DatasetSummary.of(artifact).classes.items()}
    else:
        counts = training_counts(opened, ModelConfig.of(artifact).recipe["data"])
    figure = classes_figure(
        counts,
        examples if faces else None,
        f"Classes of {artifact.name}",
        DatasetProtocol.of(opened.artifact).label_rule,
    )

    def paper(inches: float) -> Figure:
        return classes_figure(counts, examples if faces and inches >= WIDE else None, paper=inches)

    return Picture(artifact.name, figure, artifact.version, paper)


def training_counts(dataset: Dataset, data: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return class -> images of the training split, and of what an epoch of a training shows of it.

    Args:
        dataset: with the splits that the training saw.
        data: the table ``data`` of its recipe.
    """
    from fer_cli.training.inputs import limited
    from fer_cli.training.sampler import repeated

    classes, labels, rows = dataset.classes, dataset.labels, dataset.rows("train")
    taken = limited(rows, labels[rows], data.get("limit"), seed=0)
    times = {classes.index(name): int(count) for name, count in data.get("oversample", {}).items()}
    shown = repeated(taken, labels, times) % len(labels)

    def counted(of: NDArray[np.int64]) -> dict[str, int]:
        return dict(zip(classes, np.bincount(labels[of], minlength=len(classes)).tolist(), strict=True))

    return {"train": counted(rows), "an epoch of training": counted(shown)}


def imbalance(counts: Mapping[str, int]) -> float:
    """Return the ratio of the largest class to the smallest that has items; 1 where none has."""
    held = [n for n in counts.values() if n]
    return max(held) / min(held) if held else 1.0


def classes_figure(
    counts: Mapping[str, Mapping[str, int]],
    examples: Mapping[str, Sequence[NDArray[np.uint8]]] | None = None,
    title: str = "",
    subtitle: str = "",
    paper: float | None = None,
) -> Figure:
    """Draw bars of the class counts, a panel a split with its imbalance, and faces of each class where there are any.

    Args:
        counts: split -> class -> number of items; every split names the same classes in the same order.
        examples: class -> images, (H, W) grey or (H, W, 3) RGB uint8; as many are shown as the widest class has, at
            most six.
        title: one line.
        subtitle: one line under it.
        paper: inches of a paper's width: letters of 7 points; of a column's width without the shares.

    Raises:
        ValueError: splits that name different classes, or no split.
    """
    splits = list(counts)
    if not splits or len({tuple(counts[split]) for split in splits}) != 1:
        raise ValueError("every split must name the same classes in the same order")
    classes = list(counts[splits[0]])
    shown = min(6, max((len(faces) for faces in examples.values()), default=0)) if examples else 0
    size = 9.5 if paper is None else 7.0
    small, roomy = min(size, 8.0), paper is None or paper >= WIDE
    names, widest = class_names(classes, size, LONGEST * size / 9.5)
    row, left, top, bottom, panel, gap = 0.52, max(1.15, widest + 0.35), 1.42, 0.3, 2.35, 0.35
    if paper is not None:
        row, left, top, bottom, gap = 0.2, widest + 0.12, 0.45, 0.05, 0.1
        panel = (paper - left - shown * row - (0.1 if shown else 0)) / len(splits) - gap
    faces_width = shown * row + (0.3 if shown else 0)
    with styled():
        figure = new_figure(
            max(left + len(splits) * (panel + gap) + faces_width + 0.2, 5.6) if paper is None else paper,
            max(top + len(classes) * row + bottom, 2.4 if paper is None else 0),
        )
        width, height = figure.get_size_inches()
        base = height - top - len(classes) * row
        for k, split in enumerate(splits):
            x = left + k * (panel + gap)
            axes = figure.add_axes((x / width, base / height, panel / width, len(classes) * row / height))
            values = [counts[split][name] for name in classes]
            total, largest = sum(values), max(*values, 1)
            colours = [class_colour(name, position) for position, name in enumerate(classes)]
            axes.barh(range(len(classes)), values, color=colours, height=0.62, zorder=2)
            for position, value in enumerate(values):
                percent = f"  {value / total:.1%}" if total and roomy else ""
                axes.annotate(
                    f"{value:,}{percent}",
                    (value, position),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=small,
                )
            # Room for the numbers beyond the longest bar.
            axes.set_xlim(0, largest * 1.62)
            axes.set_ylim(len(classes) - 0.5, -0.5)
            axes.set_xticks([])
            axes.set_yticks(range(len(classes)), names if k == 0 else [""] * len(classes), fontsize=size)
            bare(axes, keep=("left",))
            axes.spines["left"].set_color(GRID)
            label_y = 1 - (top - (0.34 if paper is None else 0.2)) / height
            part = fitted(split, DOTS * panel, size, "bold")
            figure.text(x / width, label_y, part, fontweight="bold", fontsize=size, va="bottom")
            spread = f", imbalance {imbalance(counts[split]):.1f} : 1" if roomy else ""
            figure.text(
                x / width,
                label_y - 0.03 / height,
                f"{total:,} items{spread}",
                fontsize=small,
                color=MUTED,
                va="top",
            )
        for position, name in enumerate(classes):
            for k, image in enumerate((examples or {}).get(name, ())[:shown]):
                x = left + len(splits) * (panel + gap) + 0.05 + k * row
                y = base + (len(classes) - 1 - position) * row
                axes = figure.add_axes(
                    ((x + 0.02) / width, (y + 0.02) / height, (row - 0.04) / width, (row - 0.04) / height)
                )
                axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
                axes.set_axis_off()
        if paper is None:
            heading(figure, title, subtitle, left=0.28, top=0.25)
    return figure
