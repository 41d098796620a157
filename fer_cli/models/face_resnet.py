"""``face_resnet29``: dlib's face recognition network as a timm network, so that whatever takes a backbone takes it.

Source: Davis E. King, dlib 19.3 (2017), a ResNet after He et al., "Deep Residual Learning for Image Recognition" (2016)
with 29 convolutions and half of the channels, trained on three million faces. Its published weights are in the public
domain; :mod:`fer_cli.weights.dlib_file` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fer_cli.core.errors import FerError
from fer_cli.weights.dlib_file import Kind, Layer, read_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CHANNELS: Final = (32, 64, 128, 256, 256)
"""Of the five stages; all but the first begin with a block that halves the side."""
BLOCKS: Final = (3, 4, 3, 3, 1)
DESCRIPTOR: Final = 128
"""Numbers that dlib describes a face with: outputs of the last layer, which has no bias."""
SMALLEST: Final = 64
"""px: the smallest input whose maps keep some room; below it most of a map is padding."""
MEASURED: Final = 256
"""Images that give the batch normalisations their statistics."""
_KERNEL: Final = 3
_CONFIG: Final[dict[str, Any]] = {
    "url": "",
    "num_classes": DESCRIPTOR,
    "input_size": (3, 150, 150),
    "min_input_size": (3, SMALLEST, SMALLEST),
    "pool_size": None,
    "crop_pct": 1.0,
    "interpolation": "bilinear",
    "mean": (122.782 / 255, 117.001 / 255, 104.298 / 255),
    "std": (256 / 255,) * 3,
    "first_conv": "conv1",
    "classifier": "fc",
    "license": "cc0-1.0",
}


class Convolution(nn.Module):
    """A convolution with a bias and the batch normalisation behind it, which dlib folded into an affine layer."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, outputs, h, w) of (n, inputs, H, W)."""
        y: torch.Tensor = self.bn(self.conv(x))
        return y


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut. One that halves the side has a mean of 2x2 pixels as its shortcut.

    There the first convolution is not padded, so that its map may be a pixel smaller than the shortcut's; and it has
    more channels. What is smaller is filled up with zeros at its end before the sum.

    ``skipped`` is the share of images that take the shortcut alone in training (Huang et al. 2016).
    """

    def __init__(self, inputs: int, outputs: int, *, halves: bool, skipped: float = 0.0) -> None:
        super().__init__()
        self.halves = halves
        self.skipped = skipped
        self.conv1 = Convolution(inputs, outputs, _KERNEL, 2 if halves else 1, 0 if halves else 1)
        self.conv2 = Convolution(outputs, outputs, _KERNEL, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, outputs, h, w) of (n, inputs, H, W)."""
        if self.halves:
            x = _filled(x, x.shape[1], max(_KERNEL, x.shape[2]), max(_KERNEL, x.shape[3]))  # of inputs below 100 px
        y = self.conv2(functional.relu(self.conv1(x)))
        if self.training and self.skipped:
            kept = torch.rand((len(y), 1, 1, 1), device=y.device) >= self.skipped
            y = y * (kept.to(y.dtype) / (1 - self.skipped))
        if not self.halves:
            return functional.relu(y + x)
        shortcut = functional.avg_pool2d(x, 2)
        sizes = [max(pair) for pair in zip(y.shape[1:], shortcut.shape[1:], strict=True)]
        return functional.relu(_filled(y, *sizes) + _filled(shortcut, *sizes))


def _filled(x: torch.Tensor, channels: int, height: int, width: int) -> torch.Tensor:
    """Return maps with zeros after their last channels, rows and columns: (n, channels, height, width)."""
    missing = channels - x.shape[1], height - x.shape[2], width - x.shape[3]
    return functional.pad(x, (0, missing[2], 0, missing[1], 0, missing[0])) if any(missing) else x


