"""Protocols: what a number rests on. Verdicts and cautions are decided by these fields, never by a name or a text.

A dataset's protocol is part of the protocol of all that is trained on it, and that of the protocol of an evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final, Literal

from pydantic import Field

from fer_cli.artifacts.manifest import Input
from fer_cli.artifacts.sections import Record, Section, SplitName
from fer_cli.core.findings import Finding

TOGETHER: Final = "stratified, subjects, sequences and equal images kept together"
LISTED: Final = "as the list of ids says"

SMALL: Final = 16
"""Pixels of the shorter side below which nothing of an expression is seen."""

Tta = Literal["none", "flip", "ten-crop"]
"""Test-time augmentation: which views of an image are scored (:mod:`fer_cli.inference.views`)."""
EnsembleWeights = Literal["equal", "fitted"]
"""How the weights of an ensemble's members came to be."""
Batching = Literal["alone", "stored", "shuffled", "sorted"]
WeightsKind = Literal["file", "folder", "imported", "package", "hub", "release", "bundled", "artifact"]
"""Where weights come from: ``--weights FILE``, ``$FER_WEIGHTS``, ``fer weights import``, an installed package, timm's
hub, a published file that fer fetched, a file in the package, an artifact of the store."""


class FoldsRule(Record):
    """How folds came to be."""

    kind: Literal["subject", "class", "listed"]
    number: int
    seed: int | None = None

    def __str__(self) -> str:
        match self.kind:
            case "subject":
                return f"fold i holds sorted(subjects)[i::{self.number}]"
            case "class":
                return f"{TOGETHER}, seed {self.seed}"
            case "listed":
                return LISTED


class SplitOrigin(Record):
    """How the validation or test split came to be.

    ``share`` of the training images was asked for, and ``images`` were taken: whole groups rarely give the exact share.
    ``in_each_fold``: of each fold's training images. ``ratio`` is train to test of randomly drawn frames,
    ``by_class``: of those of each class.
    ``like`` is the dataset whose split was taken over, to which ``images`` were moved.
    """

    kind: Literal["own", "carved", "random", "listed", "like", "fold", "all folds", "none"]
    share: float | None = None
    images: int | None = None
    seed: int | None = None
    in_each_fold: bool = False
    ratio: tuple[int, int] | None = None
    by_class: bool = False
    fold: int | None = None
    folds: FoldsRule | None = None
    like: str | None = None

    def __str__(self) -> str:
        match self.kind:
            case "own":
                return "the source's own"
            case "carved":
                source = "each fold's training images" if self.in_each_fold else "train"
                taken = "" if self.images is None else f", {self.images:,} images taken"
                return f"held out from {source}: {self.share:.3g} requested{taken}, {TOGETHER}, seed {self.seed}"
            case "random":
                assert self.ratio is not None
                train, test = self.ratio
                each = " in each class" if self.by_class else ""
                return f"{self.images:,} images at random, {train}:{test} of train to test{each}, seed {self.seed}"
            case "listed":
                return LISTED
            case "like":
                return f"as in {self.like}, whose images are known by file or pixels: {self.images:,} moved"
            case "fold":
                assert self.folds is not None
                return f"fold {self.fold} of {self.folds.number}: {self.folds}"
            case "all folds":
                assert self.folds is not None
                return f"{self.folds.number} folds: {self.folds}"
            case "none":
                return "none"


PartUse = Literal["train", "validation", "test", "random", "listed", "like", "each fold", "not read"]


class PartRole(Record):
    """What a part of the source is used for. ``carved`` are the splits that were taken out of it."""

    part: str
    use: PartUse
    carved: tuple[SplitName, ...] = ()
    promoted: bool = False
    """A validation part that became the test split, for the source has no test part."""

    def __str__(self) -> str:
        match self.use:
            case "random":
                return "train or test at random, image by image"
            case "listed":
                return LISTED
            case "like":
                return "each image as in another data set that has it"
            case "each fold":
                return "test set of its own model, which was trained and selected on the other folds"
            case "not read":
                return "not read: its labels were never released"
        if self.promoted:
            return f"{self.use}, because the source has no test part"
        if self.carved:
            return f"{self.use}, less the {' and '.join(self.carved)} split held out from it"
        return self.use


