"""What is compared: systems as they were scored, each by the evaluation that a reference leads to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.manifest import OldSchemaError, read_manifest
from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.protocol import EvaluationProtocol
from fer_cli.artifacts.sections import SplitName
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import EvaluationSummary
from fer_cli.core.errors import CheckFailedError, FerError
from fer_cli.core.progress import note, warn
from fer_cli.datasets.dataset import open_dataset
from fer_cli.datasets.overlap import alike, is_hashed

KINDS: Final = ("model", "study", "ensemble", "ahm", "evaluation")
COLUMNS: Final = ("id", "predictor", "label", "predicted")


@dataclass(frozen=True, slots=True)
class ComparisonInput:
    """One system on its test items.

    ``label`` (N,) and ``predicted`` (S, N) are names of classes; there is one row of ``predicted`` a training, with its
    seed in ``seeds``, or one alone where the evaluation is of a single predictor.
    """

    name: str  # the reference of what was scored
    evaluation: Artifact
    dataset: str
    split: SplitName
    classes: tuple[str, ...]
    decides: str
    seeds: tuple[int, ...]
    trainings: int  # that it stands for; 0 where training has no chance in it
    unit: str
    ids: NDArray[np.str_]
    label: NDArray[np.str_]
    predicted: NDArray[np.str_]
    members: frozenset[str] = frozenset()  # the references of a study's trainings

    @property
    def protocol(self) -> EvaluationProtocol:
        """The protocol that it was scored under."""
        return EvaluationProtocol.of(self.evaluation)

    @property
    def unsound(self) -> tuple[str, ...]:
        """What makes its numbers unsound."""
        return EvaluationSummary.of(self.evaluation).unsound


def open_comparison_input(store: Store, reference: str) -> ComparisonInput:
    """Open what a reference names, with the predictions of its newest evaluation.

    A study stands for its trainings, one row each; so does an evaluation of it, unless it was asked for one seed or the
    ensemble. In evaluations from before there was a mean of seeds, that of a seed stands for the study.

    Raises:
        FerError: there is no such thing, it has not been scored, or its predictions cannot be read.
    """
    named = store.find(reference, KINDS)
    evaluation = evaluation_of(store, named)
    summary, protocol = EvaluationSummary.of(evaluation), EvaluationProtocol.of(evaluation)
    source = evaluation.manifest.inputs.get("model")
    chosen = summary.outputs[summary.chosen]
    of_study = source is not None and source.kind == "study"
    has_mean = any(output.kind == "mean" for output in summary.outputs.values())
    is_study = of_study and (
        named.kind == "study" or chosen.kind == "mean" or (chosen.kind == "network" and not has_mean)
    )
    path = evaluation.file("all-predictors.parquet" if is_study else "predictions.parquet")
    table = read_table(path, COLUMNS)
    names = np.array(table["predictor"].to_pylist(), dtype=np.str_)
    trainings = [name for name, output in summary.outputs.items() if output.kind == "network"]
    wanted = trainings if is_study else [summary.chosen]
    ids, label, predicted = (
        np.array(table[column].to_pylist(), dtype=np.str_) for column in ("id", "label", "predicted")
    )
    rows = [np.flatnonzero(names == name) for name in wanted]
    if not len(rows[0]) or any(ids[part].tolist() != ids[rows[0]].tolist() for part in rows):
        raise FerError(
            "the predictors were not scored on the same items", hint="score it again with --force", path=path
        )
    if len(set(ids[rows[0]].tolist())) != len(rows[0]):
        raise FerError("duplicate ids", hint="ids must tell the images apart", path=path)
    seeds = tuple(seed for name in wanted if is_study and (seed := summary.outputs[name].seed) is not None)
    return ComparisonInput(
        name=evaluation.reference if source is None else f"{source.kind}/{source.name}@{source.version}",
        evaluation=evaluation,
        dataset=summary.dataset,
        split=summary.split,
        classes=protocol.data.classes,
        decides=f"mean of seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else summary.chosen,
        seeds=seeds,
        trainings=0 if source is not None and source.kind == "ahm" else max(1, len(seeds)),
        unit=protocol.intervals.unit,
        ids=ids[rows[0]],
        label=label[rows[0]],
        predicted=np.stack([predicted[part] for part in rows]),
        members=_members(store, evaluation) if len(seeds) > 1 else frozenset(),
    )


def _members(store: Store, evaluation: Artifact) -> frozenset[str]:
    """Return the references of a study's trainings; none where the study is gone from the store."""
    try:
        inputs = open_parent(store, evaluation, "model").manifest.inputs.values()
    except FerError:
        return frozenset()
    return frozenset(f"{one.kind}/{one.name}@{one.version}" for one in inputs)


def evaluation_of(store: Store, artifact: Artifact) -> Artifact:
    """Return an evaluation as it is; of anything else the newest, on the dataset it was trained on if there is one.

    Of these the newest that is sound, if there is one: a probe (``--batching sorted``) is not in the way. An unsound
    score is not passed over for one on another dataset.
    """
    if artifact.kind == "evaluation":
        return artifact
    scored = []
    for directory in store.directories(("evaluation",)):
        try:
            source = read_manifest(directory).inputs.get("model")
        except OldSchemaError:
            continue
        except FerError as error:
            warn(f"{error}; passing it over")
            continue
        if source is not None and source.model_copy(update={"name": artifact.name}) == artifact.as_input():
            scored.append(store.open(directory))
    if not scored:
        raise FerError(f"{artifact.reference} has not been scored", hint=f"run `fer eval {artifact.reference}` first")
    best = min(scored, key=_preference)
    note(f"using {best.reference}")
    return best


