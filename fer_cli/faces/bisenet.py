"""BiSeNet (Yu et al. 2018) through facexlib: the widely used parser of large, aligned colour photographs.

facexlib's own loader downloads into its package folder, checks no hash and unpickles: only its network is used here.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from fer_cli.core.errors import FerError, UsageError
from fer_cli.faces.parsers import DatasetParser, NetworkParser, ParserOptions
from fer_cli.faces.regions import BISENET_ORDER, Grouping
from fer_cli.models.backbones import Preprocessing
from fer_cli.weights.download import BISENET, find_release
from fer_cli.weights.files import WeightsFile, load_strictly, load_tensors

SIZE: Final = 512
"""Side of the input that the published weights were trained at, in pixels."""
BATCH: Final = 4
"""Images at once: its outputs are large."""
STRIDE: Final = 32
"""Sides of the input are multiples of this: the network takes others, and its levels then disagree on positions."""
_SMALLEST, _LARGEST = 64, 1024
_MEAN: Final = (0.485, 0.456, 0.406)  # ImageNet's, red first
_STD: Final = (0.229, 0.224, 0.225)


class MainOutput(nn.Module):
    """Gives the first of a network's outputs; BiSeNet's other two serve its training alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (n, classes, S, S) of standardised images (n, 3, S, S)."""
        logits: torch.Tensor = self.network(x)[0]
        return logits


def open_parser(options: ParserOptions) -> DatasetParser:
    """Open BiSeNet for a data set, with its published weights where no others are given.

    Raises:
        UsageError: the network takes no such size.
        FerError: the weights are not here, damaged or another network's, or facexlib cannot be imported.
    """
    weights = find_release(BISENET, options.weights, options.weights_sha256, fetch=True)
    assert weights is not None, "fetched or refused"
    network = open_bisenet(
        weights,
        grouping=options.grouping,
        size=SIZE if options.size is None else options.size,
        mirror=options.mirror,
        device=options.torch_device(),
        precision="float32" if options.precision == "auto" else options.precision,
    )
    return network.on(options, BATCH)


def open_bisenet(
    weights: WeightsFile,
    *,
    grouping: Grouping,
    size: int = SIZE,
    mirror: bool,
    device: str,
    precision: str = "float32",
) -> NetworkParser:
    """Build BiSeNet, load its weights strictly and return the parser.

    Args:
        weights: whose hash is checked already (:func:`fer_cli.weights.download.find_release`).
        grouping: which region each part belongs to.
        size: side of the network's input in pixels, a multiple of 32 from 64 to 1024.
        mirror: whether the mirror image is parsed as well.
        device: torch's name of the device.
        precision: of the network, one of :data:`fer_cli.faces.parsers.PRECISIONS`.

    Raises:
        UsageError: the network takes no such size.
        FerError: facexlib cannot be imported, or the weights are damaged or another network's.
    """
    if size % STRIDE or not _SMALLEST <= size <= _LARGEST:
        raise UsageError(
            f"BiSeNet does not take input of {size} px",
            hint=f"--size must be a multiple of {STRIDE} from {_SMALLEST} to {_LARGEST}; its weights are for {SIZE}",
        )
    tensors = load_tensors(weights)
    network = _network()
    hint = "give facexlib's parsing_bisenet.pth, or other weights of the same network"
    load_strictly(network, tensors, weights.path, hint=hint)
    main = MainOutput(network).eval().requires_grad_(False).to(device, getattr(torch, precision))
    return NetworkParser(
        name="bisenet",
        network=main.to(memory_format=torch.channels_last),
        order=BISENET_ORDER,
        grouping=grouping,
        preprocessing=Preprocessing(size=size, mean=_MEAN, std=_STD, interpolation="bilinear"),
        weights=weights.record(),
        mirror=mirror,
        device=device,
        precision=precision,
    )


def _network() -> nn.Module:
    try:
        from facexlib.parsing.bisenet import BiSeNet
    except ModuleNotFoundError as error:
        raise FerError(f"{error.name} is not installed", hint="install facexlib, or take --parser compact") from error
    except (ImportError, OSError) as error:
        raise FerError(
            f"facexlib cannot be imported ({error})",
            hint="its OpenCV needs system libraries: on Debian install libgl1 and libglib2.0-0, or replace the package "
            "opencv-python by opencv-python-headless; or take --parser compact",
        ) from error
    with torch.random.fork_rng(devices=[]):  # it initialises itself, in vain
        network: nn.Module = BiSeNet(num_class=len(BISENET_ORDER))
    return network
