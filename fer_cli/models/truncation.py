"""Truncated backbones: a timm network up to a cut, frozen; what lies behind the cut is not kept.

Source: Nan, Liu, Qian and Song, "A visual self-attention mechanism FER network beyond ConvNeXt", section 3. The text
has the first three stages of ConvNeXt-Base kept; the authors' code cuts inside the third, which is ``auto`` here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from fer_cli.core.errors import FerError
from fer_cli.models.backbones import POOLED, Backbone, Preprocessing, open_backbone

if TYPE_CHECKING:
    from fer_cli.weights.files import WeightsFile

AUTO: Final = "auto"
PUBLISHED: Final = {"convnext_base": "stage3.block23"}
"""Where the authors' code cuts, by architecture."""
SMALLEST: Final = 14
"""Side of the smallest map that ``auto`` takes on other networks: that of the published cut at 224 px."""


@dataclass(frozen=True, slots=True)
class Truncated:
    """A frozen network from preprocessed images (n, 3, S, S) to feature maps (n, channels, side, side).

    Attributes:
        network: always in evaluation mode, whatever holds it; no parameter takes a gradient.
        name: timm's name of the backbone.
        cut: the level or block behind which it was cut, never ``auto``.
        preprocessing: how pixels become its input.
        channels: of the feature map.
        side: height and width of the feature map.
        parameters: how many the kept part has.
        tensors_loaded: from the weights, into the whole network.
    """

    network: nn.Module
    name: str
    cut: str
    preprocessing: Preprocessing
    channels: int
    side: int
    parameters: int
    tensors_loaded: int


class UpTo(nn.Module):
    """A timm network as far as one of its feature levels; tensors keep timm's names behind ``kept.``."""

    def __init__(self, network: nn.Module, index: int) -> None:
        super().__init__()
        self.kept: Any = network
        self.index = index
        self.eval()

    def train(self, mode: bool = True) -> UpTo:  # noqa: ARG002 - frozen: a model around it may train, it may not
        """Stay in evaluation mode."""
        super().train(False)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the feature map (n, channels, side, side) of preprocessed images (n, 3, S, S)."""
        maps: list[torch.Tensor] = self.kept.forward_intermediates(
            x, indices=[self.index], intermediates_only=True, stop_early=True
        )
        return maps[0]


class BlockStart(nn.Module):
    """The depthwise convolution of a timm ConvNeXt block and the norm that follows it."""

    def __init__(self, block: Any) -> None:  # noqa: ANN401 - timm has no types
        super().__init__()
        self.conv_dw = block.conv_dw
        self.norm = block.norm
        self.channels_first: bool = block.use_conv_mlp  # such blocks have a norm for (n, C, H, W)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, C, H, W) of (n, C, H, W)."""
        x = self.conv_dw(x)
        y: torch.Tensor = self.norm(x) if self.channels_first else self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return y


def truncate(name: str, *, cut: str, size: int | None, weights: WeightsFile | None, seed: int = 0) -> Truncated:
    """Build a timm network, load its weights strictly and keep what lies before the cut.

    Args:
        name: timm's name, with or without a tag.
        cut: ``stage1`` (the finest) to the last of the network's feature levels; ``stageN.blockM`` on timm's ConvNeXt
            networks, right after the norm that follows the depthwise convolution of block M of stage N (M from 0, N
            from 1); ``auto`` is the published cut on ConvNeXt-Base, elsewhere the deepest level whose map is
            14x14 or larger.
        size: side of the input in pixels; the network's own where it is None.
        weights: where they come from; None initialises at random.
        seed: of that random initialisation.

    Raises:
        FerError: timm does not know the name, the network has no such cut or cannot take such a size, no level has a
            map large enough for ``auto``, or the weights do not fit.
    """
    return cut_at(open_backbone(name, size=size, weights=weights, seed=seed), cut)


