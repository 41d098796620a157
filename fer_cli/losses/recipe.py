"""The losses that a recipe can name, each with its own keys: a union by ``loss.name``.

It imports no torch, so that a recipe is read in no time; ``build`` does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from fer_cli.core.recipes import Section, key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fer_cli.losses.cross_entropy import CrossEntropy
    from fer_cli.losses.objective import Objective


class LossConfig(Section, ABC):
    """What every loss has."""

    renamed_variants: ClassVar[dict[str, str]] = {"joint": "island"}
    needs_features: ClassVar[bool] = False
    """It takes (logits, features) and (shares, classes), not logits and shares alone."""
    takes_mixed: ClassVar[bool] = True
    """It can be taken of a mixture of two images and the target of either: no state or map belongs to one image."""

    name: str
    class_weights: Literal["none", "balanced"] = key(
        "weights of the classes; balanced: in inverse proportion to their images", default="none"
    )
    soft: bool = key("the raters' votes as targets, where the data set has them", default=True)

    def variant(self) -> tuple[str, ...]:
        """Return the words that tell this loss from cross-entropy: they stand in a model's name."""
        return (self.name,)

    @abstractmethod
    def build(self, labels: NDArray[np.int64], classes: tuple[str, ...], width: int) -> Objective:
        """Return the loss.

        Args:
            labels: (n,), of the training images.
            classes: their names.
            width: d, of the features (n, d) that a loss with ``needs_features`` takes.

        Raises:
            FerError: a class has no training image and classes are weighted, or there are too few classes.
        """

    def _weights(self, labels: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float32] | None:
        from fer_cli.losses.cross_entropy import balanced_weights

        return balanced_weights(labels, classes) if self.class_weights == "balanced" else None


class SoftmaxConfig(LossConfig):
    """A loss that is the cross-entropy, or has it as its first term."""

    label_smoothing: float = key("share of the target that is spread over all classes", default=0.0, ge=0, lt=1)

    def softmax(self, labels: NDArray[np.int64], classes: tuple[str, ...]) -> CrossEntropy:
        """Return the cross-entropy."""
        from fer_cli.losses.cross_entropy import CrossEntropy

        return CrossEntropy(self._weights(labels, classes), self.label_smoothing)


class CrossEntropyConfig(SoftmaxConfig):
    """Cross-entropy (:mod:`fer_cli.losses.cross_entropy`)."""

    name: Literal["cross-entropy"] = key("cross-entropy of the classes")

    def build(self, labels: NDArray[np.int64], classes: tuple[str, ...], width: int) -> Objective:  # noqa: ARG002
        """Return the loss."""
        return self.softmax(labels, classes)


class IslandConfig(SoftmaxConfig):
    """Joint softmax and island loss (:mod:`fer_cli.losses.island`)."""

    needs_features: ClassVar[bool] = True
    takes_mixed: ClassVar[bool] = False

    name: Literal["island"] = key("cross-entropy and island loss")
    island: float = key("lambda, weight of the island loss", default=0.01, ge=0, le=1e30)
    island_pairs: float = key("lambda1, weight of the pairwise term in the island loss", default=10.0, ge=0, le=1e30)
    centre_term: Literal["mean", "sum"] = key(
        "the term that draws features to their centres: mean over the batch's images, or the sum that the papers print",
        default="mean",
    )
    centre_rate: float = key("alpha, the rate at which class centres move", default=0.5, ge=0, le=1)

    def variant(self) -> tuple[str, ...]:
        """Return the name, and the weight where it is not the usual one."""
        usual = type(self).model_fields["island"].default
        return (
            self.name,
            *([f"island-{self.island:g}"] if self.island != usual else []),
            *([f"centre-{self.centre_term}"] if self.centre_term != "mean" else []),
        )

    def build(self, labels: NDArray[np.int64], classes: tuple[str, ...], width: int) -> Objective:
        """Return the loss."""
        from fer_cli.losses.island import IslandLoss

        return IslandLoss(
            self.softmax(labels, classes),
            len(classes),
            width,
            island=self.island,
            pairs=self.island_pairs,
            rate=self.centre_rate,
            summed=self.centre_term == "sum",
        )


class FocalConfig(LossConfig):
    """Focal loss (:mod:`fer_cli.losses.focal`)."""

    name: Literal["focal"] = key("focal loss")
    gamma: float = key(
        "focusing: how much less a well-classified image counts; 0: cross-entropy", default=2.0, ge=0, le=100
    )

    def variant(self) -> tuple[str, ...]:
        """Return the name, and gamma where it is not the usual one."""
        usual = type(self).model_fields["gamma"].default
        return (self.name, *([f"gamma-{self.gamma:g}"] if self.gamma != usual else []))

    def build(self, labels: NDArray[np.int64], classes: tuple[str, ...], width: int) -> Objective:  # noqa: ARG002
        """Return the loss."""
        from fer_cli.losses.focal import FocalLoss

        return FocalLoss(gamma=self.gamma, weights=self._weights(labels, classes))


LogitLoss = Annotated[CrossEntropyConfig | FocalConfig, Field(discriminator="name")]
"""The losses of a network's logits alone."""
FeatureLoss = Annotated[CrossEntropyConfig | IslandConfig | FocalConfig, Field(discriminator="name")]
"""The losses of a network that gives its features too."""
