"""Plot ``tsne``: how features separate the classes."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelConfig
from fer_cli.core import machine
from fer_cli.core.progress import note
from fer_cli.datasets.dataset import open_dataset
from fer_cli.datasets.sampling import stratified_subsample
from fer_cli.models.features import open_features
from fer_cli.plots.models import DeviceOption, SeedOption, SplitOption, first_run, run_of, split_of
from fer_cli.plots.registry import Picture
from fer_cli.systems.registry import describe

FEATURES: Final = 3000
"""Images of a features artifact that are embedded: t-SNE of more takes minutes and shows no more."""
PREDICTED: Final = 2000
"""Images that a model is run on."""


def draw(
    store: Store,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="FEATURES|MODEL", help="Features, a model, or a study: its first run. [default: the newest]"
        ),
    ] = None,
    split: SplitOption = None,
    perplexity: Annotated[
        float | None, typer.Option(help="Effective number of neighbours. [default: 30, less where images are few]")
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
) -> Picture:
    """Features in two dimensions, a colour a class: extracted ones, or a model's own with its wrong answers ringed."""
    from fer_cli.reporting.tsne import fitting_perplexity, tsne_backend, tsne_embedding, tsne_figure

    named = store.find(source, ["features", "model", "study"])
    artifact = first_run(store, named)
    if artifact.kind == "model":
        from fer_cli.evaluation.explain import predict_with_features
        from fer_cli.systems.trained import open_trained

        dataset, split, rows = split_of(store, artifact, split)
        rows = rows[stratified_subsample(dataset.labels[rows], PREDICTED, seed)]
        machine.tune_allocator()
        trained = open_trained(artifact, machine.device_name(device))
        probabilities, features = predict_with_features(trained, dataset, rows)
        wrong = probabilities.argmax(axis=1) != dataset.labels[rows]
        described = f"{run_of(named, artifact)}{describe(ModelConfig.of(artifact))}: input of the last layer; "
    else:
        dataset = open_dataset(open_parent(store, artifact, "dataset"))
        split = split or dataset.split_names[-1]
        rows = dataset.rows(split)
        rows = rows[stratified_subsample(dataset.labels[rows], FEATURES, seed)]
        features = open_features(artifact, dataset.artifact).rows("original", rows)
        wrong, described = None, ""
    note(f"embedding {len(rows):,} images of the {split} split with {tsne_backend()}")
    perplexity = fitting_perplexity(len(rows)) if perplexity is None else perplexity
    points = tsne_embedding(features, seed=seed, perplexity=perplexity)
    subtitle = f"{described}t-SNE, perplexity {perplexity:.3g}; {len(rows):,} images of the {split} split"
    title = f"Features of {artifact.name}"
    return Picture(
        artifact.name,
        tsne_figure(points, dataset.labels[rows], dataset.classes, title, subtitle, wrong=wrong),
        artifact.version,
    )
