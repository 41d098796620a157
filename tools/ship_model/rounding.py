"""A model as it comes with fer: its convolutions and matrices in half precision, the rest in single."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import save

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import TrainingProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelSummary
from fer_cli.artifacts.work import Plan
from fer_cli.core.errors import FerError
from fer_cli.datasets.fold_view import dataset_of
from fer_cli.models.trained import WEIGHTS
from fer_cli.prediction.model import open_model
from fer_cli.training.history import HISTORY
from fer_cli.weights.files import WeightsFile, load_tensors

REVISION = 1
MOST_CHANGED = 0.002
"""Share of the validation images that may get another class: half precision is no reason for more."""


@dataclass(frozen=True, slots=True)
class Rounded:
    """The model that comes with fer, and what half precision changed on the validation images.

    Attributes:
        artifact: it.
        images: how many there are.
        changed: of them, those that got another class.
        largest: difference between two probabilities.
    """

    artifact: Artifact
    images: int
    changed: int
    largest: float


def halved(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a network's tensors with those of two and more axes in half precision.

    Raises:
        FerError: a value is too large for it.
    """
    rounded = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in tensors.items()}
    if endless := sorted(name for name, tensor in rounded.items() if bool(tensor.isinf().any())):
        raise FerError(f"{endless[0]} holds values that half precision cannot", hint="train with weight decay")
    return rounded


def round_model(store: Store, reference: str, *, name: str, out: Store, device: str = "auto") -> Rounded:
    """Write a trained model into the store of those that come with fer.

    Args:
        store: where the model and its dataset are.
        reference: of the model.
        name: that it gets.
        out: the store it goes to.
        device: on which both are compared.

    Raises:
        FerError: there is no such model, its dataset is gone, or half precision changes too many of its answers.
    """
    model = store.find(reference, ["model"])
    path = model.file(WEIGHTS)
    tensors = load_tensors(WeightsFile(path, "artifact", model.reference, "artifact"))
    inputs = {**model.manifest.inputs, "model": model.as_input()}
    plan = Plan("model", name, "ship", REVISION, model.manifest.config, inputs, model.manifest.seeds)
    with out.make(plan) as work:
        if (artifact := work.committed) is None:
            work.write(WEIGHTS, save(halved(tensors)))
            work.write(HISTORY, model.file(HISTORY).read_bytes())
            artifact = work.commit(
                summary=ModelSummary.of(model),
                protocol=TrainingProtocol.of(model),
                warnings=model.manifest.warnings,
            )
    dataset = dataset_of(store, model)
    images = dataset.images[dataset.rows("validation")]
    before, after = (
        open_model(store, one, device).predict(np.asarray(images), calibrated=False) for one in (model, artifact)
    )
    changed = sum(old != new for old, new in zip(before.labels, after.labels, strict=True))
    largest = float(np.abs(before.probabilities - after.probabilities).max())
    if changed > MOST_CHANGED * len(images):
        raise FerError(f"half precision changes {changed} of {len(images)} answers", hint="look at the weights")
    return Rounded(artifact, len(images), changed, largest)