LeftoverKind = Literal[
    "folders", "images", "tables", "files", "columns", "empty folders", "hidden files", "parts", "sequences"
]
"""``parts`` belong to the data set and are never read by its loader; ``sequences`` have no label."""


class Leftover(Record):
    """Things of one kind that a source holds and its loader did not read.

    ``names`` are the first of ``count``; folders have the number of their images in ``images``, columns and images the
    table that they belong to in ``table``. ``matters``: they may hold what a number rests on, such as a test set.
    """

    kind: LeftoverKind
    count: int
    names: tuple[str, ...]
    images: tuple[int, ...] | None = None
    table: str | None = None
    matters: bool

    def __str__(self) -> str:
        one = self.count == 1
        names = list(self.names)
        if self.images is not None:
            names = [
                f"{name} ({n:,} image{'' if n == 1 else 's'})" for name, n in zip(self.names, self.images, strict=True)
            ]
        more = self.count - len(names)
        listed = ", ".join([*names, *([f"{more:,} more"] if more else [])])
        where = "" if self.table is None else f" {'of' if self.kind == 'columns' else 'not listed in'} {self.table}"
        match self.kind:
            case "empty folders":
                return f"{self.count:,} folder{'' if one else 's'} without images: {listed}"
            case "folders":
                what = "folder of images" if one else "folders of images"
            case "parts":
                what = f"{'part' if one else 'parts'} of the data set"
            case "sequences":
                what = f"{'sequence' if one else 'sequences'} without a label"
            case _:
                what = self.kind[:-1] if one else self.kind
        return f"{self.count:,} {what}{where}, {listed}: not read"


OrderEvidence = Literal["counts", "proportions", "given", "trust"]
"""What shows which expressions the numbers of a source mean: complete counts, the proportions of a part of them, the
user, or nothing."""


class ClassNumbers(Record):
    """What the numbers of a source were taken for, as ``NUMBER=EXPRESSION``, and what shows that.

    ``alike``: pairs of expressions with so like proportions that an exchange of the two would not show.
    """

    shown_by: OrderEvidence
    numbers: tuple[str, ...]
    alike: tuple[str, ...] = ()

    @property
    def is_certain(self) -> bool:
        """Whether each number is known to stand for its expression."""
        return self.shown_by != "trust" and not self.alike

    def __str__(self) -> str:
        numbers = ", ".join(self.numbers)
        match self.shown_by:
            case "counts":
                return f"{numbers}: as the published counts show"
            case "proportions":
                pairs = f"; an exchange of {', or of '.join(self.alike)} would not show" if self.alike else ""
                return (
                    f"class numbers are {numbers}: the images have the published proportions in this order, and in no "
                    f"other usual one{pairs}"
                )
            case "given":
                return f"{numbers}: as given by --labels"
            case "trust":
                return (
                    f"class numbers were taken on trust as {numbers}, because the images are too few or too even to "
                    "show their order; give it with --labels"
                )


class VotesAgreement(Record):
    """How votes that were joined to images by row order agree with the labels that the images have of their own.

    ``agree`` of ``rows`` images with a majority have that label; ``enough``: so many rows that this shows the order.
    """

    rows: int
    agree: int
    enough: bool

    def __str__(self) -> str:
        share = f"{self.agree:,} of {self.rows:,} majorities agree with FER2013's own labels"
        if not self.enough:
            return f"{share}: too few rows to tell whether the votes belong to these images"
        return f"joined by row order, {share} ({self.agree / self.rows:.0%}; votes of other images would on 18%)"


class OddImages(Record):
    """Images that can hardly show a face. ``names`` are the first of ``count``, and ``usual`` is the others' size."""

    kind: Literal["blank", "small", "odd size"]
    count: int
    names: tuple[str, ...]
    usual: str | None = None

    def __str__(self) -> str:
        one = self.count == 1
        more = self.count - len(self.names)
        listed = ", ".join([*self.names, *([f"{more:,} more"] if more else [])])
        match self.kind:
            case "blank":
                return f"{self.count:,} blank image{'' if one else 's'}, of one colour: {listed}"
            case "small":
                return f"{self.count:,} image{'' if one else 's'} smaller than {SMALL} pixels: {listed}"
            case "odd size":
                return f"{self.count:,} image{' is' if one else 's are'} not of {self.usual} px as all others: {listed}"


