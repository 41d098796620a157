"""Recipes of deep models: what a network is, what it is trained on, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fer_cli.core.labels import REGIONS
from fer_cli.core.recipes import About, Section
from fer_cli.models.psa import Pyramid
from fer_cli.training.augmentation import Augmentation

Share = Annotated[float, Field(ge=0, le=1)]
Below1 = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1e30)]  # more overflows in an optimiser
NotNegative = Annotated[float, Field(ge=0, le=1e30)]
Count = Annotated[int, Field(ge=1)]


class Data(Section):
    """Which pictures, and how large."""

    size: Annotated[int, Field(ge=16, le=1024)]  # px, side of the network's input
    crop: Annotated[float, Field(ge=0, le=0.5)] = (
        0.0  # share of the side cropped away: anywhere in training, else centre
    )
    limit: Annotated[int, Field(ge=1)] | None = None  # training images, evenly of the classes; all where it is left out
    # By class, how often each of its images comes in an epoch.
    repeat: Annotated[dict[str, Annotated[int, Field(ge=1, le=100)]], Field(default_factory=dict)]


class Loss(Section):
    """What is minimised."""

    name: Literal["cross-entropy", "joint"] = "cross-entropy"  # joint: with the island loss (fer_cli.losses.island)
    island: NotNegative = 0.01  # of joint: the island loss's weight, lambda
    island_pairs: NotNegative = 10.0  # of joint: lambda1, of its pairwise term
    centre_rate: Share = 0.5  # of joint: alpha, at which centres move
    label_smoothing: Below1 = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    soft: bool = True  # votes as targets, where the data set has them


class Optimiser(Section):
    """How steps are made."""

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: Positive
    backbone_lr: Annotated[float, Field(ge=0, le=1000)] = 1.0  # of pretrained layers, times lr
    weight_decay: NotNegative = 0.0
    momentum: Below1 = 0.9  # of sgd; beta1 of the others
    beta2: Below1 = 0.999
    clip: Positive | None = None  # largest norm of the gradient


class Schedule(Section):
    """The learning rate over the epochs, times optim.lr."""

    name: Literal["constant", "cosine", "steps", "plateau"] = "cosine"
    warmup: NotNegative = 0.0  # epochs of linear rise
    floor: Below1 = 0.01  # where cosine ends and plateau stops
    epochs: Annotated[tuple[Count, ...], Field(strict=False)] = ()  # of steps: the rate falls after each
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1  # of steps and plateau
    patience: Count = 10  # of plateau: epochs without a lower validation loss


class Train(Section):
    """How long, in what batches, and which epoch is kept."""

    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch: Annotated[int, Field(ge=2, le=65_536)]  # images a step, all processes together
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    ema: Below1 = 0.0  # decay of the running mean of the weights, which is what is evaluated and kept; 0 has none
    select: Literal["accuracy", "balanced_accuracy", "macro_f1", "loss", "last"] = "accuracy"
    early_stopping: Annotated[int, Field(ge=1)] | None = None  # epochs without a better one
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False


class Recipe(Section):
    """What every system's recipe holds."""

    about: About
    data: Data
    augmentation: Augmentation
    loss: Loss
    optim: Optimiser
    schedule: Schedule
    train: Train

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.schedule.name == "steps" and list(self.schedule.epochs) != sorted(set(self.schedule.epochs)):
            raise ValueError("schedule.epochs must rise")
        if self.schedule.name == "steps" and not self.schedule.epochs:
            raise ValueError("schedule.epochs is empty: give the epochs after which the rate falls")
        if self.data.repeat and self.train.sampling != "shuffled":
            raise ValueError("data.repeat and train.sampling = 'balanced' both say how often a class comes: take one")
        if self.loss.class_weights == "balanced" and (self.data.repeat or self.train.sampling == "balanced"):
            raise ValueError(
                "loss.class_weights = 'balanced' evens classes that data.repeat or train.sampling evens too: take one"
            )
        return self

    def record(self) -> dict[str, Any]:
        """Return what decides the result: all but what a recipe says of itself."""
        return self.model_dump(mode="json", exclude={"about"})

    def variant(self) -> tuple[str, ...]:
        """Return the words that tell this form of a system from its usual one: they stand in a model's name."""
        return ()


class Backbone(Section):
    """The network that a model stands on."""

    backbone: str
    weights: str = "auto"  # auto, try (auto, else none, said aloud), none or a file

    @field_validator("weights")
    @classmethod
    def _given(cls, value: str) -> str:
        if not value:
            raise ValueError("is empty: take auto, try, none or a file")
        return value


def _joint(loss: Loss) -> list[str]:
    usual = type(loss)()
    return ["joint", *([f"island-{loss.island:g}"] if loss.island != usual.island else [])]


class BaselineModel(Backbone):
    """Any timm backbone, with attention where one is wanted."""

    attention: Literal["none", "se", "eca", "cbam", "aff", "psa"] = "none"
    frozen: bool = False
    dropout: Below1 = 0.0  # before the classifier
    drop_path: Below1 = 0.0  # of residual blocks

    @property
    def pyramid(self) -> Pyramid:
        """The form of psa, where that is the attention."""
        return Pyramid()