def cut_at(backbone: Backbone, cut: str) -> Truncated:
    """Keep what lies before a cut of a network that is open, which is changed: :func:`truncate`."""
    network: Any = backbone.network
    name = backbone.name
    side = backbone.preprocessing.size
    if not hasattr(network, "forward_intermediates"):
        raise FerError(
            f"{name} exposes no feature levels in timm, so it cannot be truncated", hint="take another backbone"
        )
    if cut == AUTO:
        cut = PUBLISHED.get(name.partition(".")[0]) or _deepest(network, name, side)
    stage, block = _place(network, name, cut)
    network.prune_intermediate_layers([stage - 1], prune_norm=True, prune_head=True)
    if block is not None:
        blocks = network.stages[stage - 1].blocks
        network.stages[stage - 1].blocks = nn.Sequential(*blocks[:block], BlockStart(blocks[block]))
    kept = UpTo(network, stage - 1)
    kept.requires_grad_(False)
    _, channels, height, width = level_shapes(network, name, side, [stage - 1])[0]
    assert height == width
    parameters = sum(parameter.numel() for parameter in kept.parameters())
    return Truncated(kept, name, cut, backbone.preprocessing, channels, height, parameters, backbone.tensors_loaded)


def open_level(name: str, *, level: str, size: int | None, weights: WeightsFile | None) -> Backbone:
    """Open a backbone at one level: ``pooled``, or a cut as :func:`truncate` knows them.

    Raises:
        FerError: as :func:`truncate`.
    """
    if level == POOLED:
        return open_backbone(name, size=size, weights=weights)
    cut = truncate(name, cut=level, size=size, weights=weights)
    own_size = int(cut.network.kept.pretrained_cfg["input_size"][-1])  # type: ignore[union-attr, index]
    return Backbone(cut.network, name, cut.cut, cut.preprocessing, own_size, cut.tensors_loaded)


def _place(network: Any, name: str, cut: str) -> tuple[int, int | None]:  # noqa: ANN401
    """Return the stage, from 1, and the block of it, from 0, that a cut names."""
    from timm.models.convnext import ConvNeXt

    levels = len(network.feature_info)
    stages: Any = network.stages if isinstance(network, ConvNeXt) else ()
    depths = [len(stage.blocks) for stage in stages]
    match = re.fullmatch(r"stage([1-9][0-9]{0,3})(?:\.block(0|[1-9][0-9]{0,3}))?", cut)
    if match is not None:
        stage, block = int(match[1]), None if match[2] is None else int(match[2])
        if stage <= levels and (block is None or (depths and block < depths[stage - 1])):
            return stage, block
    valid = [AUTO, f"stage1 to stage{levels}"]
    valid += [f"stage{number}.block0 to .block{depth - 1}" for number, depth in enumerate(depths, 1)]
    blocks = "" if depths else " (blocks can be named in timm's ConvNeXt networks only)"
    raise FerError(f"{name} has no cut {cut!r}", hint=f"take {', '.join(valid)}{blocks}")


def _deepest(network: Any, name: str, size: int) -> str:  # noqa: ANN401
    levels = range(len(network.feature_info))
    sides = [shape[-1] for shape in level_shapes(network, name, size, levels)]
    if max(sides) >= SMALLEST:
        return f"stage{max(index for index in levels if sides[index] >= SMALLEST) + 1}"
    what = f"no feature level of {name} has a map of {SMALLEST}x{SMALLEST} or more at {size} px, so auto takes none"
    last = len(levels)
    if network.pretrained_cfg.get("fixed_input_size"):
        raise FerError(what, hint=f"name the cut, stage1 to stage{last}, or take another backbone")
    reduction = int(min(info["reduction"] for info in network.feature_info))
    enough = SMALLEST * reduction
    while level_shapes(network, name, enough, [0])[0][-1] < SMALLEST:  # convolutions without padding take some more
        enough += reduction
    hint = f"take {enough} px or more, or name the cut, stage1 to stage{last}"
    raise FerError(what, hint=hint)


def level_shapes(network: Any, name: str, size: int, levels: Any) -> list[torch.Size]:  # noqa: ANN401
    """Return the shapes (1, C, h, w) of some levels' maps of one image: networks round their sides in different ways.

    Raises:
        FerError: the network cannot take the size.
    """
    try:
        with torch.no_grad():  # not inference_mode: networks may keep tensors that they make here
            maps = network.forward_intermediates(
                torch.zeros(1, 3, size, size), indices=list(levels), intermediates_only=True, stop_early=True
            )
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        own = int(network.pretrained_cfg["input_size"][-1])
        raise FerError(
            f"{name} cannot process images of {size} px ({reason})", hint=f"take {own} px, its own"
        ) from error
    return [one.shape for one in maps]