class FaceResNet(nn.Module):
    """The network in the form of timm's: stages, feature levels, a head that can be left out.

    Its blocks' first convolutions are not padded, so a level's side is a little less than the input's by the level's
    reduction: 35, 17, 8, 4 and 2 of 150 px.
    """

    def __init__(self, num_classes: int = DESCRIPTOR, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.pretrained_cfg = self.default_cfg = dict(_CONFIG)
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = CHANNELS[-1]
        self.conv1 = Convolution(3, CHANNELS[0], 7, 2, 0)
        self.stages = nn.ModuleList()
        inputs = CHANNELS[0]
        skipped = iter(np.linspace(0, drop_path_rate, sum(BLOCKS)).tolist())
        for index, (outputs, depth) in enumerate(zip(CHANNELS, BLOCKS, strict=True)):
            blocks = [
                Block(inputs if not n else outputs, outputs, halves=not n and index > 0, skipped=next(skipped))
                for n in range(depth)
            ]
            self.stages.append(nn.Sequential(*blocks))
            inputs = outputs
        self.feature_info = [
            {"num_chs": channels, "reduction": 4 << index, "module": f"stages.{index}"}
            for index, channels in enumerate(CHANNELS)
        ]
        self.fc: nn.Module
        self.reset_classifier(num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:  # noqa: ARG002 - timm's name
        """Return what tells a parameter's level by its name, from the input on, as timm's networks do."""
        return {"stem": r"^conv1", "blocks": r"^stages\.(\d+)"}

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one; by none for 0 classes."""
        self.num_classes = num_classes
        self.fc = nn.Linear(CHANNELS[-1], num_classes, bias=False) if num_classes else nn.Identity()

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last map (n, 256, h, w) of preprocessed images (n, 3, S, S)."""
        x = self._stem(x)
        for stage in self.stages:
            x = stage(x)
        return x

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Return the means (n, 256) of the last map's channels, or what the last layer makes of them."""
        pooled = x.mean((2, 3))
        y: torch.Tensor = pooled if pre_logits else self.fc(pooled)
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, classes) of preprocessed images (n, 3, S, S): the descriptor of a face with dlib's weights."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        intermediates_only: bool = False,
        stop_early: bool = False,
    ) -> Any:  # noqa: ANN401 - as timm's networks have it: the last map and some levels' maps, or these alone
        """Return the maps of some levels: of all for None, of the last ``indices`` for a number."""
        levels = range(len(CHANNELS))
        if indices is None or isinstance(indices, int):
            wanted = list(levels)[-(indices or len(levels)) :]
        else:
            wanted = [levels[index] for index in indices]
        x, maps = self._stem(x), []
        for index, stage in enumerate(self.stages):
            if stop_early and index > max(wanted):
                break
            x = stage(x)
            if index in wanted:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

    def prune_intermediate_layers(
        self,
        indices: Sequence[int],
        prune_norm: bool = False,  # noqa: ARG002 - timm's name; there is none
        prune_head: bool = True,
    ) -> list[int]:
        """Leave out what lies behind the last of some levels; return the levels."""
        wanted = [range(len(CHANNELS))[index] for index in indices]
        self.stages = self.stages[: max(wanted) + 1]
        if prune_head:
            self.reset_classifier(0)
        return wanted

    def _stem(self, x: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(functional.relu(self.conv1(x)), _KERNEL, 2)


def face_resnet29(
    pretrained: bool = False,  # noqa: ARG001 - timm passes it; weights are loaded by us
    num_classes: int = DESCRIPTOR,
    drop_path_rate: float = 0.0,
    **_: Any,  # noqa: ANN401 - what timm passes to every network
) -> FaceResNet:
    """Return the network with random weights; timm calls it where it was told of it."""
    return FaceResNet(num_classes, drop_path_rate)


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of :class:`FaceResNet` from the file that dlib publishes.

    An affine layer becomes a batch normalisation with mean 0 and variance 1, which does the same in evaluation mode;
    :func:`restore_statistics` gives it true ones before it is trained.

    Raises:
        FerError: the file is damaged, or it holds another network.
    """
    layers = iter(read_layers(path))
    network = FaceResNet()
    tensors: dict[str, torch.Tensor] = {}
    for name, module in network.named_modules():
        if not isinstance(module, Convolution):
            continue
        filters, channels = module.conv.weight.numel(), len(module.bn.weight)
        convolution = _next(layers, "con", filters + channels, path)
        affine = _next(layers, "affine", 2 * channels, path)
        tensors |= {
            f"{name}.conv.weight": convolution[:filters].view(module.conv.weight.shape),
            f"{name}.conv.bias": convolution[filters:],
            f"{name}.bn.weight": affine[:channels] * (1 + module.bn.eps) ** 0.5,
            f"{name}.bn.bias": affine[channels:],
            f"{name}.bn.running_mean": torch.zeros(channels),
            f"{name}.bn.running_var": torch.ones(channels),
            f"{name}.bn.num_batches_tracked": torch.tensor(0),
        }
    matrix = _next(layers, "fc", CHANNELS[-1] * DESCRIPTOR, path)
    tensors["fc.weight"] = matrix.view(CHANNELS[-1], DESCRIPTOR).T.contiguous()
    if next(layers, None) is not None:
        raise _other(path)
    return tensors


def _next(layers: Iterator[Layer], kind: Kind, count: int, path: Path) -> torch.Tensor:
    layer = next(layers, None)
    if layer is None or layer.kind != kind or layer.values.size != count:
        raise _other(path)
    return torch.from_numpy(layer.values.reshape(-1))


def _other(path: Path) -> FerError:
    return FerError(
        "is another network of dlib's than its face recognition ResNet",
        hint="give dlib_face_recognition_resnet_model_v1.dat",
        path=path,
    )


def ready_to_train(
    backbone: nn.Module, inputs: Callable[[NDArray[np.int64]], torch.Tensor], rows: NDArray[np.int64]
) -> None:
    """Restore the statistics of dlib's weights where a backbone has them; leave any other backbone as it is.

    Args:
        backbone: with pretrained weights, in evaluation mode.
        inputs: preprocessed images (n, 3, S, S) of rows, without augmentation.
        rows: (n,) of what will be trained on: :data:`MEASURED` of them, evenly spaced, are measured.
    """
    if isinstance(backbone, FaceResNet) and _has_no_statistics(backbone):
        spaced = np.linspace(0, len(rows) - 1, min(MEASURED, len(rows))).round().astype(np.int64)
        restore_statistics(backbone, inputs(rows[spaced]))


def _has_no_statistics(network: FaceResNet) -> bool:
    """Tell whether the batch normalisations are the affine layers still that :func:`tensors_of` gives."""
    buffers = [buffer for name, buffer in network.named_buffers() if name.endswith("running_var")]
    return all(torch.equal(buffer, torch.ones_like(buffer)) for buffer in buffers)


def _norms(network: FaceResNet) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def restore_statistics(network: FaceResNet, images: torch.Tensor) -> None:
    """Give the batch normalisations the statistics of some images, and change nothing that the network returns.

    dlib folded mean and variance into an affine layer. To train one as it stands diverges; so mean m and variance v of
    each convolution's output become the layer's statistics, gamma * sqrt(v + eps) its factor and beta + gamma * m its
    offset, where gamma and beta are the affine layer's.

    Args:
        network: in evaluation mode, with dlib's weights.
        images: preprocessed, (n, 3, S, S); some hundreds of what is trained on.
    """

    def measure(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        assert module.running_mean is not None
        assert module.running_var is not None
        variance, mean = torch.var_mean(inputs[0].double(), (0, 2, 3), correction=0)
        scale = module.weight.double() / (1 + module.eps) ** 0.5
        module.bias.copy_(module.bias.double() + scale * mean)
        module.weight.copy_(scale * (variance + module.eps).sqrt())
        module.running_mean.copy_(mean)
        module.running_var.copy_(variance)

    hooks = [module.register_forward_pre_hook(measure) for module in _norms(network)]
    try:
        network.forward_features(images)
    finally:
        for hook in hooks:
            hook.remove()