class Alignment(Record):
    """How faces were aligned. ``kind`` is ``crops`` where they were to be, and no detector was there."""

    kind: Literal["aligned", "crops"]
    detector: str | None = None
    weights: str | None = None
    size: int | None = None
    pictures: int | None = None
    several_faces: int | None = None
    without_face: int | None = None
    smallest_face: float | None = None
    dropped: bool = False

    def __str__(self) -> str:
        if self.kind == "crops":
            return "none: no face detector weights found, images were used as face crops"
        return (
            f"{self.detector} ({(self.weights or '')[:12]}), five points to a template of {self.size} px; of several "
            f"faces the largest, weighted by how central it is: {self.several_faces:,} images; {self.without_face:,} "
            f"of {self.pictures:,} images without a face of {self.smallest_face:.0f} px "
            f"{'dropped' if self.dropped else 'kept by their middle'}"
        )


class FoldsProtocol(Record):
    """The folds of a dataset."""

    rule: FoldsRule
    hash: str
    validation: SplitOrigin
    images: tuple[int, ...]
    duplicates_across: int
    subjects_across: int
    sequences_across: int

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self.images)


class DuplicatesLeftOut(Record):
    """Which copies were left out of training: the rule, the threshold, and reason -> images.

    ``recall`` is what the search was measured to find of changed copies when it ran: change -> share of them.
    """

    rule: str
    likeness: float
    rows: dict[str, int]
    recall: dict[str, float] = Field(default_factory=dict)


class DatasetProtocol(Section):
    """What a dataset is and how it is split, or, of one fold, as that fold's model sees it.

    ``dataset`` is the name that it was prepared under; names decide nothing. ``family`` is what the loader says that
    it reads, such as ``fer2013``, and ``other`` for a folder of anybody's. ``images`` counts each split. ``faces`` and
    ``subjects_remark`` are remarks for a reader.
    """

    part: ClassVar[Literal["protocol"]] = "protocol"
    kinds: ClassVar = ("dataset", "masks")

    dataset: str
    family: str
    synthetic: bool
    classes: tuple[str, ...]
    label_rule: str
    n: dict[SplitName, int]
    split_hash: str
    parts: tuple[PartRole, ...]
    faces: str | None = None
    subjects_remark: str | None = None
    alignment: Alignment | None = None
    validation: SplitOrigin
    test: SplitOrigin
    leaky_frame_split: bool = False
    """Frames of one sequence are on both sides of the split, on purpose."""
    subjects_named: Literal["all", "some", "none"]
    missing: tuple[str, ...]
    leftovers: tuple[Leftover, ...] = ()
    """What the source holds and was not read."""
    odd_images: tuple[OddImages, ...] = ()
    numbering: ClassNumbers | None = None
    """Where the source has numbers for expressions."""
    votes_agreement: VotesAgreement | None = None
    """Where votes were joined to images by row order."""
    duplicates_across_splits: int
    subjects_across_splits: int
    sequences_across_splits: int
    duplicates_left_out: DuplicatesLeftOut | None = None
    classes_left_out: dict[str, int] | None = None
    """Of the source's classes those that were left out on purpose, with their images."""
    folds: FoldsProtocol | None = None
    fold: int | None = None

    def roles(self) -> list[tuple[str, str]]:
        """Return what a reader is told of the source's parts, faces and subjects, as (what, text)."""
        remarks = (
            ("faces", self.faces),
            ("subjects", self.subjects_remark),
            ("class numbers", self.numbering),
            ("votes", self.votes_agreement),
            ("left out", None if self.classes_left_out is None else self._left_out()),
        )
        return [
            *((role.part, str(role)) for role in self.parts),
            *((what, str(text)) for what, text in remarks if text is not None),
        ]

    def _left_out(self) -> str:
        return ", ".join(f"{count:,} {name}" for name, count in (self.classes_left_out or {}).items())


LEAKY_FRAMES: Final = "frames of the same sequences are in both train and test (leaky frame split): optimistic"


class Pretraining(Record):
    """The weights that a network started from; ``trained_on`` and ``source`` are remarks for a reader."""

    kind: WeightsKind | Literal["random"]
    trained_on: str | None = None
    source: str | None = None

    def __str__(self) -> str:
        if self.kind == "random":
            return "none (random weights)"
        return f"{self.trained_on} ({self.source})"


