"""Pictures of trained models: training curves, Grad-CAM, and t-SNE of what the last layer takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.store import Artifact, Store
from fer_cli.core import machine
from fer_cli.core.progress import note
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.fold_view import dataset_of
from fer_cli.evaluation.predictors.model import models_of, read_history

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKED_AT: Final = 400
"""Images of each class that examples are taken from."""
EMBEDDED: Final = 2000
"""Images whose features are embedded: t-SNE of more takes minutes and shows no more."""


def curves(store: Store, *, reference: str | None) -> tuple[str, Figure]:
    """Draw the training of a model, or of all models of a study."""
    from fer_cli.reporting.curves import curves_figure

    artifact = store.find(reference, ["model", "study"])
    models = models_of(store, artifact)
    first = next(iter(models.values()))
    metric = first.manifest.config["train"]["select"]
    figure = curves_figure(
        {name: read_history(model) for name, model in models.items()},
        chosen={name: model.manifest.summary["epoch"] for name, model in models.items()},
        metric=metric if metric in {"accuracy", "balanced_accuracy", "macro_f1"} else "balanced_accuracy",
        title=f"Training of {artifact.name}",
        subtitle=_subtitle(first, first.manifest.inputs["dataset"].name),
    )
    return artifact.name, figure


def gradcam(
    store: Store, *, reference: str | None, split: str | None, each: int, seed: int, device: str
) -> tuple[str, Figure]:
    """Draw where a model looks: for each class the most confident right and wrong answers among some images.

    Args:
        store: where artifacts are.
        reference: of a model; the newest where it is None.
        split: whose images; test where it is None, else validation.
        each: right ones of each class, and as many wrong ones.
        seed: of the draw of images, at most :data:`LOOKED_AT` of each class.
        device: torch's name of the device, or ``auto``.

    Raises:
        FerError: the network has no feature map to look at.
    """
    from fer_cli.evaluation.explain import answers, examples
    from fer_cli.reporting.gradcam import gradcam_figure
    from fer_cli.systems.trained import map_layer, map_side, open_trained

    machine.tune_allocator()
    artifact = store.find(reference, ["model"])
    dataset, split, every = _images(store, artifact, split)
    model = open_trained(artifact, machine.device_name(device))
    layer = map_layer(model)
    generator = np.random.default_rng(seed)
    of_class = [every[dataset.labels[every] == label] for label in range(len(dataset.classes))]
    rows = np.concatenate([generator.permutation(rows)[:LOOKED_AT] for rows in of_class])
    probabilities, _ = answers(model, dataset, rows)
    shown = examples(model, layer, dataset, rows, probabilities, each)
    note(f"the most confident of at most {LOOKED_AT} images of each class of the {split} split")
    side = map_side(model, layer)
    subtitle = _subtitle(artifact, f"{dataset.artifact.name} {split}; a map of {side} x {side}")
    return artifact.name, gradcam_figure(shown, title="Where the model looks", subtitle=subtitle)


def tsne_of_model(
    store: Store, artifact: Artifact, *, split: str | None, perplexity: float, seed: int, device: str
) -> tuple[str, Figure]:
    """Draw a t-SNE embedding of what a model's last layer takes, wrong answers ringed.

    Args:
        store: where artifacts are.
        artifact: the model.
        split: whose images, at most :data:`EMBEDDED`; test where it is None, else validation.
        perplexity: the effective number of neighbours.
        seed: of the draw and of the embedding.
        device: torch's name of the device, or ``auto``.

    Raises:
        FerError: too few images for the perplexity, or features without any difference.
    """
    from fer_cli.evaluation.explain import answers
    from fer_cli.reporting.tsne import stratified_subsample, tsne_backend, tsne_embedding, tsne_figure
    from fer_cli.systems.trained import open_trained

    machine.tune_allocator()
    dataset, split, rows = _images(store, artifact, split)
    rows = rows[stratified_subsample(dataset.labels[rows], EMBEDDED, seed)]
    probabilities, features = answers(open_trained(artifact, machine.device_name(device)), dataset, rows)
    note(f"embedding {len(rows):,} images of the {split} split with {tsne_backend()}")
    points = tsne_embedding(features, seed=seed, perplexity=perplexity)
    labels = dataset.labels[rows]
    wrong = probabilities.argmax(axis=1) != labels
    config = artifact.manifest.config
    subtitle = (
        f"{config['system']}, {config['model']['backbone']}: what the last layer takes; t-SNE, perplexity "
        f"{perplexity:g}; {len(rows):,} of the {split} split"
    )
    title = f"Features of {artifact.name}"
    return artifact.name, tsne_figure(points, labels, dataset.classes, title, subtitle, wrong=wrong)


def _images(store: Store, model: Artifact, split: str | None) -> tuple[Dataset, str, NDArray[np.int64]]:
    """Return the data set of a model, the split to show and its rows."""
    dataset = dataset_of(store, model)
    split = split or ("test" if "test" in dataset.split_names else "validation")
    return dataset, split, dataset.rows(split)


def _subtitle(model: Artifact, what: str) -> str:
    config = model.manifest.config
    return f"{config['system']}, {config['model']['backbone']}, on {what}"
