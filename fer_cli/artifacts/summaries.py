"""Summaries, settings and measurements of artifacts, where another stage or the command line reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from fer_cli.artifacts.protocol import Batching, EnsembleWeights, Numerics, Tta, WeightsKind
from fer_cli.artifacts.sections import Record, Section, SplitName


class WeightsRecord(Record):
    """The weights that were loaded. ``file`` is a file's name, without its folder."""

    kind: WeightsKind
    source: str
    pretraining: str
    sha256: str
    file: str


class Measured(Section):
    """What the making of an artifact took: it depends on the machine and is no part of the result."""

    part: ClassVar[Literal["measured"]] = "measured"
    kinds: ClassVar = (
        *("dataset", "masks", "features", "ahm", "model", "study", "search", "ensemble", "soft-targets"),
        "evaluation",
    )

    command: str | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    batch: int | None = None
    device: str | None = None
    processes: int | None = None
    threads: int | None = None
    workers: int | None = None
    peak_memory: int | None = None
    taken_over: int | None = None
    seconds_by_value: dict[str, float] | None = None


class DuplicateCounts(Record):
    """Equal images of a dataset."""

    extra_copies: int
    groups_across_splits: int
    groups_with_conflicting_labels: int


class DatasetSummary(Section):
    """What a dataset holds. ``classes`` is split -> class -> images."""

    part: ClassVar[Literal["summary"]] = "summary"
    kinds: ClassVar = ("dataset",)

    images: int
    splits: dict[SplitName, int]
    folds: int | None = None
    classes: dict[SplitName, dict[str, int]]
    source_counts: dict[SplitName, int]
    duplicates: DuplicateCounts
    dropped: dict[str, int]
    missing: tuple[str, ...]
    official_counts: Literal["as published", "differ", "none published"]
    subjects: int | None = None
    alignment: dict[str, Any] | None = None
    aus: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None


class MasksSummary(Section):
    """What a parser found; ``size`` and ``mirror``: sides, in px, that it sees images and their mirror images at.

    ``reasons`` counts why maps are doubtful, ``regions`` is the mean share of each region.
    """

    part: ClassVar[Literal["summary"]] = "summary"
    kinds: ClassVar = ("masks",)

    images: int
    parser: str
    weights: WeightsRecord | None = None
    size: int | None = None
    precision: str | None = None
    mirror: int | None = None
    training_images: int | None = None
    doubtful: int
    reasons: dict[str, int]
    regions: dict[str, float]


class SoftTargetsSummary(Section):
    """A model's calibrated answers of the training images; ``agreement`` is the share that are the labels."""

    part: ClassVar[Literal["summary"]] = "summary"
    kinds: ClassVar = ("soft-targets",)

    headline: str
    images: int
    classes: tuple[str, ...]
    agreement: float


