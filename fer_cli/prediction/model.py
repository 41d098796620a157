"""Models that are used, not measured: crops of faces in, calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import TrainingProtocol, Tta
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ImageForm, ModelSummary
from fer_cli.core.errors import FerError
from fer_cli.core.progress import note, warn
from fer_cli.faces.alignment import TEMPLATE
from fer_cli.faces.framing import points_of
from fer_cli.training.ensemble import mixed

if TYPE_CHECKING:
    from PIL.Image import Image

    from fer_cli.models.trained import TrainedModel

BATCH: Final = 64
KINDS: Final = ("model", "study", "ensemble", "ahm")
SHIPPED: Final = "model/shipped-ferplus"
"""The model that is used where none is named: it comes with fer."""


class Predictions(NamedTuple):
    """Probabilities float64 (n, C) and, by name, the most probable class of each image."""

    probabilities: NDArray[np.float64]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class CropForm:
    """What a face must look like for a model: as the images that it was trained on.

    Args:
        side: of the square, px; None where any does.
        grey: without colour.
        points: (5, 2) where the five points of a face lie, as shares of the side.
    """

    side: int | None
    grey: bool
    points: NDArray[np.float64]


class Recogniser(Protocol):
    """A model that is used: a :class:`Model` of the store, or an exported file."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def crops(self) -> CropForm:
        """What it takes."""

    @property
    def reference(self) -> str:
        """What it is, for people."""

    def predict(self, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8] | Image | Path | str]) -> Predictions:
        """Classify face crops, with calibrated probabilities."""


@dataclass(frozen=True, slots=True)
class Model:
    """One or several trained networks that answer together by the mean of their calibrated probabilities.

    Args:
        networks: with the same classes.
        classes: their names.
        temperatures: of each network, what its logits are divided by: fitted on validation. 1 where it is unknown.
        crops: what it takes.
        reference: the artifact's.
        weights: of each network in the mean, which sum to 1; equal where it is None.
        temperature: of the mean, by which an ensemble is made as sure as its validation images bear out.
        tta: views of an image whose probabilities are averaged (:mod:`fer_cli.inference.views`).
    """

    networks: tuple[TrainedModel, ...]
    classes: tuple[str, ...]
    temperatures: tuple[float, ...]
    crops: CropForm
    reference: str
    weights: tuple[float, ...] | None = None
    temperature: float = 1.0
    tta: Tta = "none"

    def predict(
        self,
        images: NDArray[np.uint8] | Sequence[NDArray[np.uint8] | Image | Path | str],
        *,
        calibrated: bool = True,
    ) -> Predictions:
        """Classify face crops; faces are not searched for.

        Args:
            images: uint8 (n, H, W) or (n, H, W, 3), or a list of arrays (H, W) or (H, W, 3), PIL images or paths. A
                model that was trained on grey images sees them without colour.
            calibrated: False gives the networks' own probabilities, which are those that ``fer eval`` scores of a
                model or a study; of an ensemble it scores the calibrated ones.

        Raises:
            FerError: a file cannot be read as an image, or an array is none.
        """
        import torch

        crops = [toned(pixels_of(image), self.crops) for image in images]
        temperatures = self.temperatures if calibrated else (1.0,) * len(self.networks)
        weights = self.weights or (1 / len(self.networks),) * len(self.networks)
        probabilities = np.empty((len(crops), len(self.classes)))
        with torch.inference_mode():
            for rows in _batches(crops, 1 if any(model.mixes_batch for model in self.networks) else BATCH):
                stack = np.stack([crops[row] for row in rows])
                answers = zip(self.networks, temperatures, strict=True)
                tables = [_probabilities(*answer, stack, self.tta) for answer in answers]
                probabilities[rows] = mixed(tables, weights, self.temperature if calibrated else 1.0)
        return Predictions(probabilities, [self.classes[index] for index in probabilities.argmax(1)])


def chosen_model(store: Store, reference: str | None) -> Artifact:
    """Return the artifact that a reference names; without one, the model that comes with fer.

    Raises:
        FerError: there is none.
    """
    artifact = store.find(SHIPPED if reference is None else reference, KINDS)
    if reference is None:
        note(f"using {artifact.reference}, which comes with fer; --model takes another")
    return artifact


