"""The compact parser: a small network of our own that finds face parts in images of 48 to 512 px, grey or colour.

Encoder: EfficientNet-Lite0 (Tan & Le 2019, the Lite variant: ReLU6, no squeeze-and-excitation) up to the first block of
its sixth stage. Decoder: a feature pyramid (Lin et al. 2017) down to half the input's resolution, with the mean over
the whole image added at the coarsest level.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fer_cli.core import machine
from fer_cli.core.distributed import broadcast_object
from fer_cli.core.errors import UsageError
from fer_cli.faces.compact_weights import find_compact
from fer_cli.faces.parsers import DatasetParser, NetworkParser, ParserOptions
from fer_cli.faces.regions import PARTS, Grouping
from fer_cli.models.backbones import Preprocessing
from fer_cli.weights.files import WeightsFile, load_strictly, load_tensors

NAME: Final = "compact"
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
SMALL: Final = 96
"""px: the larger side up to which an image counts as small."""

BATCH: Final = 16
"""Images at once."""
STRIDE: Final = 32
"""Sides of the input are multiples of this."""

# in, out, expansion, kernel, stride of each inverted residual, by level of the pyramid: strides 2, 4, 8, 16 and 32
_LEVELS: Final = (
    ((32, 16, 1, 3, 1),),
    ((16, 24, 6, 3, 2), (24, 24, 6, 3, 1)),
    ((24, 40, 6, 5, 2), (40, 40, 6, 5, 1)),
    (
        *((40, 80, 6, 3, 2), (80, 80, 6, 3, 1), (80, 80, 6, 3, 1)),
        *((80, 112, 6, 5, 1), (112, 112, 6, 5, 1), (112, 112, 6, 5, 1)),
    ),
    ((112, 192, 6, 5, 2),),
)
_WIDTHS: Final = (24, 48, 80, 96, 96)  # of the decoder, at the same levels


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, unless it is linear, ReLU6."""

    def __init__(self, i: int, o: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(o, eps=1e-3),
        ]
        super().__init__(*layers, *([] if linear else [nn.ReLU6(inplace=True)]))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project (Sandler et al. 2018); added to its input where the shapes agree."""

    def __init__(self, i: int, o: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = i * expansion
        self.body = nn.Sequential(
            *([ConvNorm(i, wide, 1)] if expansion > 1 else []),
            ConvNorm(wide, wide, kernel, stride, groups=wide),
            ConvNorm(wide, o, 1, linear=True),
        )
        self.residual = stride == 1 and i == o

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, o, H / stride, W / stride) of (n, i, H, W)."""
        y: torch.Tensor = self.body(x)
        return x + y if self.residual else y


class CompactParser(nn.Module):
    """Logits of the face parts (:data:`fer_cli.faces.regions.PARTS`) at half the input's resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, 2)
        self.levels = nn.ModuleList(nn.Sequential(*(InvertedResidual(*spec) for spec in level)) for level in _LEVELS)
        outs = [level[-1][1] for level in _LEVELS]
        self.lateral = nn.ModuleList(
            ConvNorm(out, width, 1, linear=True) for out, width in zip(outs, _WIDTHS, strict=True)
        )
        self.whole = nn.Conv2d(outs[-1], _WIDTHS[-1], 1)
        self.narrow = nn.ModuleList(ConvNorm(above, width, 1, linear=True) for width, above in pairwise(_WIDTHS))
        self.merge = nn.ModuleList(ConvNorm(width, width, 3) for width in _WIDTHS)
        self.head = nn.Conv2d(_WIDTHS[0], len(PARTS), 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (n, parts, S / 2, S / 2) of standardised images (n, 3, S, S)."""
        x = self.stem(x)
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        y = self.lateral[-1](maps[-1]) + self.whole(maps[-1].mean((2, 3), keepdim=True))
        y = self.merge[-1](functional.relu6(y))
        for step in reversed(range(len(_WIDTHS) - 1)):
            y = functional.interpolate(
                self.narrow[step](y), scale_factor=2.0, mode="bilinear", align_corners=False
            ) + self.lateral[step](maps[step])
            y = self.merge[step](functional.relu6(y))
        logits: torch.Tensor = self.head(y)
        return logits