class FeaturesConfig(Section):
    """The settings of an extraction; ``weights`` is the hash of their bytes."""

    part: ClassVar[Literal["config"]] = "config"
    kinds: ClassVar = ("features",)

    backbone: str
    level: str
    weights: str
    preprocessing: dict[str, Any]
    views: tuple[str, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Side of the input, px."""
        return int(self.preprocessing["size"])


class FeaturesSummary(Section):
    """What an extraction gave. ``shape`` is that of one image's features.

    ``classes`` are those of the logits that stand beside the features of a trained model.
    """

    part: ClassVar[Literal["summary"]] = "summary"
    kinds: ClassVar = ("features",)

    images: int
    views: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    weights: WeightsRecord | None = None
    classes: tuple[str, ...] | None = None
    tensors_loaded: int
    parameters: int
    multiply_adds: int


class ReducedClass(Record):
    """A class of which ``images`` ``of`` so many training images are fitted on, to see what scarcity does."""

    share: float
    images: int
    of: int


class AhmConfig(Section):
    """The settings of an AHM fit.

    ``centring`` is None where X alone is standardised; ``reduced`` are the classes that keep a share of their images.
    """

    part: ClassVar[Literal["config"]] = "config"
    kinds: ClassVar = ("ahm",)

    paths: Literal["shared", "full"]
    relative_lambdas: tuple[float, ...]
    Cs: tuple[float, ...]
    ridge: float
    metric: Literal["accuracy", "balanced"]
    standardise: str
    centring: Literal["none", "both", "intercept"] | None = None
    reduced: dict[str, ReducedClass] | None = None
    reduced_seed: int | None = None
    numerics: Numerics | None = None
    """A part of what decides the last digits; None of fits of before it was."""


class ValidationScores(Record):
    """Scores on the split that the selection was made on."""

    accuracy: float
    balanced_accuracy: float


class AhmSummary(Section):
    """What an AHM fit gave: the chosen predictor, and each predictor's setting and validation scores."""

    part: ClassVar[Literal["summary"]] = "summary"
    kinds: ClassVar = ("ahm",)

    headline: str
    chosen: str
    settings: dict[str, float]
    balance: float
    validation: dict[str, ValidationScores]
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    training_samples: int
    dead_features: int
    worst_residual: float


class ModelConfig(Section):
    """The settings of a training. ``recipe`` is parsed by the system's own recipe type."""

    part: ClassVar[Literal["config"]] = "config"
    kinds: ClassVar = ("model",)

    system: str
    recipe: dict[str, Any]
    seed: int
    fold: int | None = None
    select_on: SplitName
    classes: tuple[str, ...]
    numerics: Numerics | None = None
    """A part of what decides the weights; None of models of before it was."""


class SelectedScores(Record):
    """Scores of the selected epoch on the split that selected it."""

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    validation_loss: float


class ImageForm(Record):
    """The images that a model was trained on: the side of squares, px (None: no squares), and whether they are grey."""

    side: int | None = None
    grey: bool


class ModelSummary(Section):
    """What a training gave. ``epoch`` counts from 1; ``details`` are the system's own.

    ``temperature`` is what logits are divided by for calibrated probabilities, fitted on the split that selected.
    """

    part: ClassVar[Literal["summary"]] = "summary"
    kinds: ClassVar = ("model",)

    headline: str
    epoch: int
    epochs: int
    selected: SelectedScores
    weights: WeightsRecord | None = None
    tensors_loaded: int
    preprocessing: dict[str, Any]
    training_images: int
    mixes_batch: bool
    temperature: float | None = None
    images: ImageForm | None = None
    parameters: int
    multiply_adds: int
    details: dict[str, Any]


class StudyConfig(Section):
    """The seeds, and the folds where there are any, of a study's models."""

    part: ClassVar[Literal["config"]] = "config"
    kinds: ClassVar = ("study",)

    system: str
    seeds: tuple[int, ...]
    folds: tuple[int, ...] | None = None


class SelectedOfAll(Record):
    """The models' scores on the split that selected them, in the study's order."""

    accuracy: tuple[float, ...]
    balanced_accuracy: tuple[float, ...]
    macro_f1: tuple[float, ...]


class StudySummary(Section):
    """What the models of a study gave."""

    part: ClassVar[Literal["summary"]] = "summary"
    kinds: ClassVar = ("study",)

    headline: str
    seeds: tuple[int, ...]
    selected: SelectedOfAll


SearchMethod = Literal["random", "grid", "halving"]


class SearchConfig(Section):
    """The settings of a search.

    ``recipe`` is what every trial began from, ``space`` is key -> what it may be, ``epochs`` those of each round of
    trainings. ``weights`` are the hashes of the pretrained weights by backbone and what the recipe calls them;
    ``training`` is the revision of the stage that trains.
    """

    part: ClassVar[Literal["config"]] = "config"
    kinds: ClassVar = ("search",)

    system: str
    recipe: dict[str, Any]
    space: dict[str, str]
    method: SearchMethod
    trials: int
    seed: int
    metric: str
    epochs: tuple[int, ...]
    fold: int | None = None
    weights: dict[str, str]
    training: int


class SearchSummary(Section):
    """What a search found on validation.

    ``trials`` settings were compared by ``trainings`` models; ``failed`` of the trainings diverged. ``best`` is key ->
    value of the settings that lead, as TOML, whose ``model`` scored ``score``.
    """

    part: ClassVar[Literal["summary"]] = "summary"
    kinds: ClassVar = ("search",)

    headline: str
    trials: int
    trainings: int
    failed: int
    best: dict[str, str]
    model: str
    score: float


class EnsembleConfig(Section):
    """How the weights of an ensemble's members came to be: ``equal``, or ``fitted`` on the validation split."""

    part: ClassVar[Literal["config"]] = "config"
    kinds: ClassVar = ("ensemble",)

    weights: EnsembleWeights


def member_role(number: int) -> str:
    """Return under which role a member, counted from 0, is an input of its ensemble."""
    return f"member{number + 1}"


class EnsembleSummary(Section):
    """What an ensemble is of, and its scores on the validation split.

    ``members`` are the references, ``outputs`` their names as outputs, ``weights`` theirs, which sum to 1, and
    ``member_accuracy`` what each has alone. ``temperature`` is that of the weighted mean. ``networks`` counts those
    that run for one image, ``parameters`` and ``multiply_adds`` are theirs together.
    """

    part: ClassVar[Literal["summary"]] = "summary"
    kinds: ClassVar = ("ensemble",)

    headline: str
    classes: tuple[str, ...]
    members: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[float, ...]
    temperature: float
    selected: SelectedScores
    member_accuracy: tuple[float, ...]
    networks: int
    parameters: int
    multiply_adds: int


class EvaluationConfig(Section):
    """The settings of an evaluation. ``names`` are those that each part of what was scored gives its outputs."""

    part: ClassVar[Literal["config"]] = "config"
    kinds: ClassVar = ("evaluation",)

    split: SplitName
    predictor: str
    tta: Tta
    batching: Batching | None = None
    resamples: int
    seed: int
    names: dict[str, tuple[str, ...]]
    training_data: Literal["not in the store"] | None = None
    """What the checks could not look into; None: it was here."""
    answer: str | None = None
    """The column that was named as the answers of a file of predictions."""


class Output(Record):
    """What one column of predictions is of; its name in tables and files is free.

    A ``mean`` has no predictions: its scores are the means of the networks'. An ``ensemble`` has: the mean of theirs.
    """

    kind: Literal["network", "mean", "ensemble", "classifier", "file"]
    seed: int | None = None
    fold: int | None = None


def runs_of(outputs: Mapping[str, Output], name: str) -> tuple[str, ...]:
    """Return the outputs whose predictions an output's scores are of: the networks of a mean, else itself."""
    if outputs[name].kind != "mean":
        return (name,)
    return tuple(other for other, output in outputs.items() if output.kind == "network")


class EvaluationSummary(Section):
    """What an evaluation found. ``outputs`` says what each scored column is of; the scores are by its name.

    ``sd`` is metric -> standard deviation over the runs whose mean the chosen output is, None where it is of one.
    """

    part: ClassVar[Literal["summary"]] = "summary"
    kinds: ClassVar = ("evaluation",)

    headline: str
    dataset: str
    split: SplitName
    images: int
    chosen: str
    outputs: dict[str, Output]
    accuracy: dict[str, float]
    balanced_accuracy: dict[str, float]
    macro_f1: dict[str, float]
    sd: dict[str, float] | None = None
    unsound: tuple[str, ...]
    cautions: tuple[str, ...]

    def runs(self, output: str) -> tuple[str, ...]:
        """Return the outputs whose predictions an output's scores are of: :func:`runs_of`."""
        return runs_of(self.outputs, output)
