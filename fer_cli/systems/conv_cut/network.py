"""The head of Conv-cut: detail block, attention, classifier, on the maps of a truncated backbone.

Source: Nan, Liu, Qian and Song, "A visual self-attention mechanism FER network beyond ConvNeXt", section 3, Algorithm
1 and equations 1 and 2, and what the authors' own code runs, which is another head (:class:`ConvCutHead`).
"""

from __future__ import annotations

import math
from typing import Final, Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from fer_cli.core.errors import FerError
from fer_cli.systems.conv_cut.attention import LearnedAttention, SelfAttention

Attention = Literal["learned", "tokens", "channels", "none", "batch"]
After = Literal["first", "last"]
Form = Literal["code", "paper"]
POSITIONS: Final = ("learned", "tokens")
"""Attentions over the positions of an image."""
WIDTH: Final = 256
"""Channels of every layer of the detail block."""
DENSE: Final = 32
"""Units of the code's dense layer."""
DROPOUT: Final = 0.1
EPSILON: Final = 1e-3
"""Of the norms, as in Keras: detail maps start out with variances far below it, so it shapes what attention sees."""
LEAST: Final = 2
"""Side of the smallest map for attention over positions: among fewer than four little is to be chosen."""

_KERNELS: Final = (4, 2, 2)  # of the detail block's layers; strides are as large, but for the first where it is set


