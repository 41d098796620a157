"""What a system is: a way to recognise expressions that ``fer train`` trains and every other stage can open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from fer_cli.core.citations import Citation
from fer_cli.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from fer_cli.artifacts.checksums import AnyArray
    from fer_cli.datasets.dataset import Dataset
    from fer_cli.faces.masks import Masks
    from fer_cli.losses.objective import Objective
    from fer_cli.models.backbones import Preprocessing
    from fer_cli.weights.files import WeightsFile

R = TypeVar("R", bound=Recipe)
BACKBONE_PREFIX: Final = "backbone."
"""In the models of :class:`fer_cli.models.classifier.ClassifierNetwork`."""


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """Feature maps of a frozen backbone that are computed once for both views of every image."""

    level: str
    dtype: Literal["float16", "float32"]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a recipe of a system takes besides the data set."""

    masks: bool = False
    feature_cache: FeatureCache | None = None


@dataclass(frozen=True, slots=True)
class BuildInputs:
    """What a system is built from.

    Attributes:
        dataset: gives images and classes.
        rows: (n,) that are trained on, each once.
        weights: of the backbone; None is random.
        seed: of everything that the weights do not give, and of the augmentation.
        device: torch's name of the device.
        masks: of the data set, where :class:`Needs` asks for them.
        feature_cache: returns feature maps (N, C, h, w) of all images by view, ``original`` and ``flip``, where
            :class:`Needs` asks for them. They may take hours: to be called when all else is known to be right.
    """

    dataset: Dataset
    rows: NDArray[np.int64]
    weights: WeightsFile | None
    seed: int
    device: str
    masks: Masks | None = None
    feature_cache: Callable[[], Mapping[str, AnyArray]] | None = None


class SystemSummary(BaseModel):
    """A system's part of a model's summary: a subclass with its fields, or this one, which is empty."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Trainable:
    """What the engine trains.

    Attributes:
        network: that is trained, on its device. Maps what ``inputs`` gives to what ``loss`` takes.
        groups: of its parameters, each with the factor of its learning rate.
        inputs: the network's input of rows and epoch (None: without augmentation), on the device.
        targets: what the loss compares with, of rows and epoch, on the device.
        loss: on the device.
        inference: the network of preprocessed images (n, 3, S, S) that is kept; it shares its modules with ``network``.
        preprocessing: of the images.
        tensors_loaded: from the backbone's weights.
        summary: the system's part of a model's summary.
        classifier: ``kept`` where it is that of the model whose weights these began with.
        summarise: returns that part once all is trained, with what the trained network does with rows that were not
            trained on; None where there is nothing to measure.
    """

    network: nn.Module
    groups: Sequence[tuple[float, list[nn.Parameter]]]
    inputs: Callable[[NDArray[np.int64], int | None], torch.Tensor]
    targets: Callable[[NDArray[np.int64], int], Any]
    loss: Objective
    inference: nn.Module
    preprocessing: Preprocessing
    tensors_loaded: int
    summary: SystemSummary
    classifier: Literal["kept", "new"] = "new"
    summarise: Callable[[NDArray[np.int64]], SystemSummary] | None = None


class System(ABC, Generic[R]):
    """A system: its recipe, what it trains, and how its models are opened.

    Its module imports no torch, so that the command line can list it: methods import what they need.
    """

    name: ClassVar[str]
    """As in ``fer train NAME``."""
    help: ClassVar[str]
    """One line."""
    paper: ClassVar[str]
    """Authors and title, or where it comes from."""
    citations: ClassVar[tuple[Citation, ...]] = ()
    """What a paper cites that uses it."""
    recipe_type: type[R]
    uses_masks: ClassVar[bool] = False
    """Some of its recipes learn region maps, those of ``--masks``."""
    backbone_prefix: ClassVar[str | None] = None
    """What the names of its backbone's tensors begin with in a model; None where it keeps no whole backbone."""
    ready_recipe: ClassVar[str | None] = None
    """Name of a recipe whose weights come in a package, for where those of the default one cannot be had."""

    @property
    @abstractmethod
    def default_recipe(self) -> Path:
        """The recipe that it is trained by where none is given."""

    def needs(self, recipe: R) -> Needs:  # noqa: ARG002 - nothing but the data set
        """Return what a recipe takes besides the data set."""
        return Needs()

    def mixes_batch(self, recipe: R) -> bool:  # noqa: ARG002 - no image knows of the others
        """Tell whether an image's prediction depends on the other images of its batch."""
        return False

    @abstractmethod
    def build(self, recipe: R, inputs: BuildInputs) -> Trainable:
        """Build what a recipe names.

        Raises:
            FerError: timm does not know the backbone, it cannot take what the recipe wants, or the weights do not fit.
        """

    @abstractmethod
    def open(self, recipe: R, classes: int) -> tuple[nn.Module, Preprocessing]:
        """Return the inference network of a trained model's recipe, without its weights, and its preprocessing."""

    def facts(self, details: Mapping[str, Any]) -> Sequence[tuple[str, str]]:  # noqa: ARG002 - nothing to say
        """Return what a report says of the system's part of a model's summary: names, and a phrase each."""
        return ()

    def map_layer(self, network: nn.Module, size: int) -> nn.Module:
        """Return the module of an inference network whose output Grad-CAM takes: the last feature map.

        Args:
            network: as :meth:`open` returns it.
            size: side of its input, px.

        Raises:
            FerError: there is none.
        """
        from fer_cli.models.gradcam import last_map

        return last_map(network, size)
