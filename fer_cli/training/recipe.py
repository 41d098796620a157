"""What every system's recipe holds: images, augmentation, loss, optimiser, schedule and the run itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from fer_cli.core.recipes import About, Section, key
from fer_cli.losses.recipe import LossConfig

RECIPE: Final = "recipe.toml"
"""The file of a model that holds the recipe as it was run."""


class Data(Section):
    """Which images, and how large."""

    renamed: ClassVar[dict[str, str]] = {"repeat": "oversample"}

    size: int = key("side of the network's input", unit="px", ge=16, le=1024)
    crop: float = key(
        "share of the side that is cropped away: anywhere in training, else about the centre",
        default=0.0,
        ge=0,
        le=0.5,
    )
    limit: int | None = key(
        "training images, each class with its share; all where it is left out", default=None, unit="images", ge=1
    )
    oversample: dict[str, Annotated[int, Field(ge=1, le=100)]] = key(
        "by class, how often each of its images comes in an epoch", default={}, unit="times"
    )


class Augmentation(Section):
    """What happens to a training image. Nothing where all is zero; what varies is uniform within its limits."""

    flip: float = key("probability that left and right are exchanged", default=0.0, ge=0, le=1)
    rotation: float = key("largest rotation about the centre, either way", default=0.0, unit="degrees", ge=0, le=180)
    scale: float = key("largest relative change of size: 0.1 is 0.9 to 1.1, log-uniform", default=0.0, ge=0, le=0.5)
    shift: float = key("largest shift, across and down, as a share of the side", default=0.0, ge=0, le=0.5)
    brightness: float = key("largest relative change of all values", default=0.0, ge=0, le=1)
    contrast: float = key("largest relative change of the distance from the image's mean", default=0.0, ge=0, le=1)
    saturation: float = key("largest relative change of a pixel's distance from grey", default=0.0, ge=0, le=1)
    erase: float = key("probability that a rectangle is filled with the image's mean", default=0.0, ge=0, le=1)
    mixup: float = key(
        "alpha of Beta(alpha, alpha), the share of an image that is blended with another; 0: none",
        default=0.0,
        ge=0,
        le=100,
    )
    cutmix: float = key(
        "alpha of Beta(alpha, alpha), the share of an image that a rectangle of another leaves; 0: none",
        default=0.0,
        ge=0,
        le=100,
    )
    mixed: float = key("share of batches that mixup or cutmix mixes", default=1.0, ge=0, le=1)


class Optimiser(Section):
    """How steps are made."""

    name: Literal["adam", "adamw", "sgd"] = key("optimiser", default="adamw")
    lr: float = key("learning rate at the top of the schedule", gt=0, le=1e30)  # more overflows in an optimiser
    backbone_lr: float = key("learning rate of pretrained layers, relative to lr", default=1.0, ge=0, le=1000)
    weight_decay: float = key("weight decay", default=0.0, ge=0, le=1e30)
    momentum: float = key("momentum of sgd; beta1 of the others", default=0.9, ge=0, lt=1)
    beta2: float = key("beta2 of adam and adamw", default=0.999, ge=0, lt=1)
    layer_decay: float = key(
        "what the rate of pretrained layers is multiplied by at each level from the classifier down; 1: all alike",
        default=1.0,
        gt=0,
        le=1,
    )
    sam: float = key(
        "rho, how far uphill the gradient of sharpness-aware minimisation is taken; 0: none, else a step costs double",
        default=0.0,
        ge=0,
        le=100,
    )
    clip: float | None = key("largest norm of the gradient; not clipped where left out", default=None, gt=0, le=1e30)


class Schedule(Section):
    """The learning rate over the epochs, relative to optim.lr."""

    renamed: ClassVar[dict[str, str]] = {"floor": "min_lr_ratio"}

    name: Literal["constant", "cosine", "steps", "plateau"] = key("shape of the schedule", default="cosine")
    warmup: float = key("linear rise at the start", default=0.0, unit="epochs", ge=0, le=1e30)
    min_lr_ratio: float = key("where cosine ends and plateau stops, relative to lr", default=0.01, ge=0, lt=1)
    epochs: tuple[Annotated[int, Field(ge=1)], ...] = key(
        "steps: epochs after which the rate falls", default=(), unit="epochs", strict=False
    )
    factor: float = key("steps and plateau: what the rate is multiplied by at each fall", default=0.1, gt=0, lt=1)
    patience: int = key("plateau: epochs without a lower validation loss", default=10, unit="epochs", ge=1)


class Train(Section):
    """How long, in what batches, and which epoch is kept."""

    renamed: ClassVar[dict[str, str]] = {"select": "monitor"}

    epochs: int = key("training epochs", unit="epochs", ge=1, le=100_000)
    batch: int = key("images in a step, all processes together", unit="images", ge=2, le=65_536)
    sampling: Literal["shuffled", "balanced"] = key("order of the images in an epoch", default="shuffled")
    ema: float = key(
        "decay of the running mean of the weights, which is then what is evaluated and kept; 0: none",
        default=0.0,
        ge=0,
        lt=1,
    )
    monitor: Literal["accuracy", "balanced_accuracy", "macro_f1", "loss", "last"] = key(
        "validation score whose best epoch is kept; last: the last epoch", default="accuracy"
    )
    early_stopping: int | None = key(
        "epochs without a better one after which training stops", default=None, unit="epochs", ge=1
    )
    precision: Literal["float32", "bfloat16"] = key("type of the forward pass", default="float32")
    compile: bool = key("compile the network with torch.compile", default=False)


class Distillation(Section):
    """A trained model whose answers are part of the targets (Hinton, Vinyals & Dean 2015)."""

    teacher: str | None = key(
        "reference of a model, a study or an ensemble of the same data set; none where left out", default=None
    )
    weight: float = key("share of the target that is the teacher's answer", default=0.7, ge=0, le=1)
    temperature: float = key("what the teacher's logits are divided by, more is softer", default=1.0, gt=0, le=100)

    @field_validator("teacher")
    @classmethod
    def _given(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("is empty: take a reference, or leave it out")
        return value


class Backbone(Section):
    """A model that stands on a timm network."""

    backbone: str = key("timm's name of the backbone")
    weights: str = key(
        "pretrained weights: auto, try (auto, else none with a warning), none, a file, or the reference of a model to "
        "begin with",
        default="auto",
    )

    @field_validator("weights")
    @classmethod
    def _given(cls, value: str) -> str:
        if not value:
            raise ValueError("is empty: take auto, try, none, a file or a model")
        return value


class Recipe(Section):
    """A system's recipe; its own has a model and a loss of its own."""

    about: About
    data: Data
    model: Section
    augmentation: Augmentation
    loss: LossConfig
    optim: Optimiser
    schedule: Schedule
    train: Train
    distill: Distillation = Distillation()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.schedule.name == "steps" and list(self.schedule.epochs) != sorted(set(self.schedule.epochs)):
            raise ValueError("schedule.epochs must rise")
        if self.schedule.name == "steps" and not self.schedule.epochs:
            raise ValueError("schedule.epochs is empty: give the epochs after which the rate falls")
        if self.data.oversample and self.train.sampling != "shuffled":
            raise ValueError(
                "data.oversample and train.sampling = 'balanced' both set how often a class comes: take one"
            )
        if self.loss.class_weights == "balanced" and (self.data.oversample or self.train.sampling == "balanced"):
            raise ValueError(
                "loss.class_weights = 'balanced' balances classes that data.oversample or train.sampling balances too: "
                "take one"
            )
        if self.distill.teacher and not self.loss.soft:
            raise ValueError("loss.soft = false leaves no room for distill.teacher's answers: set it to true")
        if (self.augmentation.mixup or self.augmentation.cutmix) and not self.loss.takes_mixed:
            raise ValueError(
                f"augmentation.mixup and cutmix mix targets, and those of loss.name = {self.loss.name!r} cannot be "
                "mixed: set both to 0, or take another loss"
            )
        return self

    @property
    def backbone(self) -> Backbone | None:
        """The timm network that the model stands on, where it stands on one."""
        return self.model if isinstance(self.model, Backbone) else None

    def record(self) -> dict[str, Any]:
        """Return what decides the result: all but what a recipe says of itself."""
        # Without a teacher the table decides nothing: recipes without it stay what they were.
        return self.model_dump(mode="json", exclude={"about", *([] if self.distill.teacher else ["distill"])})

    @classmethod
    def from_record(cls, config: Mapping[str, Any]) -> Self:
        """Return the recipe behind a model artifact's configuration, which holds :meth:`record`.

        Raises:
            pydantic.ValidationError: it is of another form.
        """
        about = dict.fromkeys(("paper", "command", "papers_figure"), "")
        return cls.model_validate(
            {"about": about, **{name: config[name] for name in cls.model_fields if name in config}}
        )

    def variant(self) -> tuple[str, ...]:
        """Return the words that tell this form of a system from its usual one: they stand in a model's name."""
        return ()
