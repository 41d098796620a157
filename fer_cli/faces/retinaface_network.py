"""The network of RetinaFace (Deng et al. 2020), its parameters named as in Pytorch_Retinaface's published weights.

It is written here and not taken from facexlib, so that a face is found without OpenCV and torchvision: their imports
take longer than the network needs for a photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from fer_cli.faces.retinaface_answers import BOX, POINTS, STRIDES, faces_of, pixels_of

_SCORES: Final = 2


class RetinaFaceNetwork(nn.Module):
    """Finds faces and five points of each.

    Args:
        name: ``mobile0.25`` or ``resnet50``.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        widths, channels = ((64, 128, 256), 64) if name == "mobile0.25" else ((512, 1024, 2048), 256)
        self.body: nn.Module = _MobileNet() if name == "mobile0.25" else _ResNet50()
        slope = 0.1 if channels <= 64 else 0.0
        self.fpn = _Pyramid(widths, channels, slope)
        self.ssh1, self.ssh2, self.ssh3 = (_Context(channels, slope) for _ in range(3))
        self.ClassHead, self.BboxHead, self.LandmarkHead = (
            nn.ModuleList(_Head(channels, 2 * numbers) for _ in STRIDES) for numbers in (_SCORES, BOX, POINTS)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return boxes (n, a, 4), the probabilities of a face (n, a) and points (n, a, 10), all relative to anchors.

        Args:
            x: (n, 3, H, W), blue, green and red from 0 to 255, less their means.
        """
        levels = self.fpn(self.body(x))
        levels = [context(level) for context, level in zip((self.ssh1, self.ssh2, self.ssh3), levels, strict=True)]

        def read(heads: nn.ModuleList, numbers: int) -> torch.Tensor:
            parts = [head(level) for head, level in zip(heads, levels, strict=True)]
            return torch.cat([part.permute(0, 2, 3, 1).reshape(len(x), -1, numbers) for part in parts], 1)

        scores = torch.softmax(read(self.ClassHead, _SCORES), -1)[..., 1]
        return read(self.BboxHead, BOX), scores, read(self.LandmarkHead, POINTS)

    def batched_detect_faces(
        self, frames: NDArray[np.float32], confidence: float, overlap: float
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Return what :func:`fer_cli.faces.retinaface_answers.faces_of` says of frames (n, H, W, 3)."""
        device = next(self.parameters()).device
        with torch.inference_mode():
            x = torch.from_numpy(pixels_of(frames)).to(device, memory_format=torch.channels_last)
            places, scores, points = (part.float().cpu().numpy() for part in self(x))
        return faces_of((places, scores, points), frames.shape[1:3], confidence, overlap)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, slope: float | None = None) -> nn.Sequential:
    """Return a convolution with batch normalisation and, where there is a slope, a leaky ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([] if slope is None else [nn.LeakyReLU(slope)]))


def _separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return a convolution of each channel and one across channels, each with normalisation and leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.LeakyReLU(0.1),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1),
    )


class _MobileNet(nn.Module):
    """MobileNet (Howard et al. 2017) with a quarter of the channels; maps at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        first = [(8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)]
        self.stage1 = nn.Sequential(_convolution(3, 8, 3, 2, 0.1), *(_separable(*layer) for layer in first))
        self.stage2 = nn.Sequential(_separable(64, 128, 2), *(_separable(128, 128, 1) for _ in range(5)))
        self.stage3 = nn.Sequential(_separable(128, 256, 2), _separable(256, 256, 1))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        first = self.stage1(x)
        second = self.stage2(first)
        return [first, second, self.stage3(second)]


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, *, projects: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
            if projects
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class _ResNet50(nn.Module):
    """ResNet-50 (He et al. 2016); maps at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inputs = 64
        for number, depth in enumerate((3, 4, 6, 3)):
            width, blocks = 64 << number, []
            for block in range(depth):
                stride = 2 if number and not block else 1
                blocks.append(_Bottleneck(inputs, width, stride, projects=not block))
                inputs = 4 * width
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        maps = []
        for number in range(4):
            x = self.get_submodule(f"layer{number + 1}")(x)
            maps.append(x)
        return maps[1:]


class _Pyramid(nn.Module):
    """A feature pyramid (Lin et al. 2017): each level has the coarser ones added to it."""

    def __init__(self, inputs: Sequence[int], channels: int, slope: float) -> None:
        super().__init__()
        self.output1, self.output2, self.output3 = (_convolution(width, channels, 1, 1, slope) for width in inputs)
        self.merge1, self.merge2 = (_convolution(channels, channels, 3, 1, slope) for _ in range(2))

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        fine, middle, coarse = self.output1(maps[0]), self.output2(maps[1]), self.output3(maps[2])
        middle = self.merge2(middle + functional.interpolate(coarse, middle.shape[2:], mode="nearest"))
        fine = self.merge1(fine + functional.interpolate(middle, fine.shape[2:], mode="nearest"))
        return [fine, middle, coarse]


class _Context(nn.Module):
    """What a place sees around it at three ranges (Najibi et al. 2017, SSH), side by side."""

    def __init__(self, channels: int, slope: float) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.conv3X3 = _convolution(channels, half, 3)
        self.conv5X5_1 = _convolution(channels, quarter, 3, 1, slope)
        self.conv5X5_2 = _convolution(quarter, quarter, 3)
        self.conv7X7_2 = _convolution(quarter, quarter, 3, 1, slope)
        self.conv7x7_3 = _convolution(quarter, quarter, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wider = self.conv5X5_1(x)
        ranges = [self.conv3X3(x), self.conv5X5_2(wider), self.conv7x7_3(self.conv7X7_2(wider))]
        return functional.relu(torch.cat(ranges, 1))


class _Head(nn.Module):
    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(channels, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.conv1x1(x))