class StartingModel(Record):
    """A model whose weights a training began with, or that such a model began with, and what it was trained on.

    ``images`` were trained on, those of the dataset's train split, of a ``fold`` or within a ``limit`` where these are
    there.
    """

    reference: str
    dataset: Input
    family: str
    label_rule: str
    images: int
    fold: int | None = None
    limit: int | None = None
    selected_on: SplitName

    def __str__(self) -> str:
        dataset = f"{self.dataset.name}@{self.dataset.version}"
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.reference}, trained on {self.images:,} images of {dataset}{fold}, selected on {self.selected_on}"


class StartingWeights(Record):
    """The models that the weights come from, the nearest first, and what these had to do with the images at hand.

    ``trained_on`` and ``selected_by`` count, by split of the dataset at hand, its images that any of them was trained
    on or selected by; copies that stand in several splits of a dataset as it is distributed are not among them but in
    train. ``unknown`` are the models whose dataset is not in the store, so that nobody can tell. ``classifier``: taken
    over, where the classes are the same, or new; None where no classifier is trained.
    """

    models: tuple[StartingModel, ...]
    trained_on: dict[SplitName, int]
    selected_by: dict[SplitName, int]
    unknown: tuple[str, ...] = ()
    classifier: Literal["kept", "new"] | None = None

    def __str__(self) -> str:
        head = "" if self.classifier is None else f"; the classifier is {self.classifier}"
        return f"{'; which began with '.join(map(str, self.models))}{head}"

    @property
    def held_out(self) -> str:
        """What is known of the images that are held out, in words."""
        if self.unknown:
            return f"cannot be told: the data set of {', '.join(self.unknown)} is not in this store"
        splits: tuple[SplitName, ...] = ("validation", "test")
        return "; ".join(
            f"{found[split]:,} {split} images {what}"
            for found, what in ((self.trained_on, "were trained on"), (self.selected_by, "were selected by"))
            for split in splits
            if split in found
        )


class Selection(Record):
    """How the reported epoch or setting was selected; ``tried`` configurations were compared on ``split``.

    ``trials``: the recipe itself is the best of as many that were compared on that split (``fer search``).
    """

    split: SplitName
    metric: str
    what: str
    tried: int
    trials: int | None = None


class Teacher(Record):
    """The model whose answers were part of the targets, by which share, and what softened them."""

    reference: str
    weight: float
    temperature: float

    def __str__(self) -> str:
        softened = f", softened by {self.temperature:g}" if self.temperature != 1 else ""
        return f"{self.reference}: {self.weight:.0%} of each target{softened}"


class Numerics(Record):
    """What the last bits of a computation rest on: the order of sums, and the instructions that make them.

    ``threads`` and ``instructions`` are of computations on a CPU; ``precision`` is that of the products, ``processes``
    those that shared the work, ``libraries`` the versions of those that compute, by name.
    """

    device: str
    threads: int | None = None
    processes: int = 1
    processor: str | None = None
    instructions: str | None = None
    precision: Literal["float64", "float32", "bfloat16"] = "float32"
    libraries: dict[str, str]

    def __str__(self) -> str:
        parts = [
            self.device,
            None if self.threads is None else f"{self.threads} thread{'' if self.threads == 1 else 's'}",
            None if self.processes == 1 else f"{self.processes} processes",
            self.processor,
            self.instructions,
            self.precision,
            *(f"{name} {version}" for name, version in self.libraries.items()),
        ]
        return ", ".join(part for part in parts if part is not None)


class MemberTraining(Record):
    """What a member of an ensemble was trained from and how it was selected, and its weight in the mean."""

    reference: str
    weight: float
    pretraining: Pretraining
    selection: Selection | None = None
    teacher: Teacher | None = None

    def __str__(self) -> str:
        parts = [f"weight {self.weight:.3g}", f"pretraining {self.pretraining}"]
        if self.selection is not None:
            metric = self.selection.metric.replace("_", " ")
            parts.append(f"selected on {self.selection.split}, by {metric}: {self.selection.what}")
        if self.teacher is not None:
            parts.append(f"teacher {self.teacher}")
        return "; ".join(parts)


