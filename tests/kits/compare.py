"""Evaluations of made-up predictions, put into a store as ``fer eval`` would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.manifest import Input, digest
from fer_cli.artifacts.payload import json_bytes, table_bytes
from fer_cli.artifacts.protocol import Batching, Intervals
from fer_cli.artifacts.sections import SplitName
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import (
    EvaluationConfig,
    EvaluationSummary,
    ModelConfig,
    ModelSummary,
    Output,
    SelectedScores,
)
from fer_cli.artifacts.work import Plan
from fer_cli.metrics import evaluate
from fer_cli.training.study import study_of
from tests.kits.protocols import dataset_protocol, evaluation_protocol, training_protocol
from tests.kits.toy import CLASSES

DATASET = Input(kind="dataset", name="drawn", version="0123456789ab", content=digest("drawn"))


def labels(n: int = 210) -> NDArray[np.int64]:
    return np.arange(n) % len(CLASSES)


def answers(n: int, accuracy: float, seed: int) -> NDArray[np.int64]:
    """Predictions of ``labels(n)`` of which about ``accuracy`` are right."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < accuracy, labels(n), rng.integers(len(CLASSES), size=n))


def made_model(store: Store, name: str, recipe: Mapping[str, Any], seed: int, dataset: Input) -> Artifact:
    config = ModelConfig(system="baseline", recipe=dict(recipe), seed=seed, select_on="validation", classes=CLASSES)
    made = Input(kind="files", name="made", content=digest(name))  # another name is another model here
    plan = Plan("model", name, "train", 1, config.record(), {"dataset": dataset, "made": made}, [seed])
    with store.make(plan) as work:
        if work.committed is not None:
            return work.committed
        work.write("weights.json", json_bytes([name, dict(recipe), seed]))
        summary = ModelSummary(
            headline=name,
            epoch=1,
            epochs=1,
            selected=SelectedScores(accuracy=0.5, balanced_accuracy=0.5, macro_f1=0.5, validation_loss=1.0),
            tensors_loaded=0,
            preprocessing={},
            training_images=900,
            mixes_batch=False,
            parameters=1000 + len(name),
            multiply_adds=1,
            details={},
        )
        return work.commit(summary=summary, protocol=training_protocol(dataset_protocol()))


def scored(
    store: Store,
    name: str,
    predicted: NDArray[np.int64] | Sequence[NDArray[np.int64]],
    *,
    true: NDArray[np.int64] | None = None,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] = CLASSES,
    split: SplitName = "test",
    settings: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    protocol: Mapping[str, Any] | None = None,
    unsound: Sequence[str] = (),
    chosen: str | None = None,
    order: NDArray[np.int64] | None = None,
    seeds: Sequence[int] = (0,),
    dataset: Input = DATASET,
    groups: Sequence[str] | None = None,
    resamples: int = 100,
    tta: Literal["none", "flip"] = "none",
    batching: Batching | None = None,
) -> Artifact:
    """Make a model, or a study where there are several rows of predictions, and its evaluation; return that."""
    rows = [np.asarray(predicted)] if isinstance(predicted, np.ndarray) and predicted.ndim == 1 else list(predicted)
    true = labels(len(rows[0])) if true is None else true
    names = [f"drawn-{k:04}" for k in range(len(true))] if ids is None else list(ids)
    order = np.arange(len(true)) if order is None else order
    recipe = {"model": {"backbone": "tiny", "attention": "none"}, **(settings or {})}
    outputs: dict[str, Output]
    if len(rows) == 1:
        source = made_model(store, f"{name}-seed0", recipe, seeds[0], dataset)
        outputs = {"network": Output(kind="network", seed=seeds[0])}
    else:
        models = [made_model(store, f"{name}-seed{seed}", recipe, seed, dataset) for seed in seeds]
        source = study_of(store, "baseline", models, seeds).artifact
        outputs = {f"seed {seed}": Output(kind="network", seed=seed) for seed in seeds}
        outputs["ensemble"] = Output(kind="ensemble")
        rows.append(np.round(np.mean(rows, axis=0)).astype(np.int64))
    predictors = list(outputs)
    chosen = chosen or predictors[0]
    word = np.array(classes)
    drawn = None if groups is None else np.array(groups)[order]
    metrics = {
        one: evaluate(
            true[order], np.eye(len(classes))[row[order]], tuple(classes), seed=0, groups=drawn, resamples=resamples
        ).to_json()
        for one, row in zip(predictors, rows, strict=True)
    }
    table = {
        one: {
            "id": [names[k] for k in order],
            "predictor": [one] * len(true),
            "label": word[true[order]].tolist(),
            "predicted": word[row[order]].tolist(),
        }
        for one, row in zip(predictors, rows, strict=True)
    }
    every = {column: [value for one in table.values() for value in one[column]] for column in table[chosen]}
    config = EvaluationConfig(
        split=split, predictor=chosen, tta=tta, batching=batching, resamples=resamples, seed=0, names={}
    )
    plan = Plan(
        kind="evaluation",
        name=f"{source.kind}-{source.name}-{split}",
        stage="eval",
        revision=1,
        config=config.record(),
        inputs={"model": source.as_input(), "dataset": dataset},
    )
    with store.make(plan) as work:
        if work.committed is not None:
            return work.committed
        work.write(
            "metrics.json",
            json_bytes({"dataset": "drawn", "split": split, "chosen": chosen, "predictors": metrics}),
        )
        work.write("predictions.parquet", table_bytes(table[chosen]))
        work.write("all-predictors.parquet", table_bytes(every))
        changes = {"classes": tuple(classes), "n": {"train": 900, split: len(true)}, **(data or {})}
        seen = dataset_protocol(**changes)
        unit = "item" if groups is None else "subject"
        values = {
            "split": split,
            "tta": tta,
            "intervals": Intervals(unit=unit, resamples=resamples, seed=0),
            **(protocol or {}),
        }
        summary = EvaluationSummary(
            headline=name,
            dataset="drawn",
            split=split,
            images=len(true),
            chosen=chosen,
            outputs=outputs,
            accuracy={},
            balanced_accuracy={},
            macro_f1={},
            unsound=tuple(unsound),
            cautions=(),
        )
        return work.commit(summary=summary, protocol=evaluation_protocol(seen, **values))
