"""Evaluations of made-up predictions, put into a store as ``fer eval`` would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.manifest import Input, digest
from fer_cli.artifacts.payload import json_bytes, table_bytes
from fer_cli.artifacts.store import Artifact, Plan, Store
from fer_cli.metrics import evaluate
from tests.kits.toy import CLASSES

DATASET = Input(kind="dataset", name="drawn", version="0123456789ab", content=digest("drawn"))


def labels(n: int = 210) -> NDArray[np.int64]:
    return np.arange(n) % len(CLASSES)


def answers(n: int, accuracy: float, seed: int) -> NDArray[np.int64]:
    """Predictions of ``labels(n)`` of which about ``accuracy`` are right."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < accuracy, labels(n), rng.integers(len(CLASSES), size=n))


def made(store: Store, kind: str, name: str, config: Mapping[str, Any], inputs: Mapping[str, Input]) -> Artifact:
    plan = Plan(kind=kind, name=name, stage="train", revision=1, config=config, inputs=inputs)
    with store.make(plan) as work:
        if work.committed is not None:
            return work.committed
        work.write("weights.json", json_bytes([name, dict(config)]))
        return work.commit(summary={"parameters": 1000 + len(name)}, protocol={})


def scored(
    store: Store,
    name: str,
    predicted: NDArray[np.int64] | Sequence[NDArray[np.int64]],
    *,
    true: NDArray[np.int64] | None = None,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] = CLASSES,
    split: str = "test",
    settings: Mapping[str, Any] | None = None,
    protocol: Mapping[str, Any] | None = None,
    unsound: Sequence[str] = (),
    chosen: str | None = None,
    order: NDArray[np.int64] | None = None,
    seeds: Sequence[int] = (0,),
    dataset: Input = DATASET,
    groups: Sequence[str] | None = None,
    resamples: int = 100,
    **config: Any,
) -> Artifact:
    """Make a model, or a study where there are several rows of predictions, and its evaluation; return that."""
    rows = [np.asarray(predicted)] if isinstance(predicted, np.ndarray) and predicted.ndim == 1 else list(predicted)
    true = labels(len(rows[0])) if true is None else true
    names = [f"drawn-{k:04}" for k in range(len(true))] if ids is None else list(ids)
    order = np.arange(len(true)) if order is None else order
    settings = {"system": "baseline", "model": {"backbone": "tiny", "attention": "none"}, **(settings or {})}
    if len(rows) == 1:
        source = made(store, "model", f"{name}-seed0", {**settings, "seed": seeds[0]}, {"dataset": dataset})
        predictors = ["network"]
    else:
        models = [
            made(store, "model", f"{name}-seed{seed}", {**settings, "seed": seed}, {"dataset": dataset})
            for seed in seeds
        ]
        inputs = {f"seed{seed}": model.as_input() for seed, model in zip(seeds, models, strict=True)}
        source = made(store, "study", name, {"seeds": list(seeds)}, inputs)
        predictors = [f"seed {seed}" for seed in seeds]
        predictors.append("ensemble")
        rows.append(np.round(np.mean(rows, axis=0)).astype(np.int64))
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
    plan = Plan(
        kind="evaluation",
        name=f"{source.kind}-{source.name}-{split}",
        stage="eval",
        revision=1,
        config={"split": split, "predictor": chosen, **config},
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
        told = {
            "dataset": "drawn",
            "classes": list(classes),
            "label_rule": "drawn labels",
            "n": {"train": 900, split: len(true)},
            "split": split,
            "selection": {"split": "validation", "metric": "accuracy", "tried": 3},
        }
        return work.commit(summary={"headline": name, "unsound": list(unsound)}, protocol={**told, **(protocol or {})})
