"""Folds in training: the data set as the model of one fold sees it, and what all of them together can be said to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.store import Artifact, Store
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.folds import of_fold
from fer_cli.datasets.leaks import Leaks, find_leaks
from fer_cli.datasets.splits import lasting_roles, split_hash


@dataclass(frozen=True, slots=True)
class Seen:
    """A data set as a training sees it: its own splits, or those of a fold, and the protocol and warnings of these."""

    dataset: Dataset
    fold: int | None
    protocol: Mapping[str, Any]
    warnings: tuple[str, ...]


def seen(dataset: Dataset, fold: int | None) -> Seen:
    """Return a data set as the model of a fold sees it; with its own splits where there is none.

    Raises:
        FerError: it has no such fold.
    """
    manifest = dataset.artifact.manifest
    if fold is None:
        return Seen(dataset, None, manifest.protocol, tuple(manifest.warnings))
    view = of_fold(dataset, fold)
    leaks, own = _leaks(view), set(_leaks(dataset).warnings)
    folds = manifest.protocol["folds"]
    counts = {name: len(view.rows(name)) for name in view.split_names}
    protocol = {
        **{name: value for name, value in manifest.protocol.items() if name != "unsound_split"},
        "fold": fold,
        "n": counts,
        "split_hash": split_hash(view.ids.tolist(), view.splits.tolist()),
        "roles": {
            f"fold {fold}": "test",
            f"the other {folds['number'] - 1}": "train, less validation",
            **lasting_roles(manifest.protocol["roles"], persons_known=dataset.subjects is not None),
        },
        "validation": folds["validation"],
        "test": f"fold {fold} of {folds['number']}: {folds['rule']}",
        "duplicates_across_splits": leaks.duplicates_across,
        "subjects_across_splits": leaks.subjects_across,
        "sequences_across_splits": leaks.sequences_across,
    }
    warnings = [text for text in manifest.warnings if text not in own]
    return Seen(view, fold, protocol, (*warnings, *leaks.warnings))


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
    fold = model.manifest.config.get("fold")
    return dataset if fold is None else of_fold(dataset, fold)


def protocol_of_all(models: Sequence[Artifact]) -> dict[str, Any]:
    """Return the protocol of a study over folds: each image is tested once, what trains is counted where it is least.

    Leaks are those of the worst fold.
    """
    protocols = [model.manifest.protocol for model in models]
    first = protocols[0]
    folds = first["folds"]
    n = {name: min(one["n"][name] for one in protocols) for name in first["n"] if name != "test"}
    leaks = ("duplicates_across_splits", "subjects_across_splits", "sequences_across_splits")
    return {
        **{name: value for name, value in first.items() if name != "fold"},
        "n": {**n, "test": sum(folds["images"])},
        "split_hash": folds["hash"],
        "roles": {
            "each fold": "test of a model of its own, which was trained and chosen on the other folds",
            **{
                name: role
                for name, role in first["roles"].items()
                if all(one["roles"].get(name) == role for one in protocols)
            },
        },
        "test": f"{folds['number']} folds: {folds['rule']}",
        **{name: max(one[name] for one in protocols) for name in leaks},
        "selection": {
            **first["selection"],
            "tried": max(one["selection"]["tried"] for one in protocols),
        },
    }