class EnsembleTraining(Record):
    """The members of an ensemble. The temperature of their mean, and fitted weights, are of the split ``fitted_on``."""

    weights: EnsembleWeights
    fitted_on: SplitName
    members: tuple[MemberTraining, ...]


class TrainingProtocol(Section):
    """What was trained on: the dataset as the training saw it, the weights it began with, how it was selected.

    Of an ensemble all of its members together: the images that any of them was trained on, the split that is worst to
    have been selected on, and the sum of what was tried; fitting the weights counts as one try a member.
    """

    part: ClassVar[Literal["protocol"]] = "protocol"
    kinds: ClassVar = ("features", "ahm", "model", "study", "search", "ensemble", "soft-targets")

    data: DatasetProtocol
    pretraining: Pretraining
    start: StartingWeights | None = None
    """Where it began with the weights of a model of a store."""
    selection: Selection | None = None
    teacher: Teacher | None = None
    ensemble: EnsembleTraining | None = None
    views: tuple[str, ...] | None = None
    """Of the train split, where it was fitted on kept features."""
    numerics: Numerics | None = None
    """What it was computed with; None of artifacts of before that was recorded."""
    features: Numerics | None = None
    """What the kept features that it was fitted on were computed with."""
    numerics_differ: Literal[True] | None = None
    """Its trainings were not computed alike: each says what it was computed with."""

    @property
    def computed_with(self) -> str:
        """What it was computed with, in words."""
        features = "" if self.features is None else f"; on features of {self.features}"
        unknown = "not recorded" if self.numerics_differ is None else "not alike, see its models"
        return f"{self.numerics or unknown}{features}"


def shared_numerics(protocols: Iterable[TrainingProtocol]) -> dict[str, Numerics | bool | None]:
    """Return what all trainings were computed with, or that they differ, as fields of a protocol."""
    found = [(protocol.numerics, protocol.features, protocol.numerics_differ) for protocol in protocols]
    alike = all(one == found[0] for one in found)
    numerics, features, differ = found[0] if alike else (None, None, True)
    return {"numerics": numerics, "features": features, "numerics_differ": differ}


class ClassesInCommon(Record):
    """Scores over the classes that a predictor and a dataset share: the rule, and what is left out of either."""

    rule: str
    left_out_of_predictor: tuple[str, ...]
    left_out_of_dataset: dict[SplitName, dict[str, int]]


class PredictionsFile(Record):
    """Predictions that came from a file.

    ``answer`` is the column of the answers; ``answer_by_default``: its name may mean the truth as well, and no other
    column can be the answer. ``rounded``: scores sum to 1 no more closely than rounding lets them. ``ties`` counts the
    rows whose largest score is that of several classes, ``unanswered`` the scored images without an answer.
    """

    file: str
    content: str
    form: str
    answer: str | None = None
    answer_by_default: bool = False
    rounded: bool = False
    ties: int = 0
    unanswered: int = 0


class Intervals(Record):
    """The bootstrap: ``resamples`` of ``unit``, which are independent of each other."""

    unit: str
    resamples: int
    seed: int

    def __str__(self) -> str:
        return f"95% bootstrap, {self.resamples} resamples of {self.unit}s, seed {self.seed}"


class TrainedOn(Record):
    """Another dataset than the one that is scored: its reference, and the form of its images."""

    dataset: str
    images: str


class EvaluationProtocol(Section):
    """What a number rests on.

    ``data`` is the dataset that was scored on. ``training`` is None where predictions came from a file: what they were
    trained on is not known. ``trained_on`` is there where that was another dataset than ``data``.
    """

    part: ClassVar[Literal["protocol"]] = "protocol"
    kinds: ClassVar = ("evaluation",)

    data: DatasetProtocol
    training: TrainingProtocol | None = None
    trained_on: TrainedOn | None = None
    predictions: PredictionsFile | None = None
    classes_in_common: ClassesInCommon | None = None
    split: SplitName
    predictor: str
    tta: Tta
    batching: Batching | None = None
    mixes_batch: bool = False
    times_these_items_were_scored: int
    intervals: Intervals
    checks: tuple[Finding, ...]

    @property
    def is_own(self) -> bool:
        """Whether the dataset that was scored is the one that was trained on, whose splits the training saw."""
        return self.training is not None and self.trained_on is None
