"""Plot ``gradcam``: where a trained model looks."""

from __future__ import annotations

from typing import Annotated, Final

import numpy as np
import typer

from fer_cli.artifacts.store import Store
from fer_cli.core import machine
from fer_cli.core.progress import note
from fer_cli.plots.models import (
    DeviceOption,
    ModelArgument,
    SeedOption,
    SplitOption,
    described,
    first_run,
    run_of,
    split_of,
)
from fer_cli.plots.registry import Picture

CANDIDATES: Final = 400
"""Images of each class that examples are taken from."""


def draw(
    store: Store,
    model: ModelArgument = None,
    split: SplitOption = None,
    each: Annotated[int, typer.Option(min=1, max=8, help="Right answers of each class, and as many wrong ones.")] = 3,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
) -> Picture:
    """Where a model looks (Grad-CAM): the most confident right and wrong answers of each class."""
    named = store.find(model, ["model", "study"])
    artifact = first_run(store, named)
    from fer_cli.evaluation.explain import examples, predict_with_features
    from fer_cli.reporting.gradcam import gradcam_figure
    from fer_cli.systems.trained import map_layer, map_side, open_trained

    machine.tune_allocator()
    dataset, split, every = split_of(store, artifact, split)
    trained = open_trained(artifact, machine.device_name(device))
    layer = map_layer(artifact, trained)
    generator = np.random.default_rng(seed)
    by_class = [every[dataset.labels[every] == label] for label in range(len(dataset.classes))]
    rows = np.concatenate([generator.permutation(rows)[:CANDIDATES] for rows in by_class])
    probabilities, _ = predict_with_features(trained, dataset, rows)
    shown = examples(trained, layer, dataset, rows, probabilities, each)
    note(f"the most confident of at most {CANDIDATES} images of each class of the {split} split")
    side = map_side(trained, layer)
    subtitle = run_of(named, artifact) + described(
        artifact, f"{dataset.artifact.name} {split}; maps of {side} x {side}"
    )
    return Picture(artifact.name, gradcam_figure(shown, "Where the model looks", subtitle), artifact.version)
