"""The recipe of a compact parser, and the pictures that it is trained on and measured with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from fer_cli.core.recipes import About, Section
from tools.train_parser.augmentation import Augmentation
from tools.train_parser.celebamask import ids_of, read_faces
from tools.train_parser.training import Schedule


class Data(Section):
    """Which pictures are trained on."""

    aside: Annotated[int, Field(ge=2)]  # of the ids in order, every aside-th is kept aside
    side: Annotated[int, Field(ge=64, le=1024)]  # px that pictures are kept at; larger than any input


class ParserRecipe(Section):
    """How a compact parser is trained."""

    about: About
    encoder: str  # ``auto``, ``none`` or a file: ImageNet weights of EfficientNet-Lite0
    data: Data
    augmentation: Augmentation
    training: Schedule

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        sizes = [size for phase in self.training.sizes for size in phase]
        if self.augmentation.tight + self.augmentation.wide > 1:
            raise ValueError("augmentation.tight and augmentation.wide are more than 1 together")
        if self.augmentation.smallest > min(sizes):
            raise ValueError("augmentation.smallest is more than the smallest of training.sizes")
        if self.data.side < max(sizes):
            raise ValueError("data.side is less than the largest of training.sizes")
        return self


def split_ids(source: Path, aside: int) -> tuple[list[str], list[str]]:
    """Return the ids of an archive that are trained on, and those that are kept aside: every ``aside``-th."""
    ids = ids_of(source)
    return (
        [name for number, name in enumerate(ids, start=1) if number % aside],
        [name for number, name in enumerate(ids, start=1) if number % aside == 0],
    )


def training_arrays(source: Path, ids: list[str], side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return pictures (N, side, side, 3) and the parts of their pixels (N, side, side)."""
    images, parts = [], []
    for face in read_faces(source, ids):
        images.append(_resized(face.image, side, Image.Resampling.LANCZOS))
        parts.append(_resized(face.parts, side, Image.Resampling.NEAREST))
    return np.stack(images), np.stack(parts)


def _resized(pixels: NDArray[np.uint8], side: int, how: Image.Resampling) -> Any:  # noqa: ANN401 - numpy of a picture
    return np.asarray(Image.fromarray(pixels).resize((side, side), how))
