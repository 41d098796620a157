"""Stage ``plot``: an artifact in, one picture out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.payload import read_json
from fer_cli.artifacts.store import Artifact, Store
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.progress import note
from fer_cli.datasets.dataset import open_dataset
from fer_cli.models.features import open_features

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TSNE_ITEMS: Final = 3000
"""t-SNE of more items takes minutes and shows no more; a stratified draw of this many is embedded."""


def plot(*, store: Store, what: str, draw: Callable[[Store], tuple[str, Figure]], out: Path | None) -> Path:
    """Draw one picture and return where it is.

    Args:
        store: where artifacts are.
        what: the plot's name, for the default file name.
        draw: one of this module's functions with its options bound; returns the subject's name and the figure.
        out: the file; ``./fer-<what>-<name>.png`` where it is None. Its suffix chooses PNG, SVG or PDF.
    """
    from fer_cli.reporting.style import FORMATS, save_figure

    if out is not None and out.suffix.lower() not in FORMATS:  # before minutes of work, not after
        raise UsageError(f"--out {out} has no suffix of a picture", hint=f"end it in one of {', '.join(FORMATS)}")
    name, figure = draw(store)
    return save_figure(figure, out or Path(f"fer-{what}-{name}.png"))


def confusion(store: Store, *, reference: str | None, predictor: str | None) -> tuple[str, Figure]:
    """Draw the confusion matrix of an evaluation, of its chosen predictor or of another one."""
    from fer_cli.reporting.confusion import confusion_figure

    evaluation = store.find(reference, ["evaluation"])
    metrics = read_json(evaluation.file("metrics.json"))
    chosen = predictor or metrics["chosen"]
    if chosen not in metrics["predictors"]:
        raise FerError(
            f"{evaluation.reference} has no predictor {chosen!r}", hint=f"it has {', '.join(metrics['predictors'])}"
        )
    scores = metrics["predictors"][chosen]
    accuracy, balanced = scores["accuracy"], scores["balanced_accuracy"]
    subtitle = (
        f"{chosen} on {metrics['dataset']} {metrics['split']}, {scores['n']:,} images; accuracy "
        f"{_percent(accuracy)}, balanced {_percent(balanced)}"
    )
    return evaluation.name, confusion_figure(scores["confusion"], scores["classes"], "Confusion matrix", subtitle)


def tsne(
    store: Store, *, reference: str | None, split: str | None, perplexity: float, seed: int, device: str = "auto"
) -> tuple[str, Figure]:
    """Draw a t-SNE embedding of one split: of a features artifact's original view, or of what a model made of it."""
    from fer_cli.reporting.tsne import stratified_subsample, tsne_backend, tsne_embedding, tsne_figure

    artifact = store.find(reference, ["features", "model"])
    if artifact.kind == "model":
        from fer_cli.stages.plot_models import tsne_of_model

        return tsne_of_model(store, artifact, split=split, perplexity=perplexity, seed=seed, device=device)
    dataset = open_dataset(open_parent(store, artifact, "dataset"))
    features = open_features(artifact, len(dataset.images))
    split = split or dataset.split_names[-1]
    rows = dataset.rows(split)
    rows = rows[stratified_subsample(dataset.labels[rows], TSNE_ITEMS, seed)]
    note(f"embedding {len(rows):,} images of the {split} split with {tsne_backend()}")
    points = tsne_embedding(features.rows("original", rows), seed=seed, perplexity=perplexity)
    subtitle = f"t-SNE, perplexity {perplexity:g}; {len(rows):,} of the {split} split"
    figure = tsne_figure(points, dataset.labels[rows], dataset.classes, f"Features of {artifact.name}", subtitle)
    return artifact.name, figure


def classes(store: Store, *, reference: str | None, faces: int) -> tuple[str, Figure]:
    """Draw how many images each class of a data set has in each split, with a few faces of each."""
    from fer_cli.reporting.classes import classes_figure

    artifact = store.find(reference, ["dataset"])
    dataset = open_dataset(artifact)
    generator = np.random.default_rng(0)
    examples = {}
    for number, name in enumerate(dataset.classes):
        rows = np.flatnonzero(dataset.labels == number)
        chosen = np.sort(generator.choice(rows, size=min(faces, len(rows)), replace=False))
        examples[name] = [np.asarray(dataset.images[row]) for row in chosen]
    protocol = artifact.manifest.protocol
    figure = classes_figure(
        artifact.manifest.summary["classes"],
        examples if faces else None,
        f"Classes of {artifact.name}",
        str(protocol["label_rule"]),
    )
    return artifact.name, figure


def hierarchy(store: Store, *, reference: str | None) -> tuple[str, Figure]:
    """Draw the tree of expression, part and action unit of an ahm artifact, of a TOML file, or of fer's own."""
    from fer_cli.reporting.hierarchy import hierarchy_figure
    from fer_cli.systems.ahm.hierarchy import default_hierarchy, load_hierarchy

    if reference == "default":
        return "default", hierarchy_figure(default_hierarchy())
    if reference is not None and Path(reference).suffix == ".toml":
        return Path(reference).stem, hierarchy_figure(load_hierarchy(Path(reference)))
    artifact = _newest_ahm(store, reference)
    if artifact is None:
        note("no ahm artifact yet: this is fer's own hierarchy")
        return "default", hierarchy_figure(default_hierarchy())
    read = load_hierarchy(artifact.file("hierarchy.toml"))
    return artifact.name, hierarchy_figure(read, classes=artifact.manifest.protocol["classes"])


def _newest_ahm(store: Store, reference: str | None) -> Artifact | None:
    if reference is None and not store.directories(["ahm"]):
        return None
    return store.find(reference, ["ahm"])


def _percent(estimate: dict[str, float | None]) -> str:
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "undefined"
    between = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * value:.1f}%{between}"
