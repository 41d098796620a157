"""What ``import fer_cli as fer`` offers besides the stages: stores, opened artifacts, and models that predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.store import Artifact, Store, open_store
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.registry import DATASETS, default_source
from fer_cli.faces.masks import Masks
from fer_cli.faces.masks import open_masks as _open_masks
from fer_cli.models.features import Features
from fer_cli.models.features import open_features as _open_features
from fer_cli.stages.prepare import prepare as _prepare

if TYPE_CHECKING:
    from PIL.Image import Image

    from fer_cli.artifacts.result import Result
    from fer_cli.models.trained import TrainedModel

__all__ = [
    "Model",
    "Predictions",
    "load_model",
    "open_dataset",
    "open_features",
    "open_masks",
    "prepare",
    "show_progress",
]

BATCH: Final = 64


def show_progress() -> None:
    """Show notes, warnings and progress on stderr from now on, as the command line does."""
    from fer_cli.cli.terminal import on_stderr

    on_stderr().__enter__()


def prepare(
    name: str,
    *,
    store: Store,
    validation: float = 0.1,
    seed: int = 0,
    drop_duplicates: bool = False,
    force: bool = False,
    **options: object,
) -> Result:
    """Prepare a dataset by its name, as ``fer prepare NAME`` does.

    Args:
        name: such as ``rafdb``, ``folder`` or ``synth``.
        store: where the artifact goes.
        validation: share of train that becomes validation where the source has none.
        seed: of the split, and of the images where they are generated.
        drop_duplicates: remove training images that (nearly) equal others.
        force: rebuild even if it is up to date.
        options: of this dataset, as ``fer prepare NAME --help`` lists them, such as ``source``.

    Raises:
        FerError: there is no such dataset, or its source is at fault.
    """
    dataset = DATASETS.load(name)
    values = {parameter.name: parameter.default for parameter in dataset.parameters()} | options
    if dataset.takes("source"):
        values["source"] = Path(str(options["source"])) if "source" in options else default_source(name)
    if dataset.takes("seed"):
        values["seed"] = seed
    loader = dataset.open_with(**values)
    return _prepare(
        store=store, loader=loader, validation=validation, seed=seed, drop_duplicates=drop_duplicates, force=force
    )


def open_masks(artifact: Artifact, dataset: Dataset) -> Masks:
    """Open the region masks of a dataset.

    Raises:
        FerError: they belong to another dataset, or are damaged.
    """
    return _open_masks(artifact, dataset)


def open_features(artifact: Artifact, *, store: Store) -> Features:
    """Open extracted features; ``views["original"][i]`` is that of the dataset's image i.

    Raises:
        FerError: they do not belong to their dataset, or are damaged.
    """
    return _open_features(artifact, open_parent(store, artifact, "dataset"))


class Predictions(NamedTuple):
    """Probabilities float64 (n, C) and, by name, the most probable class of each image."""

    probabilities: NDArray[np.float64]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class Model:
    """One or several trained networks that answer together by the mean of their probabilities."""

    networks: tuple[TrainedModel, ...]
    classes: tuple[str, ...]

    def predict(self, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8] | Image | Path | str]) -> Predictions:
        """Classify face crops; faces are not searched for.

        Args:
            images: uint8 (n, H, W) or (n, H, W, 3), or a list of arrays (H, W) or (H, W, 3), PIL images or paths.

        Raises:
            FerError: a file cannot be read as an image.
        """
        import torch

        crops = [_pixels(image) for image in images]
        probabilities = np.empty((len(crops), len(self.classes)))
        with torch.inference_mode():
            for rows in _batches(crops, 1 if any(model.mixes_batch for model in self.networks) else BATCH):
                stack = np.stack([crops[row] for row in rows])
                probabilities[rows] = np.mean([_probabilities(model, stack) for model in self.networks], axis=0)
        return Predictions(probabilities, [self.classes[index] for index in probabilities.argmax(1)])


def load_model(reference: Path | str | None = None, *, store: Store | None = None, device: str = "auto") -> Model:
    """Load a trained model, a study (its models answer together), or AHM on its backbone.

    Args:
        reference: name, ``name@version`` or path of the artifact; the newest model where it is None.
        store: where it is; ``open_store()`` where it is None.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        FerError: there is no such model, or the weights that it needs are not on this machine.
    """
    from fer_cli.core import machine
    from fer_cli.evaluation.predictors.model import models_of
    from fer_cli.systems.ahm.network import ahm_network
    from fer_cli.systems.trained import open_trained

    store = store or open_store()
    artifact = store.find(None if reference is None else str(reference), ["model", "study", "ahm"])
    target = machine.device_name(device)
    if artifact.kind == "ahm":
        network = ahm_network(store, artifact, target)
        if network is None:
            raise FerError(
                f"the backbone's weights of {artifact.reference} are not on this machine",
                hint="'fer weights ls' shows how to get them",
            )
        return Model((network,), network.classes)
    networks = tuple(open_trained(model, target) for model in models_of(store, artifact).values())
    return Model(networks, networks[0].classes)


def _pixels(image: NDArray[np.uint8] | Image | Path | str) -> NDArray[np.uint8]:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
            raise FerError(f"image of shape {image.shape}, {image.dtype}", hint="give uint8 (H, W) or (H, W, 3)")
        return image
    from PIL import Image as Pictures
    from PIL import UnidentifiedImageError

    if isinstance(image, str | Path):
        try:
            with Pictures.open(image) as opened:
                return _pixels(opened.copy())
        except (OSError, UnidentifiedImageError) as error:
            raise FerError(f"cannot be read as an image ({error})", hint="give a PNG or JPEG", path=image) from error
    return np.asarray(image if image.mode in {"L", "RGB"} else image.convert("RGB"))


def _batches(crops: Sequence[NDArray[np.uint8]], size: int) -> list[list[int]]:
    """Return row numbers in batches of images of one shape."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for row, crop in enumerate(crops):
        by_shape.setdefault(crop.shape, []).append(row)
    return [rows[at : at + size] for rows in by_shape.values() for at in range(0, len(rows), size)]


def _probabilities(model: TrainedModel, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    import torch

    device = next(model.network.parameters()).device
    logits = model.network(model.preprocessing.apply(torch.from_numpy(np.ascontiguousarray(images)).to(device)))
    return torch.softmax(logits.double(), 1).cpu().numpy()
