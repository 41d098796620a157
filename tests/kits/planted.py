"""Artifacts with one thing changed, whole in every other way: for the tests of what finds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.manifest import Input, digest
from fer_cli.artifacts.payload import read_table, table_bytes
from fer_cli.artifacts.protocol import DatasetProtocol, TrainingProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import DatasetSummary, Measured, ModelConfig, ModelSummary
from fer_cli.artifacts.work import Plan

Tensors = dict[str, NDArray[Any]]


def planted_model(
    store: Store,
    artifact: Artifact,
    name: str,
    *,
    config: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None,
    tensors: Callable[[Tensors], None] | None = None,
) -> Artifact:
    """Write a model again under another name, with other settings or weights."""
    manifest = artifact.manifest
    settings = ModelConfig.of(artifact).model_copy(update=config)
    planted = Input(kind="files", name="planted", content=digest(name))  # another name is another model here
    inputs = {**manifest.inputs, "planted": planted}
    plan = Plan("model", name, "train", 1, settings.record(), inputs, manifest.seeds)
    with store.make(plan) as work:
        for entry in manifest.files:
            data = (artifact.path / entry.path).read_bytes()
            if tensors is not None and entry.path.endswith(".safetensors"):
                held = dict(load_file(artifact.path / entry.path))
                tensors(held)
                data = save({key: np.array(value, order="C") for key, value in held.items()})
            work.write(entry.path, data)
        changed = ModelSummary.of(artifact).model_copy(update=summary)
        return work.commit(summary=changed, protocol=TrainingProtocol.of(artifact), measured=Measured.of(artifact))


def planted_dataset(
    store: Store, artifact: Artifact, name: str, change: Callable[[list[dict[str, Any]]], None]
) -> Artifact:
    """Write a data set again with another index."""
    table = read_table(artifact.file("index.parquet"))
    rows = table.to_pylist()
    change(rows)
    plan = Plan("dataset", name, "prepare", 1, {"planted": change.__name__, "as": name}, {})
    with store.make(plan) as work:
        work.write("images.npy", artifact.file("images.npy").read_bytes())
        metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        work.write(
            "index.parquet", table_bytes({key: [row[key] for row in rows] for key in table.column_names}, metadata)
        )
        return work.commit(summary=DatasetSummary.of(artifact), protocol=DatasetProtocol.of(artifact))
