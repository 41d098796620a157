"""What a parser is, and the parsers that are networks: region maps of a batch of images, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.summaries import WeightsRecord
from fer_cli.core import machine
from fer_cli.core.distributed import Ranks
from fer_cli.core.labels import REGIONS
from fer_cli.datasets.dataset import Dataset
from fer_cli.faces.regions import Grouping
from fer_cli.models.backbones import Preprocessing

if TYPE_CHECKING:
    import torch
    from torch import nn


PRECISIONS: Final = ("float32", "bfloat16")
"""Of a network's weights and maps; its answers are turned into shares in float32 in any case."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser says of a batch of n images.

    ``maps`` uint8 (n, H, W) holds indices into :data:`~fer_cli.core.labels.REGIONS`.
    ``confidence`` (n,) is the mean over
    the pixels of the largest region's share. ``agreement`` (n,) tells how much the map of the image and that of its
    mirror image have in common: of the pixels that either takes for a part of the person, the share that both give the
    same region. Both are NaN where a parser has no such thing.
    """

    maps: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    agreement: NDArray[np.float32]

    @classmethod
    def certain(cls, maps: NDArray[np.uint8]) -> Parsed:
        """Return maps (n, H, W) of which nothing says how sure they are."""
        unknown = np.full(len(maps), np.nan, np.float32)
        return cls(maps, unknown, unknown)


ParseRows = Callable[[NDArray[np.int64]], Parsed]
"""Returns the regions of some rows of a data set."""


@dataclass(frozen=True, slots=True)
class ParserOptions:
    """What ``fer parse-masks`` gives a parser; one that has no such option refuses it, or does without.

    Attributes:
        dataset: whose faces are parsed.
        weights: a file.
        weights_sha256: the hash that the weights must have.
        grouping: which region each part belongs to.
        regrouped: whether that is another grouping than the usual one.
        size: side in px that images are resized to.
        mirror: parse the mirror image too.
        batch: images a forward pass.
        device: ``auto`` or torch's name of a device.
        precision: ``auto`` or one of :data:`PRECISIONS`.
        ranks: the processes that share the work.
    """

    dataset: Dataset
    weights: str | None
    weights_sha256: str | None
    grouping: Grouping
    regrouped: bool
    size: int | None
    mirror: bool
    batch: int | None
    device: str
    precision: str
    ranks: Ranks

    def torch_device(self) -> str:
        """Return torch's name of the device, with the process made ready for a network on it; imports torch."""
        machine.tune_allocator()
        device = machine.device_name(self.device)
        machine.share_cores(device)
        return device


@dataclass(frozen=True, slots=True)
class DatasetParser:
    """A parser that is ready for a data set.

    Attributes:
        name: in the registry.
        name_parts: what names of masks say of it.
        record: what decides its maps.
        summary: what else a summary says of it.
        batch: images that it takes at once.
        prepare: does what is needed before the first rows, in every process, and returns the parser of rows.
    """

    name: str
    name_parts: tuple[str, ...]
    record: dict[str, Any]
    summary: dict[str, Any]
    batch: int
    prepare: Callable[[], ParseRows]


