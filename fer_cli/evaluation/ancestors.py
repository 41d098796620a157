"""The models that weights come from: what they were trained on, and what of it is held out elsewhere."""

from __future__ import annotations

from typing import Final

import numpy as np

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import find_input
from fer_cli.artifacts.protocol import StartingModel, StartingWeights, TrainingProtocol
from fer_cli.artifacts.sections import SPLIT_NAMES, SplitName
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelConfig, ModelSummary
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.folds import of_fold
from fer_cli.evaluation.copies import held_out_no_more
from fer_cli.evaluation.predictor import Ancestor, TrainingRecord

HELD_OUT: Final[tuple[SplitName, ...]] = ("validation", "test")


def open_ancestors(store: Store, start: StartingWeights | None) -> tuple[Ancestor, ...]:
    """Return the models that weights come from, each with what it was trained on where that is in the store."""
    return () if start is None else tuple(Ancestor(model, _record(store, model)) for model in start.models)


def starting_weights(store: Store, model: Artifact, dataset: Dataset) -> StartingWeights:
    """Return what a protocol says of weights that are those of a model.

    Args:
        store: where its dataset is, or is not.
        model: whose weights they are.
        dataset: the one at hand, with the splits that are used.
    """
    models = (described(model), *_before(model))
    trained_on: dict[SplitName, int] = {}
    selected_by: dict[SplitName, int] = {}
    ancestors = [Ancestor(one, _record(store, one)) for one in models]
    records = [one.record for one in ancestors if one.record is not None]
    train = dataset.rows("train") if "train" in dataset.split_names else np.zeros(0, dtype=np.int64)
    for split in SPLIT_NAMES if records else ():
        if split not in dataset.split_names:
            continue
        rows, own = dataset.rows(split), train if split != "train" else train[:0]
        trained, selected = np.zeros(len(rows), dtype=np.bool_), np.zeros(len(rows), dtype=np.bool_)
        for record in records:
            trained |= held_out_no_more(dataset, rows, own, record.dataset, record.rows)
            selected |= held_out_no_more(dataset, rows, own, record.dataset, record.dataset.rows(record.select_on))
        trained_on[split], selected_by[split] = int(trained.sum()), int(selected.sum())
    unknown = tuple(one.model.reference for one in ancestors if one.record is None)
    return StartingWeights(models=models, trained_on=trained_on, selected_by=selected_by, unknown=unknown)


def described(model: Artifact) -> StartingModel:
    """Return what is known of a model as one whose weights another begins with."""
    config, protocol = ModelConfig.of(model), TrainingProtocol.of(model)
    return StartingModel(
        reference=model.reference,
        dataset=model.manifest.inputs["dataset"],
        family=protocol.data.family,
        label_rule=protocol.data.label_rule,
        images=ModelSummary.of(model).training_images,
        fold=config.fold,
        limit=config.recipe.get("data", {}).get("limit"),
        selected_on=config.select_on,
    )


def _before(model: Artifact) -> tuple[StartingModel, ...]:
    start = TrainingProtocol.of(model).start
    return () if start is None else start.models


def _record(store: Store, model: StartingModel) -> TrainingRecord | None:
    """Return what a model was trained on; None where its dataset is not in the store as it was."""
    found = find_input(store, model.dataset)
    if found is None or found.lineage_only or found.manifest.content != model.dataset.content:
        return None
    dataset = open_dataset(found)
    if model.fold is not None:
        dataset = of_fold(dataset, model.fold)
    rows = dataset.rows("train")
    if model.limit is not None:
        from fer_cli.training.inputs import limited

        rows = limited(rows, dataset.labels[rows], model.limit, seed=0)
    return TrainingRecord(dataset, rows, model.selected_on, {}, {})
