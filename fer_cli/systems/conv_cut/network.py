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

Attention = Literal["tokens", "channels", "none", "batch"]
Form = Literal["code", "paper"]
WIDTH: Final = 256
"""Channels of every layer of the detail block."""
DENSE: Final = 32
"""Units of the code's dense layer."""
DROPOUT: Final = 0.1
EPSILON: Final = 1e-3
"""Of the norms, as in Keras: detail maps start out with variances far below it, so it shapes what attention sees."""
LEAST: Final = {"tokens": 2}
"""Side of the smallest detail map by attention, 1 elsewhere: among fewer than four positions little is to be chosen."""

_STRIDES: Final = (4, 2, 2)  # of the detail block's layers; each kernel is as large as its stride


class SeparableConv(nn.Module):
    """Depthwise convolution without a bias, 1x1 convolution with one, ReLU; nothing in between (as in Keras).

    Args:
        i: channels of the input.
        o: channels of the output.
        stride: of the depthwise convolution, and the side of its kernel.
        same: pad as TensorFlow's ``same`` does (output side = side / stride, rounded up; the odd pixel last); else not
            at all (rounded down).
    """

    def __init__(self, i: int, o: int, *, stride: int, same: bool) -> None:
        super().__init__()
        self.stride = stride
        self.same = same
        self.depthwise = nn.Conv2d(i, i, stride, stride, groups=i, bias=False)
        self.pointwise = nn.Conv2d(i, o, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, o, h, w) of (n, i, H, W)."""
        if self.same:
            down, right = -x.shape[-2] % self.stride, -x.shape[-1] % self.stride
            x = functional.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        y: torch.Tensor = self.pointwise(self.depthwise(x))
        return functional.relu(y)


class DetailBlock(nn.Sequential):
    """One to three separable convolutions to 256 channels: 4x4 with stride 4, then 2x2 with stride 2.

    The paper compares one, two and three layers (Table 3) and describes the first two. The third repeats the second: it
    halves the side once more, and of a 14x14 map it leaves a single position, as pooling would.

    Args:
        channels: of the feature map.
        layers: 1, 2 or 3.
    """

    def __init__(self, channels: int, layers: int) -> None:
        assert 1 <= layers <= len(_STRIDES)
        widths = [channels, *[WIDTH] * layers]
        super().__init__(
            *(
                SeparableConv(i, WIDTH, stride=stride, same=not number)
                for number, (i, stride) in enumerate(zip(widths, _STRIDES[:layers], strict=False))
            )
        )


class ConvCutHead(nn.Module):
    """From feature maps to logits.

    ``form="code"``: detail block, layer norm over the channels, spatial dropout, (tokens), mean over the positions,
    dropout, dense layer of 32 with ReLU and batch norm, (channels or batch), dropout, linear classifier.
    ``form="paper"``, Algorithm 1: batch norm of the feature map, detail block, spatial dropout, (tokens), mean over
    the positions, (channels or batch), linear classifier, which the algorithm leaves to the reader.

    Attention has no weights: softmax(YY' / sqrt(d)) Y, where the rows of Y and d are

    - ``tokens``: the positions of one image, before pooling; d channels each.
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

    Raises:
        FerError: the detail block leaves nothing of such a map, or too little for attention over tokens.
    """

    def __init__(
        self, channels: int, side: int, classes: int, *, detail: int, attention: Attention, form: Form
    ) -> None:
        super().__init__()
        assert 0 <= detail <= len(_STRIDES)
        assert attention in get_args(Attention)
        assert form in get_args(Form)
        _check_side(side, detail, attention)
        width = WIDTH if detail else channels
        self.attention = attention
        self.norm_input = nn.BatchNorm2d(channels, eps=EPSILON) if form == "paper" else nn.Identity()
        self.detail = DetailBlock(channels, detail) if detail else nn.Identity()
        self.norm = nn.LayerNorm(width, eps=EPSILON) if form == "code" else nn.Identity()
        self.spatial_dropout = nn.Dropout1d(DROPOUT)
        self.dense: nn.Module = nn.Identity()
        self.dropout: nn.Module = nn.Identity()
        if form == "code":
            # The running means follow at torch's pace: Keras's takes 500 steps until evaluation mode means anything.
            norm = nn.BatchNorm1d(DENSE, eps=EPSILON)
            self.dense = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(width, DENSE), nn.ReLU(), norm)
            self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(DENSE if form == "code" else width, classes)
        self.apply(_start)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (n, classes) of feature maps (n, channels, side, side)."""
        y: torch.Tensor = self.detail(self.norm_input(x))
        y = self.norm(y.flatten(2).mT)
        y = self.spatial_dropout(y.mT).mT
        if self.attention == "tokens":
            y = attend(y)
        y = self.dense(y.mean(1))
        if self.attention == "channels":
            y = attend(y[..., None])[..., 0]
        elif self.attention == "batch":
            y = attend(y)
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


def attend(y: torch.Tensor) -> torch.Tensor:
    """Return softmax(YY' / sqrt(d)) Y of the matrices (..., rows, d): Algorithm 1, equation 2 without projections."""
    return torch.softmax(y @ y.mT / math.sqrt(y.shape[-1]), -1) @ y


def detail_side(side: int, layers: int) -> int:
    """Return the side of what the detail block makes of a map, 0 where nothing is left."""
    for number, stride in enumerate(_STRIDES[:layers]):
        side = side // stride if number else -(-side // stride)
    return side


def _check_side(side: int, detail: int, attention: Attention) -> None:
    least = LEAST.get(attention, 1)
    left = detail_side(side, detail)
    if left >= least:
        return
    enough = next(larger for larger in range(side, 1000) if detail_side(larger, detail) >= least)
    times = math.ceil(10 * enough / side) / 10
    larger = f"a data.size about {times} times as large (a map of {enough}x{enough})"
    fewer = next((layers for layers in range(detail - 1, -1, -1) if detail_side(side, layers) >= least), None)
    where = f"a {side}x{side} map" + (f" after {detail} detail layers" if detail else "")
    raise FerError(
        f"attention over {attention} needs {least * least} positions or more, and {where} has {left * left}"
        if least > 1
        else f"{detail} detail layers leave nothing of a {side}x{side} map",
        hint=f"take {larger}" if fewer is None else f"take --set model.detail={fewer}, or {larger}",
    )


def _start(module: nn.Module) -> None:
    """Start the weights as Keras does (Glorot and Bengio 2010, uniform; no bias)."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