def open_model(store: Store, artifact: Artifact, device: str) -> Model:
    """Open a model artifact, a study or an ensemble (its models answer together), or AHM on its backbone.

    Raises:
        FerError: it is damaged, or the weights that it needs are not on this machine.
    """
    from fer_cli.core import machine
    from fer_cli.systems.trained import open_trained
    from fer_cli.training.study import models_of

    machine.tune_allocator()
    target = machine.device_name(device)
    if artifact.kind == "ahm":
        from fer_cli.systems.ahm.network import ahm_network  # with scipy, which the others do without

        network = ahm_network(store, artifact, target)
        if network is None:
            raise FerError(
                f"the backbone's weights of {artifact.reference} are not on this machine",
                hint="'fer weights ls' shows how to get them",
            )
        # Its scores are divided by a temperature already, and its features tell nothing of the images' form.
        return Model((network,), network.classes, (1.0,), CropForm(None, False, TEMPLATE), artifact.reference)
    if artifact.kind == "ensemble":
        return _open_ensemble(store, artifact, target)
    models = models_of(store, artifact)
    networks = tuple(open_trained(model, target) for model in models.values())
    temperatures = [ModelSummary.of(model).temperature for model in models.values()]
    if None in temperatures:
        warn(f"{artifact.reference} was trained before fer fitted temperatures: its probabilities are not calibrated")
    return Model(
        networks,
        networks[0].classes,
        tuple(temperature or 1.0 for temperature in temperatures),
        _crop_form(models),
        artifact.reference,
    )


def _open_ensemble(store: Store, artifact: Artifact, device: str) -> Model:
    from fer_cli.evaluation.predictors.ensemble import members_of
    from fer_cli.systems.trained import open_trained

    ensemble, _, members = members_of(store, artifact)
    networks = tuple(open_trained(model, device) for model in members.models.values())
    return Model(
        networks,
        networks[0].classes,
        tuple(members.temperatures.values()),
        _crop_form(members.models),
        artifact.reference,
        weights=tuple(one.weight / len(one.temperatures) for one in ensemble.members for _ in one.temperatures),
        temperature=ensemble.temperature,
    )


def _crop_form(models: Mapping[str, Artifact]) -> CropForm:
    first = next(iter(models.values()))
    form = ModelSummary.of(first).images or ImageForm(side=None, grey=False)
    return CropForm(form.side, form.grey, points_of(TrainingProtocol.of(first).data.family))


def pixels_of(image: NDArray[np.uint8] | Image | Path | str) -> NDArray[np.uint8]:
    """Return an image as uint8 (H, W) or (H, W, 3).

    Raises:
        FerError: a file cannot be read, or an array has another form.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
            raise FerError(f"image of shape {image.shape}, {image.dtype}", hint="give uint8 (H, W) or (H, W, 3)")
        return image
    if isinstance(image, str | Path):
        from fer_cli.prediction.photos import read_photo

        return read_photo(Path(image)).pixels
    return np.asarray(image if image.mode in {"L", "RGB"} else image.convert("RGB"))


def toned(pixels: NDArray[np.uint8], crops: CropForm) -> NDArray[np.uint8]:
    """Return an image (H, W) or (H, W, 3) without colour where the model's images have none."""
    if not crops.grey or pixels.ndim == 2:
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).convert("L"))


def _batches(crops: Sequence[NDArray[np.uint8]], size: int) -> list[list[int]]:
    """Return row numbers in batches of images of one shape."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for row, crop in enumerate(crops):
        by_shape.setdefault(crop.shape, []).append(row)
    return [rows[at : at + size] for rows in by_shape.values() for at in range(0, len(rows), size)]


def _probabilities(model: TrainedModel, temperature: float, images: NDArray[np.uint8], tta: Tta) -> NDArray[np.float64]:
    import torch

    from fer_cli.inference.views import views

    device = next(model.network.parameters()).device
    inputs = model.preprocessing.apply(torch.from_numpy(np.ascontiguousarray(images)).to(device))
    logits = [model.network(view) for view in views(inputs, tta)]
    by_view = torch.stack([torch.softmax(view.double() / temperature, 1) for view in logits])
    return by_view.mean(0).cpu().numpy()
