"""Attention by name: se, eca, cbam (timm's modules), aff and psa, and where each goes in a network.

Inside the residual blocks of timm's ResNets (ResNet, ResNeXt, Wide ResNet: every block a plain ``BasicBlock`` or
``Bottleneck`` without attention of its own): se, eca and cbam act on the block's last batch norm, before the sum; aff
replaces the sum; psa replaces the 3x3 convolution of a bottleneck (:mod:`fer_cli.models.psa`). On any other network se,
eca and cbam act once, on the last feature map before pooling.

Each but psa begins as near to harmless as its definition allows, so that pretrained weights stay worth something:

- aff: the last batch norms have scale 0, so the gate is 1/2 and the block gives the plain sum, exactly;
- se, cbam: the layer before a gate has weight 0 and a bias that opens it to sigmoid(4) = 0.982;
- eca: its convolution has no bias, so with weight 0 the gate is 1/2: every map is halved, none more than another.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from fer_cli.models.psa import Pyramid, pyramid_in_bottlenecks

ATTENTIONS: Final = ("none", "se", "eca", "cbam", "aff", "psa")
GATE: Final = 4.0
"""What a gate's sigmoid is given at the start: open enough to do no harm, and still with a slope."""

_BASIC: Final = ("conv1", "bn1", "drop_block", "act1", "aa", "conv2", "bn2")
_BOTTLENECK: Final = ("conv1", "bn1", "act1", "conv2", "bn2", "drop_block", "act2", "aa", "conv3", "bn3")


class AFF(nn.Module):
    """Attentional feature fusion of two maps (Dai et al., WACV 2021, section 3).

    M = sigmoid(L(X + Y) + g(X + Y)), Z = 2 (M X + (1 - M) Y), where L looks at each position and g at the mean over
    positions: 1x1 convolution to a ``reduction``-th of the channels, batch norm, ReLU, 1x1 convolution back, batch
    norm. The paper's equation has no 2, its authors' code has: with it, M = 1/2 is the residual sum that is replaced.

    In training mode g has one value per image and channel, so that a batch of one image is an error of torch's.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.local = _context(channels, reduction)
        self.whole = _context(channels, reduction)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the fusion (n, C, H, W) of two maps of that shape."""
        both = x + y
        share = torch.sigmoid(self.local(both) + self.whole(both.mean((2, 3), keepdim=True)))
        return 2 * (share * x + (1 - share) * y)


class FusedBlock(nn.Module):
    """A residual block of timm's ResNet with :class:`AFF` for the sum; all other layers keep their names."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        bottleneck = hasattr(block, "conv3")
        self.order = _BOTTLENECK if bottleneck else _BASIC
        self.last = "act3" if bottleneck else "act2"
        for name, child in block.named_children():
            self.add_module(name, child)
        self.aff = AFF(_channels(block))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, C, H / stride, W / stride)."""
        y = x
        for name in (*self.order, "drop_path"):
            y = self._through(name, y)
        z: torch.Tensor = self._through(self.last, self.aff(y, self._through("downsample", x)))
        return z

    def _through(self, name: str, x: torch.Tensor) -> torch.Tensor:
        # Blocks without a downsampling or a drop path have no such child.
        layer = self._modules.get(name)
        return x if layer is None else layer(x)


def new_attention(attention: str, channels: int) -> nn.Module:
    """Return se, eca or cbam for maps of ``channels``, nearly harmless (the module's documentation says how)."""
    from timm.layers.cbam import CbamModule
    from timm.layers.eca import EcaModule
    from timm.layers.squeeze_excite import SEModule

    module: Any
    if attention == "se":
        module = SEModule(channels)
        nn.init.zeros_(module.fc2.weight)
        nn.init.constant_(module.fc2.bias, GATE)
    elif attention == "eca":
        module = EcaModule(channels)
        nn.init.zeros_(module.conv.weight)
    else:
        assert attention == "cbam"
        # With biases, as the authors' code has them: without, the channel gate could begin at 1/2 only.
        module = CbamModule(channels, mlp_bias=True)
        nn.init.zeros_(module.channel.fc2.weight)
        nn.init.constant_(module.channel.fc2.bias, GATE / 2)  # counts twice: for the mean and for the maximum
        nn.init.zeros_(module.spatial.conv.bn.weight)
        nn.init.constant_(module.spatial.conv.bn.bias, GATE)
    attending: nn.Module = module
    return attending


def attend_in_blocks(network: nn.Module, attention: str, pyramid: Pyramid | None = None) -> tuple[str, ...]:
    """Put attention into every residual block and return the names of the new modules.

    Args:
        network: of timm.
        attention: one of :data:`ATTENTIONS` but none.
        pyramid: the form of psa.

    Returns:
        Nothing where the network is not a ResNet whose blocks can take it; it is left as it was.
    """
    blocks = _plain_blocks(network)
    if attention == "psa":
        return pyramid_in_bottlenecks(network, pyramid or Pyramid()) if blocks else ()
    names = []
    for name, block in blocks:
        if attention == "aff":
            network.set_submodule(name, FusedBlock(block))
            names.append(f"{name}.aff")
        else:
            block.se = new_attention(attention, _channels(block))
            names.append(f"{name}.se")
    return tuple(names)


def _plain_blocks(network: nn.Module) -> list[tuple[str, Any]]:
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    if not isinstance(network, ResNet):
        return []
    blocks = [
        (f"{stage}.{number}", block)
        for stage in ("layer1", "layer2", "layer3", "layer4")
        for number, block in network.get_submodule(stage).named_children()
    ]
    # A subclass has a forward pass of its own, of which nothing is known here.
    plain = all(type(block) in (BasicBlock, Bottleneck) and block.se is None for _, block in blocks)
    return blocks if plain else []


def _channels(block: Any) -> int:  # noqa: ANN401 - timm's blocks share no typed base
    last = block.conv3 if hasattr(block, "conv3") else block.conv2
    return int(last.out_channels)


def _context(channels: int, reduction: int) -> nn.Sequential:
    inner = max(1, channels // reduction)
    norm = nn.BatchNorm2d(channels)
    nn.init.zeros_(norm.weight)
    return nn.Sequential(
        nn.Conv2d(channels, inner, 1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(inplace=True),
        nn.Conv2d(inner, channels, 1, bias=False),
        norm,
    )
