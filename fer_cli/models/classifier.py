"""Classifiers: any timm backbone under a fresh linear layer, fine-tuned or frozen, with attention by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import nn

from fer_cli.core.errors import FerError
from fer_cli.models.attention import ATTENTIONS, attend_in_blocks, new_attention
from fer_cli.models.backbones import Preprocessing, check_name, networks, preprocessing_of
from fer_cli.models.face_resnet import FaceResNet
from fer_cli.models.gradcam import last_map
from fer_cli.models.psa import Pyramid
from fer_cli.weights.files import WeightsFile, load_strictly, load_tensors
from fer_cli.weights.networks import FACE_RESNET


def perceptron(width: int, hidden: Sequence[int]) -> Iterator[nn.Module]:
    """Yield fully connected layers of the given widths, each with a ReLU.

    They begin as He et al. (2015) have it: torch's own beginning shrinks what passes each layer to less than half, and
    the first epochs go by before the layers below learn anything.
    """
    for before, after in pairwise((width, *hidden)):
        layer = nn.Linear(before, after)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        yield layer
        yield nn.ReLU()


class ClassifierNetwork(nn.Module):
    """``classifier(dropout(pooled features))`` of a timm network without its own classifier.

    ``backbone`` keeps timm's names; ``attention`` acts on the last map, or is the identity; a frozen backbone stays in
    evaluation mode whatever :meth:`train` is told, but for the attention inside its blocks, which learns.

    Where ``returns_features`` is set the network returns, while it trains, its pooled features as well.
    """

    def __init__(
        self,
        backbone: Any,  # noqa: ANN401 - timm has no types
        width: int,
        classes: int,
        *,
        dropout: float,
        frozen: bool,
        hidden: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.attention: nn.Module = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.width = width
        last = nn.Linear(hidden[-1] if hidden else width, classes)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
        self.classifier: nn.Module = nn.Sequential(*perceptron(width, hidden), last) if hidden else last
        self.frozen = frozen
        self.returns_features = False
        self.inside: tuple[str, ...] = ()  # names, within the backbone, of the attention in its blocks

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        """Return what is pooled, after attention: (n, C, h, w), or a ViT's tokens."""
        maps: torch.Tensor = self.attention(self.backbone.forward_features(x))
        return maps

    def embed(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the pooled features (n, d) of :meth:`feature_maps`."""
        pooled: torch.Tensor = self.backbone.forward_head(maps, pre_logits=True)
        return pooled

    def map_layer(self, size: int) -> nn.Module:
        """Return the module whose output is the last feature map, after attention, of images of ``size`` px.

        Raises:
            FerError: there is none.
        """
        return last_map(self.backbone, size) if isinstance(self.attention, nn.Identity) else self.attention

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return logits (n, classes) of preprocessed images (n, 3, S, S), and features (n, d) where they are wanted."""
        features = self.embed(self.feature_maps(x))
        logits: torch.Tensor = self.classifier(self.dropout(features))
        return (logits, features) if self.training and self.returns_features else logits

    def train(self, mode: bool = True) -> ClassifierNetwork:
        """Set the mode of all that learns."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
            for name in self.inside:
                self.backbone.get_submodule(name).train(mode)
        return self


@dataclass(frozen=True, slots=True)
class Classifier:
    """A network that gives logits, and what is known about it."""

    network: ClassifierNetwork
    name: str
    preprocessing: Preprocessing
    tensors_loaded: int
    fresh: tuple[str, ...]  # parameters of the classifier and the attention, which no pretrained weights give
    attention_place: Literal["blocks", "last map"] | None
    classifier: Literal["kept", "new"]  # kept: that of the model whose weights it began with

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the backbone that learn: none where it is frozen."""
        fresh = set(self.fresh)
        named = self.network.named_parameters()
        return [value for name, value in named if name not in fresh and value.requires_grad]

    def backbone_groups(self, *, rate: float = 1.0, layer_decay: float = 1.0) -> list[tuple[float, list[nn.Parameter]]]:
        """Return the parameters of the backbone that learn in groups, each with the factor that its learning rate has.

        Args:
            rate: the factor of the level before the classifier.
            layer_decay: what the factor is multiplied by at each level below it (Howard & Ruder 2018).

        Raises:
            FerError: the rates differ by level and the network has no levels.
        """
        if layer_decay == 1:
            return [(rate, self.backbone_parameters())]
        return [(rate * layer_decay**depth, level) for depth, level in enumerate(self.parameters_by_depth())]

    def parameters_by_depth(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the backbone that learn, from the level before the classifier down to the input.

        Raises:
            FerError: the network has no levels.
        """
        from timm.models import group_parameters

        backbone = self.network.backbone
        if not hasattr(backbone, "group_matcher"):
            raise FerError(f"{self.name} does not say what its levels are", hint="take optim.layer_decay = 1")
        learns = {id(value) for value in self.backbone_parameters()}
        levels: list[list[nn.Parameter]] = []
        for names in group_parameters(backbone, backbone.group_matcher(coarse=True)).values():
            level = [value for value in map(backbone.get_parameter, names) if id(value) in learns]
            levels += [level] if level else []
        missing = len(learns) - sum(len(level) for level in levels)
        assert not missing, f"{missing} parameters of {self.name} stand in no level"
        return levels[::-1]

    def fresh_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the classifier and the attention."""
        return [self.network.get_parameter(name) for name in self.fresh]


def open_classifier(
    name: str,
    *,
    classes: int,
    size: int | None,
    weights: WeightsFile | None,
    class_names: Sequence[str] = (),
    crop: float = 0.0,
    attention: str = "none",
    dropout: float = 0.0,
    drop_path: float = 0.0,
    frozen: bool = False,
    pyramid: Pyramid | None = None,
    hidden: Sequence[int] = (),
    seed: int = 0,
) -> Classifier:
    """Build a timm network with a linear classifier of its own, in evaluation mode, channels last.

    Args:
        name: timm's name, with or without a tag.
        classes: number of outputs.
        size: side of the input in pixels; the network's own where it is None.
        crop: share of the image's side that is cropped away before that.
        weights: of the backbone, which they must fit strictly; their classifier is left out. None: random. Those of a
            model give its attention too, where it has the same, and its classifier where that is of ``class_names``.
        class_names: of the outputs, where they are known.
        attention: one of :data:`fer_cli.models.attention.ATTENTIONS`, where that module says that it goes.
        dropout: share of the pooled features that are dropped before the classifier in training.
        drop_path: the last residual path's share of images that skip it in training (stochastic depth).
        frozen: only the classifier and the attention learn.
        pyramid: the form of psa, where that is the attention.
        hidden: widths of fully connected layers before the last one.
        seed: of all random initialisation. The classifier starts the same whatever attention there is, and both
            whatever weights there are.

    Raises:
        FerError: timm does not know the name, the network cannot take the size, the attention or ``drop_path``, or the
            weights do not fit.
    """
    check_name(name)
    if attention not in ATTENTIONS:
        raise FerError(f"unknown attention {attention!r}", hint=f"take {', '.join(ATTENTIONS)}")
    if frozen and drop_path:
        raise FerError("drop_path has no effect on a frozen backbone", hint="take drop_path = 0, or do not freeze it")
    tensors = None if weights is None else load_tensors(weights)
    backbone = _build(name, drop_path, seed)
    preprocessing = preprocessing_of(backbone, name, size, crop)
    loaded = 0
    has_attention = False  # in its blocks, so that it fits behind the same attention alone
    if tensors is not None and weights is not None:
        has_attention = weights.model is not None and tensors.keys() != backbone.state_dict().keys()
        if not has_attention:
            loaded = load_strictly(backbone, _without_classifier(backbone, tensors), weights.path)
    maps, width = _probe(backbone, name, preprocessing.size)
    if frozen:
        backbone.requires_grad_(False)
    place: Literal["blocks", "last map"] | None = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ClassifierNetwork(backbone, width, classes, dropout=dropout, frozen=frozen, hidden=hidden)
        if attention != "none":
            network.inside = attend_in_blocks(backbone, attention, pyramid)
            place = "blocks" if network.inside else "last map"
        if place == "last map":
            network.attention = new_attention(attention, _channels(backbone, name, attention, maps))
    kept = False
    if tensors is not None and weights is not None and weights.model is not None:
        if has_attention:
            hint = "begin with a model of the same backbone and model.attention, or of none"
            loaded = load_strictly(backbone, tensors, weights.path, hint=hint)
        kept = _is_of(network.classifier, weights, class_names)
        loaded += _take_over(network, weights, classifier=kept)
    fresh = ("classifier.", "attention.", *(f"backbone.{inside}." for inside in network.inside))
    return Classifier(
        network=network.eval().to(memory_format=torch.channels_last),
        name=name,
        preprocessing=preprocessing,
        tensors_loaded=loaded,
        fresh=tuple(key for key, _ in network.named_parameters() if key.startswith(fresh)),
        attention_place=place,
        classifier="kept" if kept else "new",
    )


def _build(name: str, drop_path: float, seed: int) -> Any:  # noqa: ANN401 - timm's networks share no typed base
    if name == FACE_RESNET:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return FaceResNet(0, drop_path)
    timm = networks()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(name, pretrained=False, num_classes=0, drop_path_rate=drop_path)
        except TypeError as error:
            if "drop_path_rate" not in str(error):
                raise
            if drop_path:
                raise FerError(f"{name} has no residual paths to drop", hint="take drop_path = 0") from error
        torch.manual_seed(seed)
        return timm.create_model(name, pretrained=False, num_classes=0)


def _without_classifier(backbone: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:  # noqa: ANN401
    """Leave out the classifier that the weights were trained with: one layer, or two of a distilled network."""
    named = backbone.pretrained_cfg.get("classifier") or ()
    layers = (named,) if isinstance(named, str) else tuple(named)
    pretrained = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    return {key: tensor for key, tensor in tensors.items() if key not in pretrained}


def _is_of(classifier: nn.Module, weights: WeightsFile, class_names: Sequence[str]) -> bool:
    """Tell whether a model's classifier is one of these classes and has the layers of another one."""
    return tuple(class_names) == weights.classes and _fits(classifier, load_tensors(_part(weights, "classifier.")))


def _take_over(network: ClassifierNetwork, weights: WeightsFile, *, classifier: bool) -> int:
    """Load a model's classifier, and its attention on the last map where that is of the same form."""
    loaded = 0
    if classifier:
        loaded += load_strictly(network.classifier, load_tensors(_part(weights, "classifier.")), weights.path)
    attention = load_tensors(_part(weights, "attention."))
    if attention and _fits(network.attention, attention):
        loaded += load_strictly(network.attention, attention, weights.path)
    return loaded


def _part(weights: WeightsFile, prefix: str) -> WeightsFile:
    return replace(weights, prefix=prefix)


def _fits(module: nn.Module, tensors: dict[str, torch.Tensor]) -> bool:
    own = module.state_dict()
    return {name: one.shape for name, one in own.items()} == {name: one.shape for name, one in tensors.items()}


def _probe(backbone: Any, name: str, size: int) -> tuple[tuple[int, ...], int]:  # noqa: ANN401
    """Return the shape of one image's last map and the number of its pooled features, by running the network once."""
    backbone.eval()
    try:
        with torch.no_grad():
            maps = backbone.forward_features(torch.zeros(1, 3, size, size))
            return tuple(maps.shape[1:]), int(backbone.forward_head(maps, pre_logits=True).shape[1])
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise FerError(f"{name} cannot process images of {size} px ({reason})", hint="give another size") from error


def _channels(backbone: Any, name: str, attention: str, maps: tuple[int, ...]) -> int:  # noqa: ANN401
    """Return the channels of the last map that attention acts on."""
    if attention == "psa":
        raise FerError(
            f"psa replaces the 3x3 convolutions in the bottlenecks of a ResNet, which {name} does not have",
            hint="take resnet50, resnet101 or another ResNet of bottlenecks, or se, eca or cbam",
        )
    if attention == "aff":
        raise FerError(
            f"aff replaces the sum in the plain residual blocks of a ResNet, which {name} does not have",
            hint="take resnet18, resnet50 or another ResNet without attention of its own, or se, eca or cbam",
        )
    # Three dimensions are channels, rows and columns, but for the networks that keep their channels last (Swin).
    if len(maps) != 3 or maps[0] != backbone.num_features:
        raise FerError(
            f"{name} has no last map of channels, rows and columns for attention {attention!r}",
            hint="take attention none, or a convolutional network",
        )
    return maps[0]
