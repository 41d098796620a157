"""Conv-cut on the engine: the head learns, on feature maps that are kept or computed with every step.

The backbone is frozen and only flips augment, so every image has two feature maps. Kept, an epoch costs the head alone
and gives what the run from pictures gives: the same images are flipped in the same epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fer_cli.core import machine
from fer_cli.core.progress import note
from fer_cli.datasets.dataset import Dataset
from fer_cli.models.truncation import Truncated, truncate
from fer_cli.systems.base import System
from fer_cli.systems.conv_cut.network import ConvCut, ConvCutHead
from fer_cli.training import counter_rng
from fer_cli.training.counter_rng import Stream
from fer_cli.training.inputs import class_targets, picture_inputs
from fer_cli.training.objectives import new_softmax
from fer_cli.training.recipe import ConvCutRecipe
from fer_cli.weights.files import WeightsFile

Rows = NDArray[np.int64]
BLOCK: Final = 1024
"""Images whose maps are read at once."""


def conv_cut(
    recipe: ConvCutRecipe,
    dataset: Dataset,
    rows: Rows,
    weights: WeightsFile | None,
    seed: int,
    device: str,
    kept: Callable[[], Mapping[str, NDArray[np.floating]]] | None,
) -> System:
    """Build what a recipe of Conv-cut names.

    Args:
        recipe: what it is.
        dataset: gives pictures and classes.
        rows: that are trained on.
        weights: of the backbone; None is random.
        seed: of the head's beginning, and of the flips.
        device: torch's name of the device.
        kept: returns feature maps (N, C, h, w) of all images, by view ``original`` and ``flip``; asked once all else
            is known to be right. None: from the pictures.

    Raises:
        FerError: the backbone has no such cut or size, or the map is too small for the head.
    """
    model = recipe.model
    cut = truncate(model.backbone, cut=model.cut, size=recipe.data.size, weights=weights)
    head = new_head(cut, len(dataset.classes), recipe, seed)
    network = ConvCut(cut.network, head).to(device)

    def whole(tensors: dict[str, torch.Tensor]) -> nn.Module:
        (network if kept is None else head).load_state_dict(tensors)
        return network

    inputs = (
        picture_inputs(dataset.images, cut.preprocessing, recipe.augmentation, seed=seed, device=device)
        if kept is None
        else kept_inputs(kept(), recipe.augmentation.flip, seed=seed, device=device)
    )
    return System(
        network=network if kept is None else head,
        groups=[(1.0, list(head.parameters()))],
        inputs=inputs,
        targets=class_targets(dataset.labels, dataset.targets if recipe.loss.soft else None, device),
        loss=new_softmax(recipe.loss, dataset.labels[rows], dataset.classes).to(device),
        whole=whole,
        preprocessing=cut.preprocessing,
        tensors_loaded=cut.tensors_loaded,
        told={
            "cut": cut.cut,
            "map": [cut.channels, cut.side, cut.side],
            "head_parameters": sum(parameter.numel() for parameter in head.parameters()),
            "mixes_batch": model.attention == "batch",
        },
    )


def new_head(cut: Truncated, classes: int, recipe: ConvCutRecipe, seed: int) -> ConvCutHead:
    """Return a head that starts from a seed."""
    model = recipe.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConvCutHead(
            cut.channels, cut.side, classes, detail=model.detail, attention=model.attention, form=model.form
        )


def kept_inputs(
    views: Mapping[str, NDArray[np.floating]], flip: float, *, seed: int, device: str
) -> Callable[[Rows, int | None], torch.Tensor]:
    """Return a function of rows and epoch that gives float32 feature maps (n, C, h, w) on the device.

    The maps go to the device, or into memory, where they take at most half of what is free there; else each batch is
    read from the disk.

    Args:
        views: ``original`` and ``flip``, (N, C, h, w) each.
        flip: share of the images that are flipped in an epoch.
        seed: of the run.
        device: torch's name of the device.
    """
    images = len(views["original"])
    size = sum(maps.nbytes for maps in views.values())
    held: torch.Tensor | None = None  # (2 N, C, h, w): what is not flipped, then what is
    where = "on the disk"
    for place, free in ((device, _free(device)), ("cpu", machine.free_memory())):
        if held is None and size < free / 2:
            held = _held(views, place)
            where = "in memory" if place == "cpu" else "on the device"
    note(f"feature maps are kept {where}: {size / 1e6:,.0f} MB")

    def inputs(rows: Rows, epoch: int | None) -> torch.Tensor:
        flipped = torch.zeros(len(rows), dtype=torch.bool)
        if epoch is not None and flip:
            flipped = counter_rng.uniform(seed, epoch, torch.from_numpy(rows), Stream.FLIP).to(torch.float64) < flip
        places = torch.from_numpy(rows % images)
        if held is not None:
            return held.index_select(0, (places + images * flipped).to(held.device)).float().to(device)
        maps = torch.empty((len(rows), *views["original"].shape[1:]))
        for view, part in (("original", ~flipped), ("flip", flipped)):
            maps[part] = torch.from_numpy(views[view][places[part].numpy()]).float()
        return maps.to(device)

    return inputs


def _held(views: Mapping[str, NDArray[np.floating]], place: str) -> torch.Tensor:
    """Return both views in one tensor at a place, never a third copy of a view beside it."""
    images, *shape = views["original"].shape
    kind = torch.from_numpy(np.array(views["original"][:0])).dtype
    held = torch.empty((2 * images, *shape), dtype=kind, device=place)
    for number, view in enumerate(("original", "flip")):
        for start in range(0, images, BLOCK):
            stop = min(start + BLOCK, images)
            held[number * images + start : number * images + stop] = torch.from_numpy(np.array(views[view][start:stop]))
    return held


def _free(device: str) -> float:
    return torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else 0.0