def _preference(evaluation: Artifact) -> tuple[bool, bool]:
    elsewhere = EvaluationProtocol.of(evaluation).trained_on is not None
    return elsewhere, bool(EvaluationSummary.of(evaluation).unsound)


def in_order_of(first: ComparisonInput, other: ComparisonInput) -> NDArray[np.int64]:
    """Return the rows of ``other`` that hold the items of ``first``, in its order; the items must be the same."""
    row = {name: number for number, name in enumerate(other.ids.tolist())}
    return np.array([row[name] for name in first.ids.tolist()], dtype=np.int64)


def check_comparable(first: ComparisonInput, other: ComparisonInput) -> None:
    """Refuse systems whose numbers do not speak of the same thing.

    Raises:
        CheckFailedError: they differ in test items, classes, label rule, labels or N; all of these are named.
    """
    reasons = []
    mine, theirs = set(first.ids.tolist()), set(other.ids.tolist())
    if mine != theirs:
        counts = f"{len(mine):,} and {len(theirs):,}, {len(mine & theirs):,} of them the same"
        reasons.append(f"test items ({first.dataset} {first.split} and {other.dataset} {other.split}: {counts})")
    shown = [[name for name in one.classes if name in set(one.label.tolist())] for one in (first, other)]
    if shown[0] != shown[1]:  # a class that no image has is but a wrong answer
        reasons.append(f"classes ({', '.join(first.classes)} and {', '.join(other.classes)})")
    rules = [one.protocol.data.label_rule for one in (first, other)]
    if rules[0] != rules[1]:
        reasons.append(f"label rule ({rules[0]} and {rules[1]})")
    elif mine == theirs:
        n = [one.protocol.data.n.get(one.split, len(one.ids)) for one in (first, other)]
        if n[0] != n[1]:
            reasons.append(f"N ({n[0]:,} and {n[1]:,} images under the label rule)")
        if unlike := int((first.label != other.label[in_order_of(first, other)]).sum()):
            reasons.append(f"labels of {unlike:,} items")
    if reasons:
        raise CheckFailedError(
            f"{first.evaluation.reference} and {other.evaluation.reference} differ in {'; '.join(reasons)}",
            hint="score both on the same split of the same dataset, or name the evaluations ('fer ls evaluation')",
        )


def check_images(store: Store, first: ComparisonInput, other: ComparisonInput) -> None:
    """Refuse equal ids of other images: neither are their files equal, nor their pixels as decoded or as kept.

    Raises:
        CheckFailedError: the images differ, or nobody can tell: of two sizes, without the hashes of what was decoded.
        FerError: a dataset is not in the store any more.
    """
    inputs = [one.evaluation.manifest.inputs["dataset"] for one in (first, other)]
    if inputs[0].content == inputs[1].content:
        return
    parents = [open_parent(store, one.evaluation, "dataset") for one in (first, other)]
    sources = [{role: source.content for role, source in one.manifest.inputs.items()} for one in parents]
    if sources[0] and sources[0] == sources[1]:
        return
    mine, theirs = (open_dataset(one) for one in parents)
    row_of = {name: row for row, name in enumerate(theirs.ids.tolist())}
    rows = np.flatnonzero(np.isin(mine.ids, first.ids))
    others = np.array([row_of[name] for name in mine.ids[rows].tolist()], dtype=np.int64)
    if unlike := int((~alike(mine, rows, theirs, others)).sum()):
        both = f"{parents[0].reference} and {parents[1].reference}"
        if mine.images.shape[1:] == theirs.images.shape[1:] or (is_hashed(mine, rows) and is_hashed(theirs, others)):
            raise CheckFailedError(
                f"{both} have different images under {unlike:,} of these ids", hint="score both on the same dataset"
            )
        raise CheckFailedError(
            f"{both} are of two sizes: whether {unlike:,} of these ids are the same images cannot be told",
            hint="prepare both again from their sources, which keeps the hashes of these, and score again",
        )


def check_sound(systems: Sequence[ComparisonInput]) -> None:
    """Refuse numbers that are not sound.

    Raises:
        CheckFailedError: there is one.
    """
    for one in systems:
        if one.unsound:
            raise CheckFailedError(
                f"{one.evaluation.reference} is unsound: {'; '.join(one.unsound)}",
                hint="leave it out, or compare with --allow-unsound: its numbers are marked then",
            )


def units_of(store: Store, systems: Sequence[ComparisonInput]) -> tuple[str, NDArray[np.int64] | None]:
    """Return what is independent and its number (N,) of each item of the first system: :meth:`Dataset.units`."""
    named = next((one for one in systems if one.unit != "item"), None)
    if named is None:
        return "item", None
    dataset = open_dataset(open_parent(store, named.evaluation, "dataset"))
    unit, units = dataset.units()
    if units is None:
        raise FerError(f"{dataset.artifact.reference} names no {named.unit}s", hint="score with the dataset as it is")
    number = dict(zip(dataset.ids.tolist(), units.tolist(), strict=True))
    return unit, np.array([number[item] for item in systems[0].ids.tolist()], dtype=np.int64)