class SeparableConv(nn.Module):
    """Depthwise convolution without a bias, 1x1 convolution with one, ReLU; nothing in between (as in Keras).

    Args:
        i: channels of the input.
        o: channels of the output.
        kernel: its side, of the depthwise convolution.
        stride: of the depthwise convolution.
        same: pad as TensorFlow's ``same`` does (output side = side / stride, rounded up; the odd pixel last); else not
            at all (rounded down).
    """

    def __init__(self, i: int, o: int, *, kernel: int, stride: int, same: bool) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.same = same
        self.depthwise = nn.Conv2d(i, i, kernel, stride, groups=i, bias=False)
        self.pointwise = nn.Conv2d(i, o, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, o, h, w) of (n, i, H, W)."""
        if self.same:
            down, right = (self._padding(side) for side in x.shape[-2:])
            x = functional.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        y: torch.Tensor = self.pointwise(self.depthwise(x))
        return functional.relu(y)

    def _padding(self, side: int) -> int:
        return max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)


class DetailBlock(nn.Sequential):
    """One to three separable convolutions to 256 channels: 4x4 with stride 4, then 2x2 with stride 2.

    The paper compares one, two and three layers (Table 3) and describes the first two. The third repeats the second: it
    halves the side once more, and of a 14x14 map it leaves a single position, as pooling would.

    Args:
        channels: of the feature map.
        layers: 1, 2 or 3.
        stride: of the first layer.
    """

    def __init__(self, channels: int, layers: int, stride: int = _KERNELS[0]) -> None:
        assert 1 <= layers <= len(_KERNELS)
        first = SeparableConv(channels, WIDTH, kernel=_KERNELS[0], stride=stride, same=True)
        super().__init__(
            first, *(SeparableConv(WIDTH, WIDTH, kernel=side, stride=side, same=False) for side in _KERNELS[1:layers])
        )


class ConvCutHead(nn.Module):
    """From feature maps to logits.

    ``form="code"``: detail block, layer norm over the channels, spatial dropout, (learned or tokens), mean over the
    positions, dropout, dense layer of 32 with ReLU and batch norm, (channels or batch), dropout, linear classifier.
    ``form="paper"``, Algorithm 1: batch norm of the feature map, detail block, spatial dropout, (learned or tokens),
    mean over the positions, (channels or batch), linear classifier, which the algorithm leaves to the reader.

    Attention is softmax(QK' / sqrt(d)) V over

    - ``learned``: the positions of one image, with learned queries, keys and values, added to its input
      (:class:`fer_cli.systems.conv_cut.attention.LearnedAttention`).
    - ``tokens``: the positions of one image, Q = K = V = Y as in Algorithm 1. It learns nothing. Behind a layer norm
      over d channels a position's logit with itself is about sqrt(d), so that it is near the identity.
    - ``channels``: the channels of one image, after pooling, one number each, d = 1. It is what Algorithm 1 says if
      its Y is one image's column, and it differs from ``batch`` in nothing but the axis.
    - ``batch``: the samples of the batch, after pooling; d channels each. It is the published layer and its flaw: a
      prediction depends on its neighbours. Of one image it is the identity.

    Args:
        channels: of the feature map.
        side: of the feature map.
        classes: number of classes.
        detail: layers of the detail block, 0 (none, as in Table 2) to 3.
        attention: see above.
        form: see above.
        after: which layer of the detail block attention over positions stands behind. Behind the first it has more of
            them, and they are those of the feature map where there is no detail block.
        stride: of the detail block's first layer.

    Raises:
        FerError: the detail block leaves nothing of such a map, or too little for attention over positions.
    """

    def __init__(
        self,
        channels: int,
        side: int,
        classes: int,
        *,
        detail: int,
        attention: Attention,
        form: Form,
        after: After = "last",
        stride: int = _KERNELS[0],
    ) -> None:
        super().__init__()
        assert 0 <= detail <= len(_KERNELS)
        assert attention in get_args(Attention)
        assert form in get_args(Form)
        _check_side(side, detail, attention, after, stride)
        width = WIDTH if detail else channels
        self.over = "positions" if attention in POSITIONS else attention
        self.after: After = after if self.over == "positions" and detail else "last"
        self.norm_input = nn.BatchNorm2d(channels, eps=EPSILON) if form == "paper" else nn.Identity()
        self.detail = DetailBlock(channels, detail, stride) if detail else nn.Identity()
        self.norm = nn.LayerNorm(width, eps=EPSILON) if form == "code" else nn.Identity()
        self.spatial_dropout = nn.Dropout1d(DROPOUT)
        self.attention: SelfAttention | None = None
        if attention == "learned":
            self.attention = LearnedAttention(width)
        elif attention != "none":
            self.attention = SelfAttention()
        self.dense: nn.Module = nn.Identity()
        self.dropout: nn.Module = nn.Identity()
        if form == "code":
            # The running means follow at torch's pace: Keras's takes 500 steps until evaluation mode means anything.
            norm = nn.BatchNorm1d(DENSE, eps=EPSILON)
            self.dense = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(width, DENSE), nn.ReLU(), norm)
            self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(DENSE if form == "code" else width, classes)
        self.apply(_start)
        if isinstance(self.attention, LearnedAttention):
            self.attention.start_small()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (n, classes) of feature maps (n, channels, side, side)."""
        y = self.norm_input(x)
        if self.attention is not None and self.after == "first":
            assert isinstance(self.detail, DetailBlock)
            first, *others = self.detail
            y = first(y)
            y = self.attention(y.flatten(2).mT).mT.unflatten(2, y.shape[2:])
            for layer in others:
                y = layer(y)
        else:
            y = self.detail(y)
        y = self.norm(y.flatten(2).mT)
        y = self.spatial_dropout(y.mT).mT
        if self.attention is not None and self.over == "positions" and self.after == "last":
            y = self.attention(y)
        y = self.dense(y.mean(1))
        if self.attention is not None and self.over == "channels":
            y = self.attention(y[..., None])[..., 0]
        elif self.attention is not None and self.over == "batch":
            y = self.attention(y)
        logits: torch.Tensor = self.classifier(self.dropout(y))
        return logits


class ConvCut(nn.Module):
    """A frozen backbone up to its cut, and the head: preprocessed images (n, 3, S, S) to logits (n, classes)."""

    def __init__(self, backbone: nn.Module, head: ConvCutHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    @property
    def trunk(self) -> nn.Module:
        """The frozen part, which models of one backbone share."""
        return self.backbone

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (n, classes)."""
        logits: torch.Tensor = self.head(self.backbone(x))
        return logits


def detail_side(side: int, layers: int, stride: int = _KERNELS[0]) -> int:
    """Return the side of what the detail block makes of a map, 0 where nothing is left."""
    for number, kernel in enumerate(_KERNELS[:layers]):
        side = side // kernel if number else -(-side // stride)
    return side


def _check_side(side: int, detail: int, attention: Attention, after: After = "last", stride: int = _KERNELS[0]) -> None:
    """Refuse what leaves no map, or too few positions where attention over them stands."""
    over_positions = attention in POSITIONS

    def suits(side: int, detail: int, after: After, stride: int) -> bool:
        seen = min(detail, 1) if after == "first" else detail
        enough = not over_positions or detail_side(side, seen, stride) >= LEAST
        return enough and detail_side(side, detail, stride) >= 1

    if suits(side, detail, after, stride):
        return
    ways = []
    fewer = next((layers for layers in range(detail - 1, -1, -1) if suits(side, layers, after, stride)), None)
    if fewer is not None:
        ways.append(f"--set model.detail={fewer}")
    if after == "last" and suits(side, detail, "first", stride):
        ways.append("--set model.attention_after=first")
    smaller = next((one for one in (2, 1) if one < stride and suits(side, detail, after, one)), None)
    if smaller is not None:
        ways.append(f"--set model.detail_stride={smaller}")
    larger = next(other for other in range(side, 1000) if suits(other, detail, after, stride))
    ways.append(f"a data.size about {math.ceil(10 * larger / side) / 10} times as large (a map of {larger}x{larger})")
    layers = min(detail, 1) if after == "first" else detail
    left = detail_side(side, layers, stride)
    where = f"a {side}x{side} map" + (f" after {layers} detail layer{'s' if layers > 1 else ''}" if layers else "")
    nothing = detail_side(side, detail, stride) < 1
    raise FerError(
        f"{detail} detail layers leave nothing of a {side}x{side} map"
        if nothing
        else f"attention over positions ({attention}) needs {LEAST**2} of them or more, and {where} has {left**2}",
        hint=f"take {', or '.join(ways)}",
    )


def _start(module: nn.Module) -> None:
    """Start the weights as Keras does (Glorot and Bengio 2010, uniform; no bias)."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