@dataclass(frozen=True, slots=True)
class NetworkParser:
    """A parsing network with what it needs around it.

    Args:
        name: ``compact`` or ``bisenet``.
        network: maps standardised images (n, 3, S, S) to logits (n, classes, h, w), on ``device``, in eval mode.
        order: the name of each class, in the order of the network's logits.
        grouping: which region each part belongs to.
        preprocessing: how pixels become the network's input.
        weights: what artifacts record of the weights.
        mirror: whether the mirror image is parsed as well; the map is then that of the mean of both.
        device: torch's name of the device.
        mirror_size: side in pixels that the mirror image is resized to, where it is another: two sizes see more than
            one.
        precision: one of :data:`PRECISIONS`, that of the network.
    """

    name: str
    network: nn.Module
    order: tuple[str, ...]
    grouping: Grouping
    preprocessing: Preprocessing
    weights: WeightsRecord
    mirror: bool
    device: str
    mirror_size: int | None = None
    precision: str = "float32"

    def record(self) -> dict[str, Any]:
        """Return what decides its answers."""
        return {
            "parser": self.name,
            "weights": self.weights.sha256,
            "preprocessing": self.preprocessing.record(),
            "mirror": (self.mirror_size or self.preprocessing.size) if self.mirror else None,
            "precision": self.precision,
            "grouping": self.grouping.record(),
        }

    def summary(self) -> dict[str, Any]:
        """Return what a summary of masks says of the network."""
        return {"weights": self.weights, "size": self.preprocessing.size, "precision": self.precision}

    def on(self, options: ParserOptions, batch: int) -> DatasetParser:
        """Return the parser of a data set, which takes ``batch`` images at once where the options name no number."""
        sizes = () if options.size is None else (str(options.size),)
        record = self.record()

        def parse(rows: NDArray[np.int64]) -> Parsed:
            return self.parse(options.dataset.images[rows])

        return DatasetParser(
            name=self.name,
            name_parts=(self.name, *sizes, *(("regrouped",) if options.regrouped else ())),
            record=record,
            summary={**self.summary(), "mirror": record["mirror"]},
            batch=options.batch or batch,
            prepare=lambda: parse,
        )

    def shares(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """Return each region's share (1 or 2, n, regions, h, w), at the network's largest output resolution.

        The second, where ``mirror`` is set, is that of the mirror images, mirrored back. Classes with a side are
        merged before: a mirrored left eye is a right one, and both are the eye region.
        """
        import torch
        from torch.nn import functional

        pixels = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self.device)
        straight = self.preprocessing.apply(pixels)
        views = [self._regions(straight)]
        if self.mirror:
            side = self.mirror_size or self.preprocessing.size
            same = side == self.preprocessing.size
            x = straight if same else replace(self.preprocessing, size=side).apply(pixels)
            views.append(self._regions(x.flip(-1)).flip(-1))
        finest = max((view.shape[-2:] for view in views), key=max)
        return torch.stack(
            [
                view
                if view.shape[-2:] == finest
                else functional.interpolate(view, finest, mode="bilinear", align_corners=False)
                for view in views
            ]
        )

    def _regions(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        table = torch.from_numpy(self.grouping.table(self.order).astype(np.int64)).to(self.device)
        classes = torch.softmax(self.network(x.to(getattr(torch, self.precision))).float(), 1)
        return classes.new_zeros(len(classes), len(REGIONS), *classes.shape[2:]).index_add_(1, table, classes)

    def parse(self, images: NDArray[np.uint8]) -> Parsed:
        """Return the regions of uint8 images (n, H, W) or (n, H, W, 3), enlarged to their size."""
        import torch
        from torch.nn import functional

        with torch.inference_mode():
            views = self.shares(images)
            agreement = torch.full((len(images),), float("nan")) if len(views) == 1 else _agreement(*_largest(views, 2))
            mean = views.mean(0)
            confidence = mean.amax(1).mean((1, 2))
            enlarged = functional.interpolate(
                mean, images.shape[1:3], mode="bilinear", align_corners=False, antialias=_shrinks(mean, images)
            )
            maps = _largest(enlarged, 1).to(torch.uint8)
        return Parsed(maps.cpu().numpy(), confidence.cpu().numpy(), agreement.cpu().numpy())


def _largest(shares: torch.Tensor, regions: int) -> torch.Tensor:
    """Return the argmax over a dimension: brought to the end it is found 20 times faster on a CPU."""
    return shares.movedim(regions, -1).contiguous().argmax(-1)


def _shrinks(shares: torch.Tensor, images: NDArray[np.uint8]) -> bool:
    return bool(shares.shape[-2] > images.shape[1] or shares.shape[-1] > images.shape[2])


def _agreement(straight: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Return the share (n,) of the pixels of a person that both give the same region; NaN where neither sees one."""
    person = (straight > 0) | (mirrored > 0)
    same = (straight == mirrored) & person
    return same.sum((1, 2)) / person.sum((1, 2))
