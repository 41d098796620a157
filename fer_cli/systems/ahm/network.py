"""The network behind an ahm artifact, from images to scores: for the audit, which runs it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.payload import read_tensors
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import AhmSummary, FeaturesConfig, FeaturesSummary
from fer_cli.systems.ahm.predictors import PREDICTORS, Predictors
from fer_cli.weights.files import UNKNOWN, WeightsFile, find_here

if TYPE_CHECKING:
    from fer_cli.models.trained import TrainedModel


def ahm_network(store: Store, artifact: Artifact, device: str) -> TrainedModel | None:
    """Return the backbone with the chosen predictor on it; None where the weights that it was made with are not here.

    Its logits are the predictor's scores divided by its temperature.

    Raises:
        FerError: the weights that were found do not fit.
    """
    import torch
    from torch import nn

    from fer_cli.models.trained import TrainedModel
    from fer_cli.models.truncation import open_level
    from fer_cli.systems.model_features import open_model_level

    parent = open_parent(store, artifact, "features")
    made, loaded = FeaturesConfig.of(parent), FeaturesSummary.of(parent).weights
    summary = AhmSummary.of(artifact)
    weights, model = None, None
    if "model" in parent.manifest.inputs:
        model = open_parent(store, parent, "model")
        if model.lineage_only:
            return None
    elif loaded is not None:
        named = Path(loaded.file)
        weights = WeightsFile(named, "file", UNKNOWN) if named.is_file() else find_here(made.backbone)
        if weights is None or weights.sha256() != made.weights:
            return None
    backbone = (
        open_level(made.backbone, level=made.level, size=made.size, weights=weights)
        if model is None
        else open_model_level(model, level=made.level, size=made.size)
    )
    classes = summary.classes
    predictors = Predictors.from_tensors(read_tensors(artifact.file("ahm.safetensors")), classes)
    name = next(known for known in PREDICTORS if known == summary.chosen)
    temperature = predictors.temperatures[PREDICTORS.index(name)]

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = backbone.network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = backbone.features(x).flatten(1).cpu().numpy().astype(made.dtype)
            scores = predictors.scores(features.astype(np.float32), name) / temperature
            return torch.from_numpy(scores)

    return TrainedModel(Whole().eval().to(device), backbone.preprocessing, classes, mixes_batch=False)
