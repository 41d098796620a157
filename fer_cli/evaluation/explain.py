"""Where a trained model looks (Grad-CAM) and how it separates the classes (t-SNE), for plots and for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.core.errors import FerError
from fer_cli.core.progress import track
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.sampling import stratified_subsample
from fer_cli.reporting.gradcam import Example, Row, gradcam_figure
from fer_cli.reporting.report import FigureSection
from fer_cli.reporting.tsne import tsne_embedding, tsne_figure

if TYPE_CHECKING:
    from torch import nn

    from fer_cli.evaluation.predictor import EvaluationResult, Rows
    from fer_cli.models.trained import TrainedModel

BATCH: Final = 16
EACH: Final = 2
"""Right examples of each class in a report, and as many wrong ones."""
EMBEDDED: Final = 1000
"""Images in a report's embedding: more take longer than the report may."""
PERPLEXITY: Final = 30.0
GRADCAM_NOTE: Final = (
    "the most confident right and wrong answers of each true class, with the prediction and its probability. Colour is "
    "evidence for the predicted class (Grad-CAM), relative to the maximum in the image. The map has {side} x {side} "
    "cells: what looks finer is interpolated."
)
FEWEST: Final = 5
"""Images that t-SNE can embed."""


def predict_with_features(
    model: TrainedModel, dataset: Dataset, rows: Rows
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Run a model on images: one at a time where it mixes its batch.

    Returns:
        Probabilities (n, C), and the inputs of its last linear layer, (n, d).
    """
    import torch

    from fer_cli.inference.embedding import last_linear, logits_and_features
    from fer_cli.models.batches import batches, load_images

    device, layer = next(model.network.parameters()).device, last_linear(model.network)
    size = 1 if model.mixes_batch else BATCH
    shares, inputs = [], []

    def forward(batch: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        x = load_images(dataset.images, batch, model.preprocessing, device)
        return logits_and_features(model.network, layer, x)

    with track("predict", len(rows)) as advance:
        for batch, (logits, features) in batches(forward, rows, size):
            shares.append(torch.softmax(logits.double(), 1).cpu().numpy())
            inputs.append(features.float().cpu().numpy())
            advance(len(batch))
    return np.concatenate(shares), np.concatenate(inputs)


def examples(
    model: TrainedModel,
    layer: nn.Module,
    dataset: Dataset,
    rows: Rows,
    probabilities: NDArray[np.float64],
    each: int,
) -> list[Row]:
    """Pick the most confident right and wrong answers of each class and compute where the model looked (Grad-CAM).

    Args:
        model: the model.
        layer: whose maps are shown, as :func:`fer_cli.systems.trained.map_layer` finds it.
        dataset: of the images.
        rows: (n,) of the dataset, those to pick from.
        probabilities: (n, C), what the model answered, over the dataset's classes.
        each: right ones of each class, and as many wrong ones.
    """
    import torch

    from fer_cli.models.batches import batches, load_images
    from fer_cli.models.gradcam import gradcam

    true, predicted = dataset.labels[rows], probabilities.argmax(axis=1)
    outputs = np.array([model.classes.index(name) for name in dataset.classes])

    def picked(label: int, *, right: bool) -> NDArray[np.int64]:
        candidates = np.flatnonzero((true == label) & ((predicted == true) == right))
        return candidates[np.argsort(-probabilities[candidates, predicted[candidates]], kind="stable")][:each].astype(
            np.int64
        )

    parts = [(picked(label, right=True), picked(label, right=False)) for label in range(len(dataset.classes))]
    items = np.concatenate([part for both in parts for part in both])
    device = next(model.network.parameters()).device
    size = 1 if model.mixes_batch else BATCH
    shown: dict[int, Example] = {}

    def forward(batch: Rows) -> torch.Tensor:
        x = load_images(dataset.images, rows[batch], model.preprocessing, device)
        return gradcam(model.network, layer, x, torch.from_numpy(outputs[predicted[batch]]).to(device))

    with track("grad-cam", len(items)) as advance:
        for batch, maps in batches(forward, items, size, gradients=True):
            images = dataset.images[rows[batch]]
            for item, image, heatmap in zip(batch, images, maps.cpu().numpy(), strict=True):
                guess = int(predicted[item])
                picture = model.preprocessing.seen(image)
                shown[item] = Example(picture, heatmap, dataset.classes[guess], float(probabilities[item, guess]))
            advance(len(batch))
    return [
        Row(name, [shown[item] for item in right], [shown[item] for item in wrong])
        for name, (right, wrong) in zip(dataset.classes, parts, strict=True)
    ]


def embedded_items(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return which of the scored images, by their labels (n,), a report embeds: positions, sorted."""
    return stratified_subsample(labels, EMBEDDED, seed=0)


def explain(
    models: Mapping[str, Artifact],
    features: Mapping[str, NDArray[np.float32]],
    scored: EvaluationResult,
    which: str = "",
) -> tuple[FigureSection, ...]:
    """Return what a report shows of a trained model: the chosen one, of several the first where none of them is.

    Args:
        models: by their predictors' names.
        features: by the same names, the last linear layer's inputs for the images of :func:`embedded_items`, (m, d).
        scored: their predictions.
        which: more that tells which models these are.
    """
    name = scored.chosen if scored.chosen in models else next(iter(models))
    parts = [*([name] if len(models) > 1 else []), *([which] if which else [])]
    prefix = f"{', '.join(parts)}: ".capitalize() if parts else ""
    return _separation(features[name], name, prefix, scored), _gradcam(models[name], name, prefix, scored)


def _gradcam(artifact: Artifact, name: str, prefix: str, scored: EvaluationResult) -> FigureSection:
    from fer_cli.systems.trained import map_layer, map_side, open_trained

    id, heading = "gradcam", "Where the model looks"
    model = open_trained(artifact, str(scored.measured.device))
    try:
        layer = map_layer(artifact, model)
    except FerError as error:
        return FigureSection(id, heading, f"{prefix}no picture: {error.what}.")
    rows = examples(model, layer, scored.dataset, scored.rows, scored.probabilities[name], EACH)
    note = prefix + GRADCAM_NOTE.format(side=map_side(model, layer))
    if scored.protocol.tta != "none":
        note += " Predictions are the mean of several views, the map is of the view shown."
    if scored.predictor.mixes_batch and scored.predictor.batching != "alone":
        note += " Predictions depend on the other images of the batch, the map is of each image alone."
    title = f"Grad-CAM of right and wrong answers of {len(rows)} classes"
    return FigureSection(id, heading, note, gradcam_figure(rows), title)


def _separation(features: NDArray[np.float32], name: str, prefix: str, scored: EvaluationResult) -> FigureSection:
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    id, heading = "separation", "How the model separates the classes"
    items = embedded_items(scored.dataset.labels[scored.rows])
    labels = scored.dataset.labels[scored.rows][items]
    if len(items) < FEWEST:
        return FigureSection(id, heading, f"{prefix}no picture: {len(items)} images are too few for t-SNE.")
    perplexity = min(PERPLEXITY, (len(items) - 1) // 4)
    try:
        # So few points gain little from threads, and where the cores are taken their waiting costs ten times the work.
        with threadpool_limits(1):
            points = tsne_embedding(features, seed=0, perplexity=perplexity)
    except FerError as error:
        return FigureSection(id, heading, f"{prefix}no picture: {error.what}.")
    wrong = scored.probabilities[name][items].argmax(axis=1) != labels
    number = f"{len(items):,}" if len(items) == len(scored.rows) else f"{len(items):,} of {len(scored.rows):,}"
    note = (
        f"{prefix}inputs of the last layer for {number} images, each class by its share, in two dimensions (t-SNE, "
        f"perplexity {perplexity:.3g}): neighbours look alike to the network."
    )
    title = f"t-SNE of {len(items):,} images, {int(wrong.sum()):,} of them predicted wrongly"
    return FigureSection(id, heading, note, tsne_figure(points, labels, scored.dataset.classes, wrong=wrong), title)
