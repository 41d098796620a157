"""The recipe of ``fer train conv-cut``."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from fer_cli.core.recipes import key
from fer_cli.losses.recipe import LogitLoss
from fer_cli.training.recipe import Backbone, Recipe


class ConvCutModel(Backbone):
    """A frozen backbone up to a cut, and the head that is trained (:mod:`fer_cli.systems.conv_cut.network`)."""

    renamed: ClassVar[dict[str, str]] = {"kept": "feature_cache"}

    cut: str = key("where the backbone ends: auto, stageN, or stageN.blockM of a ConvNeXt", default="auto")
    detail: int = key("layers of the detail block", default=2, ge=0, le=3)
    detail_stride: Literal[1, 2, 4] = key("stride of the detail block's first layer", default=4)
    attention: Literal["learned", "tokens", "channels", "none", "batch"] = key(
        "what attention mixes: positions, with learned queries, keys and values; tokens: without, as in Algorithm 1; "
        "batch is the published one, whose predictions depend on the batch",
        default="tokens",
    )
    attention_after: Literal["first", "last"] = key(
        "layer of the detail block that attention over positions stands behind; the first leaves more of them",
        default="last",
    )
    form: Literal["code", "paper"] = key("head of the authors' code, or of Algorithm 1", default="code")
    feature_cache: Literal["float16", "float32", "none"] = key(
        "type of feature maps that are computed once; none: computed in every step", default="float16"
    )


class ConvCutRecipe(Recipe):
    """Recipe of ``fer train conv-cut``."""

    model: ConvCutModel
    loss: LogitLoss

    def variant(self) -> tuple[str, ...]:
        """Return what attention mixes where that is not tokens, the head's form and the loss where they are others."""
        attention = "plain" if self.model.attention == "none" else self.model.attention
        return (
            *([attention] if attention != "tokens" else []),
            *([f"{self.model.form}-head"] if self.model.form != "code" else []),
            *(self.loss.variant() if self.loss.name != "cross-entropy" else []),
        )

    @model_validator(mode="after")
    def _can_be_cached(self) -> Self:
        if self.data.crop:
            raise ValueError("data.crop: Conv-cut takes whole images, set it to 0")
        if self.optim.layer_decay != 1:
            raise ValueError("optim.layer_decay has no effect: Conv-cut's backbone is not trained, set it to 1")
        kept = {"flip", "mixup", "cutmix", "mixed"}  # of a cached map as of an image
        moved = [name for name, most in self.augmentation.model_dump().items() if most and name not in kept]
        if moved and self.model.feature_cache != "none":
            raise ValueError(
                f"augmentation.{moved[0]} changes the feature maps in every epoch, so they cannot be cached: "
                "set it to 0, or model.feature_cache to 'none'"
            )
        return self
