"""The recipe of ``fer train slfer``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from fer_cli.core.labels import REGIONS
from fer_cli.core.recipes import key
from fer_cli.losses.recipe import SoftmaxConfig
from fer_cli.training.recipe import Backbone, Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fer_cli.systems.slfer.loss import SLFERLoss


class SLFERLossConfig(SoftmaxConfig):
    """Cross-entropy of expressions and two auxiliary tasks; 0 leaves one out (:mod:`fer_cli.systems.slfer.loss`)."""

    renamed: ClassVar[dict[str, str]] = {"largest": "top_k_regions"}
    takes_mixed: ClassVar[bool] = False

    name: Literal["slfer"] = key("cross-entropy of expressions and the auxiliary tasks", default="slfer")
    segmentation: float = key("lambda1, weight of the segmentation task; 0: without it", default=0.5, ge=0, le=1e30)
    components: float = key("lambda2, weight of the component task; 0: without it", default=0.5, ge=0, le=1e30)
    top_k_regions: int = key("regions that count as large", default=4, ge=1, le=len(REGIONS))

    component_target: Literal["largest", "above-median"] = key(
        "what the component task learns of a region: that it is among the top_k_regions, or larger than in half of the "
        "training images, which varies",
        default="largest",
    )
    component_background: bool = key("the background counts as a component", default=True)

    def build(self, labels: NDArray[np.int64], classes: tuple[str, ...], width: int) -> SLFERLoss:  # noqa: ARG002
        """Return the loss."""
        from fer_cli.systems.slfer.loss import SLFERLoss

        return SLFERLoss(self.softmax(labels, classes), segmentation=self.segmentation, components=self.components)


class SLFERModel(Backbone):
    """A network with feature levels, with attention where one is wanted (:mod:`fer_cli.systems.slfer.network`)."""

    attention: Literal["none", "se", "eca", "cbam", "aff", "psa"] = key(
        "attention in the blocks, or on the last feature map", default="se"
    )
    dropout: float = key("share dropped before the expression branch's fully connected layers", default=0.0, ge=0, lt=1)


class SLFERRecipe(Recipe):
    """Recipe of ``fer train slfer``."""

    model: SLFERModel
    loss: SLFERLossConfig

    def variant(self) -> tuple[str, ...]:
        """Return what is other than the paper's: the attention, the tasks' weights, how many regions are large."""
        attention, loss = self.model.attention, self.loss
        usual = type(loss)()
        return (
            *([] if attention == "se" else ["plain" if attention == "none" else attention]),
            *_weighted("segmentation", loss.segmentation, usual.segmentation),
            *_weighted("components", loss.components, usual.components),
            *(self._components(usual) if loss.components else []),
        )

    def _components(self, usual: SLFERLossConfig) -> list[str]:
        loss = self.loss
        return [
            *([f"top-{loss.top_k_regions}"] if loss.top_k_regions != usual.top_k_regions else []),
            *([loss.component_target] if loss.component_target != usual.component_target else []),
            *([] if loss.component_background else ["no-background"]),
        ]


def _weighted(name: str, weight: float, usual: float) -> list[str]:
    if weight == usual:
        return []
    return [f"{name}-{weight:g}" if weight else f"no-{name}"]