class BaselineRecipe(Recipe):
    """Recipe of ``fer train baseline``."""

    model: BaselineModel

    @model_validator(mode="after")
    def _can_move(self) -> Self:
        model = self.model
        if model.frozen and model.attention == "psa":
            raise ValueError("model.attention = 'psa' replaces layers of a frozen backbone: set model.frozen to false")
        if model.frozen and model.attention == "none" and self.loss.name == "joint":
            raise ValueError("loss.name = 'joint' cannot move the features of a frozen backbone: take cross-entropy")
        if model.attention != "psa" and (form := model.pyramid) != Pyramid():
            key = "groups" if form.groups != Pyramid().groups else "taken"
            raise ValueError(f"model.{key} is of psa alone: leave it out")
        return self

    def variant(self) -> tuple[str, ...]:
        """Return the attention and the loss where they are others, and whether the backbone is frozen."""
        return (
            *([self.model.attention] if self.model.attention != "none" else []),
            *(_joint(self.loss) if self.loss.name == "joint" else []),
            *(["frozen"] if self.model.frozen else []),
        )


class PSAResNetModel(BaselineModel):
    """A ResNet with pyramid split attention (:mod:`fer_cli.models.psa`)."""

    groups: Literal["reference", "paper"] = "reference"  # of psa: 1/4/8/16, or 2/4/8/16
    taken: Literal["whole", "split"] = "whole"  # of psa: what each branch has of the input

    @property
    def pyramid(self) -> Pyramid:
        """The form of psa, where that is the attention."""
        return Pyramid(self.groups, self.taken)


class PSAResNetRecipe(BaselineRecipe):
    """Recipe of ``fer train psa-resnet``."""

    model: PSAResNetModel

    def variant(self) -> tuple[str, ...]:
        """Return the attention and the loss where they are others, and psa's form where it is the paper's."""
        model = self.model
        attention = "plain" if model.attention == "none" else model.attention
        form = [f"{model.groups}-groups"] if model.groups != "reference" else []
        return (
            *([attention] if attention != "psa" else [*form, *([model.taken] if model.taken != "whole" else [])]),
            *(_joint(self.loss)[1:] if self.loss.name == "joint" else [self.loss.name]),
        )


class SLFERLoss(Loss):
    """Cross-entropy of expressions and two auxiliary tasks; 0 leaves one out (:mod:`fer_cli.systems.slfer.loss`)."""

    name: Literal["cross-entropy"] = "cross-entropy"
    segmentation: NotNegative = 0.5  # lambda1
    components: NotNegative = 0.5  # lambda2
    largest: Annotated[int, Field(ge=1, le=len(REGIONS))] = 4  # regions that count as large


class SLFERModel(Backbone):
    """A network with feature levels, with attention where one is wanted (:mod:`fer_cli.systems.slfer.network`)."""

    attention: Literal["none", "se", "eca", "cbam", "aff", "psa"] = "se"
    dropout: Below1 = 0.0  # before the expression branch's fully connected layers


class SLFERRecipe(Recipe):
    """Recipe of ``fer train slfer``."""

    loss: SLFERLoss
    model: SLFERModel

    def variant(self) -> tuple[str, ...]:
        """Return what is other than the paper's: the attention, the tasks' weights, how many regions are large."""
        attention, loss = self.model.attention, self.loss
        usual = type(loss)()
        return (
            *([] if attention == "se" else ["plain" if attention == "none" else attention]),
            *_weighed("segmentation", loss.segmentation, usual.segmentation),
            *_weighed("components", loss.components, usual.components),
            *([f"largest-{loss.largest}"] if loss.components and loss.largest != usual.largest else []),
        )


def _weighed(name: str, weight: float, usual: float) -> list[str]:
    if weight == usual:
        return []
    return [f"{name}-{weight:g}" if weight else f"no-{name}"]


class ConvCutModel(Backbone):
    """A frozen backbone up to a cut, and the head that learns (:mod:`fer_cli.systems.conv_cut.network`)."""

    cut: str = "auto"  # auto, stageN, or stageN.blockM of a ConvNeXt
    detail: Annotated[int, Field(ge=0, le=3)] = 2  # layers of the detail block
    attention: Literal["tokens", "channels", "none", "batch"] = "tokens"
    form: Literal["code", "paper"] = "code"  # the authors' code, or Algorithm 1
    kept: Literal["float16", "float32", "none"] = "float16"  # of feature maps, computed once; none: with every step


class ConvCutRecipe(Recipe):
    """Recipe of ``fer train conv-cut``."""

    model: ConvCutModel

    def variant(self) -> tuple[str, ...]:
        """Return what attention mixes where that is not tokens, and the head's form where it is the paper's."""
        attention = "plain" if self.model.attention == "none" else self.model.attention
        return (
            *([attention] if attention != "tokens" else []),
            *([f"{self.model.form}-head"] if self.model.form != "code" else []),
        )

    @model_validator(mode="after")
    def _learns_classes(self) -> Self:
        if self.loss.name != "cross-entropy":
            raise ValueError(
                f"loss.name = {self.loss.name!r}: Conv-cut's head has no features for it, take cross-entropy"
            )
        return self

    @model_validator(mode="after")
    def _keeps_what_it_can(self) -> Self:
        if self.data.crop:
            raise ValueError("data.crop: Conv-cut sees whole pictures, set it to 0")
        moved = [name for name, most in self.augmentation.model_dump().items() if most and name != "flip"]
        if moved and self.model.kept != "none":
            raise ValueError(
                f"augmentation.{moved[0]} changes the feature maps each time, so they cannot be kept: "
                "set it to 0, or model.kept to 'none'"
            )
        return self
