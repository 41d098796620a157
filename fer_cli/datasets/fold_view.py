"""Folds in training: the data set as the model of one fold sees it, and what all of them together can be said to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.protocol import DatasetProtocol, PartRole, SplitOrigin, TrainingProtocol
from fer_cli.artifacts.sections import SplitName
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelConfig
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.folds import of_fold
from fer_cli.datasets.leaks import Leaks, find_leaks
from fer_cli.datasets.splits import class_warnings, split_hash


@dataclass(frozen=True, slots=True)
class Seen:
    """A data set as a training sees it: its own splits, or those of a fold, and the protocol and warnings of these."""

    dataset: Dataset
    fold: int | None
    protocol: DatasetProtocol
    warnings: tuple[str, ...]


def seen(dataset: Dataset, fold: int | None) -> Seen:
    """Return a data set as the model of a fold sees it; with its own splits where there is none.

    Raises:
        FerError: it has no such fold.
    """
    whole, warnings = DatasetProtocol.of(dataset.artifact), dataset.artifact.manifest.warnings
    if fold is None:
        return Seen(dataset, None, whole, tuple(warnings))
    view = of_fold(dataset, fold)
    assert whole.folds is not None, "the index has folds"
    leaks, own = _leaks(view), {*_leaks(dataset).warnings, *_class_warnings(dataset)}
    carved: tuple[SplitName, ...] = ("validation",) if "validation" in view.split_names else ()
    protocol = whole.model_copy(
        update={
            "leaky_frame_split": False,
            "fold": fold,
            "n": {name: len(view.rows(name)) for name in view.split_names},
            "split_hash": split_hash(view.ids.tolist(), view.splits.tolist()),
            "parts": (
                PartRole(part=f"fold {fold}", use="test"),
                PartRole(part=f"the other {whole.folds.number - 1}", use="train", carved=carved),
                *(role for role in whole.parts if role.use == "not read"),
            ),
            "subjects_remark": whole.subjects_remark if whole.subjects_named == "none" else None,
            "validation": whole.folds.validation,
            "test": SplitOrigin(kind="fold", fold=fold, folds=whole.folds.rule),
            "duplicates_across_splits": leaks.duplicates_across,
            "subjects_across_splits": leaks.subjects_across,
            "sequences_across_splits": leaks.sequences_across,
        }
    )
    return Seen(
        view, fold, protocol, (*(text for text in warnings if text not in own), *_class_warnings(view), *leaks.warnings)
    )


def _class_warnings(dataset: Dataset) -> list[str]:
    labels = [dataset.classes[number] for number in dataset.labels.tolist()]
    return class_warnings(labels, dataset.splits.tolist(), dataset.classes)


def _leaks(dataset: Dataset) -> Leaks:
    return find_leaks(
        dataset.splits.tolist(),
        labels=dataset.labels.astype(str).tolist(),
        pixels=dataset.pixels.tolist(),
        subjects=[] if dataset.subjects is None else dataset.subjects.tolist(),
        sequences=[] if dataset.sequences is None else dataset.sequences.tolist(),
    )


def dataset_of(store: Store, model: Artifact) -> Dataset:
    """Return the data set that a model was trained on, with the splits of its fold where it is of one.

    Raises:
        FerError: it is gone, damaged, or not what it was.
    """
    dataset = open_dataset(open_parent(store, model, "dataset"))
    fold = ModelConfig.of(model).fold
    return dataset if fold is None else of_fold(dataset, fold)


def protocol_of_all(models: Sequence[Artifact]) -> TrainingProtocol:
    """Return the protocol of a study over folds: each image is tested once, what trains is counted where it is least.

    Leaks are those of the worst fold.
    """
    protocols = [TrainingProtocol.of(model) for model in models]
    first, datasets = protocols[0], [one.data for one in protocols]
    whole, selections = datasets[0], [one.selection for one in protocols if one.selection is not None]
    folds = whole.folds
    assert folds is not None, "models of folds"
    n = {name: min(one.n[name] for one in datasets) for name in whole.n if name != "test"}
    data = whole.model_copy(
        update={
            "fold": None,
            "n": {**n, "test": sum(folds.images)},
            "split_hash": folds.hash,
            "parts": (
                PartRole(part="each fold", use="each fold"),
                *(role for role in whole.parts if role.use == "not read"),
            ),
            "test": SplitOrigin(kind="all folds", folds=folds.rule),
            "duplicates_across_splits": max(one.duplicates_across_splits for one in datasets),
            "subjects_across_splits": max(one.subjects_across_splits for one in datasets),
            "sequences_across_splits": max(one.sequences_across_splits for one in datasets),
        }
    )
    selection = selections[0].model_copy(update={"tried": max(one.tried for one in selections)})
    return first.model_copy(update={"data": data, "selection": selection})
