"""What ``import fer_cli as fer`` offers besides the stages: stores, opened artifacts, and models that predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.store import Store, open_store
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.registry import DATASETS, default_source
from fer_cli.faces.masks import Masks
from fer_cli.faces.masks import open_masks as _open_masks
from fer_cli.models.features import Features
from fer_cli.models.features import open_features as _open_features
from fer_cli.prediction.model import Model, Predictions
from fer_cli.stages.prepare import prepare as _prepare

if TYPE_CHECKING:
    from fer_cli.artifacts.result import Result
    from fer_cli.prediction.onnx_model import OnnxModel

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


def load_model(
    reference: Path | str | None = None, *, store: Store | None = None, device: str = "auto"
) -> Model | OnnxModel:
    """Load a trained model, a study or an ensemble (its models answer together), AHM on its backbone, or an ONNX file.

    Args:
        reference: name, ``name@version`` or path of the artifact, or the path of a file of ``fer export``, which
            onnxruntime runs without torch; the model that comes with fer where it is None.
        store: where it is; ``open_store()`` where it is None.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        FerError: there is no such model, or the weights that it needs are not on this machine.
    """
    from fer_cli.prediction.opening import open_recogniser

    return open_recogniser(store or open_store(), None if reference is None else str(reference), device)
