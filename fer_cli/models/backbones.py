"""Frozen backbones: any timm network, up to the features that it pools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fer_cli.core.errors import FerError
from fer_cli.weights.files import WeightsFile, load_strictly, load_tensors
from fer_cli.weights.networks import FACE_RESNET, check_architecture

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

POOLED = "pooled"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How pixels become a network's input: resized to ``size`` squared, scaled to [0, 1], standardised by channel.

    With ``crop`` images are resized to more than that, and this share of the side is cropped away about the centre.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop: float = 0.0

    @property
    def uncropped(self) -> int:
        """Side of the image before the crop, px."""
        return round(self.size / (1 - self.crop))

    def record(self) -> dict[str, Any]:
        """Return what artifacts record."""
        return {
            "size": self.size,
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "antialias": True,
            "range": "[0, 1]",
            **({"crop": self.crop} if self.crop else {}),
        }

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Turn uint8 (n, H, W) or (n, H, W, 3) into float32 (n, 3, size, size), channels last."""
        side = self.uncropped
        x = self.resized(images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2), side, side)
        margin = (side - self.size) // 2
        return self.standardised(x[..., margin : margin + self.size, margin : margin + self.size])

    def seen(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the part of an image (H, W) or (H, W, 3) that is not cropped away."""
        top, left = (round(side * self.crop / 2) for side in image.shape[:2])
        return image[top : image.shape[0] - top, left : image.shape[1] - left]

    def resized(self, pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Return float32 (n, c, height, width) in [0, 255] of uint8 (n, c, H, W); a grey image is resized once."""
        import torch
        from torch.nn import functional

        x = pixels.to(torch.float32)
        if x.shape[-2:] == (height, width):
            return x
        return functional.interpolate(
            x, (height, width), mode=self.interpolation, antialias=True, align_corners=False
        ).clamp_(0, 255)

    def standardised(self, x: torch.Tensor) -> torch.Tensor:
        """Return float32 (n, 3, size, size), channels last, of float32 (n, 1 or 3, size, size) in [0, 255]."""
        import torch

        mean = torch.tensor(self.mean, device=x.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=x.device).view(1, -1, 1, 1)
        out = torch.empty((len(x), 3, self.size, self.size), device=x.device, memory_format=torch.channels_last)
        torch.mul(x, 1 / (255 * std), out=out)
        return out.sub_(mean / std)


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network in evaluation mode that returns its pooled features, or the maps before a cut (``level``).

    ``whole`` is the trained model that it is of, where it is of one, and ``answer`` its logits (n, C) of preprocessed
    images (n, 3, size, size) and their features.
    """

    network: nn.Module
    name: str
    level: str
    preprocessing: Preprocessing
    own_size: int  # px, what timm gives it
    tensors_loaded: int
    whole: nn.Module | None = None
    answer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, d) for ``pooled``, (n, C, H, W) for a cut, of preprocessed images (n, 3, size, size)."""
        network: Any = self.network
        if self.level == POOLED:
            pooled: torch.Tensor = network.forward_head(network.forward_features(x), pre_logits=True)
            return pooled
        maps: torch.Tensor = network(x)
        return maps


def open_backbone(name: str, *, size: int | None, weights: WeightsFile | None, seed: int = 0) -> Backbone:
    """Build a timm network and load its weights strictly.

    Args:
        name: timm's name, with or without a tag (``convnext_base.fb_in22k_ft_in1k``).
        size: side of the input in pixels; the network's own where it is None.
        weights: where they come from; None initialises at random.
        seed: of that random initialisation.

    Raises:
        FerError: timm does not know the name, the network takes no such size, or the weights do not fit.
    """
    import torch

    check_name(name)
    tensors = None if weights is None else load_tensors(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = networks().create_model(name, pretrained=False, **_head(name, tensors))
    preprocessing = preprocessing_of(network, name, size)
    loaded = 0
    if tensors is not None and weights is not None:
        loaded = load_strictly(network, tensors, weights.path)
    network.eval().requires_grad_(False)
    own_size = int(network.pretrained_cfg["input_size"][-1])
    return Backbone(network.to(memory_format=torch.channels_last), name, POOLED, preprocessing, own_size, loaded)


def preprocessing_of(
    network: Any,  # noqa: ANN401 - timm has no types
    name: str,
    size: int | None,
    crop: float = 0.0,
) -> Preprocessing:
    """Return what images of a size become before a timm network sees them.

    Args:
        network: built by timm.
        name: its name.
        size: side in pixels; the network's own where it is None.
        crop: share of the side that is cropped away before that.

    Raises:
        FerError: the network takes no such size.
    """
    cfg = network.pretrained_cfg
    native_size = int(cfg["input_size"][-1])
    if cfg.get("fixed_input_size") and size not in (None, native_size):
        raise FerError(
            f"{name} takes images of {native_size} px only",
            hint=f"take {native_size} px (--size; in a recipe data.size)",
        )
    mode = cfg["interpolation"] if cfg["interpolation"] in {"bilinear", "bicubic"} else "bicubic"
    return Preprocessing(size or native_size, tuple(cfg["mean"]), tuple(cfg["std"]), mode, crop)


def cost(backbone: Backbone) -> dict[str, int]:
    """Return the number of parameters and the multiply-adds of one image."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    size = backbone.preprocessing.size
    device = next(backbone.network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        backbone.features(torch.zeros(1, 3, size, size, device=device))
    parameters = sum(parameter.numel() for parameter in backbone.network.parameters())
    return {"parameters": parameters, "multiply_adds": counter.get_total_flops() // 2}


def networks() -> Any:  # noqa: ANN401 - timm has no types
    """Return timm, which knows our own networks as well from then on."""
    import timm

    from fer_cli.models import face_resnet

    if not timm.is_model(FACE_RESNET):
        timm.models.register_model(face_resnet.face_resnet29)
    return timm


def check_name(name: str) -> None:
    """Refuse a name or a tag that timm does not know, and say which are close.

    Raises:
        FerError: there is no such network.
    """
    check_architecture(name)
    architecture, dot, tag = name.partition(".")
    if not dot or name == FACE_RESNET:  # timm, which takes seconds to import, need not be asked
        return
    timm = networks()
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag not in tags:
        hint = f"take {architecture} alone, or the tag {', '.join(tags)}" if tags else f"take {architecture} alone"
        raise FerError(f"timm has no weights {tag!r} of {architecture}", hint=hint)


def _head(name: str, tensors: dict[str, torch.Tensor] | None) -> dict[str, Any]:
    """Give the network the classifier that the weights hold: they load strictly whatever they were trained for."""
    from timm.models import get_pretrained_cfg

    cfg = get_pretrained_cfg(name)
    classifier = cfg.classifier if cfg is not None else None
    if tensors is None or not isinstance(classifier, str):
        return {}
    bias = tensors.get(f"{classifier}.bias")
    if bias is None:
        return {"num_classes": 0} if f"{classifier}.weight" not in tensors else {}
    return {"num_classes": len(bias)}