def open_parser(options: ParserOptions) -> DatasetParser:
    """Open the compact parser for a data set, with the weights that come with fer where no others are given.

    Raises:
        UsageError: the network takes no such size.
        FerError: the weights are missing, damaged or another network's.
    """
    return open_network(options).on(options, BATCH)


def open_network(options: ParserOptions) -> NetworkParser:
    """Return the network of :func:`open_parser`."""
    device, precision = options.torch_device(), options.precision
    if precision == "auto":  # one for all processes, whatever their machines
        precision = broadcast_object("bfloat16" if machine.fast_bfloat16(device) else "float32", options.ranks)
    height, width = options.dataset.images.shape[1:3]
    size, mirror_size = working_sizes(height, width) if options.size is None else (options.size, options.size)
    return open_compact(
        find_compact(options.weights, options.weights_sha256),
        grouping=options.grouping,
        size=size,
        mirror=options.mirror,
        device=device,
        mirror_size=mirror_size,
        precision=precision,
    )


def open_compact(
    weights: WeightsFile,
    *,
    grouping: Grouping,
    size: int,
    mirror: bool,
    device: str,
    mirror_size: int | None = None,
    precision: str = "float32",
) -> NetworkParser:
    """Build the compact parser and load its weights strictly.

    Args:
        weights: a safetensors file that :func:`save_compact` wrote.
        grouping: which region each part belongs to.
        size: side of the input in pixels, a multiple of :data:`STRIDE`.
        mirror: parse the mirror image as well.
        device: torch's name of the device.
        mirror_size: side of the mirror image's input, where it is another.
        precision: of the network, one of :data:`fer_cli.faces.parsers.PRECISIONS`.

    Raises:
        FerError: the weights are damaged or those of another network.
        UsageError: a size that the network cannot take.
    """
    if size % STRIDE or not STRIDE <= size <= 1024:
        raise UsageError(
            f"--size {size}: the compact parser takes multiples of {STRIDE} px",
            hint=f"take {max(STRIDE, min(1024, round(size / STRIDE) * STRIDE))}",
        )
    network = CompactParser()
    hint = "give weights that 'python -m tools.train_parser' wrote"
    load_strictly(network, load_tensors(weights), weights.path, hint=hint)
    network.eval().requires_grad_(False)
    ready = folded(network).to(device, getattr(torch, precision))
    return NetworkParser(
        name=NAME,
        network=ready.to(memory_format=torch.channels_last),
        order=PARTS,
        grouping=grouping,
        preprocessing=Preprocessing(size=size, mean=MEAN, std=STD, interpolation="bicubic"),
        weights=weights.record(),
        mirror=mirror,
        device=device,
        mirror_size=mirror_size,
        precision=precision,
    )


def folded(network: CompactParser) -> CompactParser:
    """Return the network with each batch norm folded into its convolution: the same function, half the layers."""
    for module in network.modules():
        if isinstance(module, ConvNorm):
            convolution, norm = module[0], module[1]
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            module[0] = fuse_conv_bn_eval(convolution, norm)
            module[1] = nn.Identity()
    return network


def working_sizes(height: int, width: int) -> tuple[int, int]:
    """Return the sides at which images of a size, and their mirror images, are parsed best (the model card)."""
    return (160, 192) if max(height, width) <= SMALL else (192, 256)


def tensors_to_keep(network: CompactParser) -> dict[str, torch.Tensor]:
    """Return the network's tensors as they are kept: convolutions in half precision, the rest in single."""
    return {
        name: (tensor.half() if tensor.ndim == 4 else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
