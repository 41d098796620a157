"""Opening whatever can be scored."""

from __future__ import annotations

from collections.abc import Container

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import Batching
from fer_cli.artifacts.sections import SplitName
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import StudyConfig
from fer_cli.core.errors import UsageError
from fer_cli.evaluation.ancestors import open_ancestors
from fer_cli.evaluation.predictor import Predictor


def open_predictor(
    store: Store,
    artifact: Artifact,
    device: str,
    batching: Batching | None,
    data: Artifact | None = None,
    features: Artifact | None = None,
) -> Predictor:
    """Open an ahm artifact, a model, a study or an ensemble on the dataset that it was trained on, or on another one.

    Args:
        store: where artifacts are.
        artifact: which.
        device: torch's name of the device, or ``auto``.
        batching: how images are batched when a deep model scores them; its own way where it is None.
        data: the dataset to score on, over the classes in common; its own where it is None.
        features: of an ahm artifact that is scored on another dataset, that dataset's.
    """
    predictor = _open(store, artifact, device, batching, data, features)
    if predictor.training is not None:
        predictor.ancestors = open_ancestors(store, predictor.training.start)
    return predictor


def _open(
    store: Store,
    artifact: Artifact,
    device: str,
    batching: Batching | None,
    data: Artifact | None,
    features: Artifact | None,
) -> Predictor:
    if artifact.kind == "ahm":
        if batching is not None:
            raise UsageError("--batching is for deep models", hint="leave it out: AHM has no batches")
        from fer_cli.evaluation.predictors.ahm import ahm_predictor

        return ahm_predictor(store, artifact, data, features)
    if artifact.kind == "ensemble":
        from fer_cli.evaluation.predictors.ensemble import ensemble_predictor

        return ensemble_predictor(store, artifact, device, batching, data)
    from fer_cli.evaluation.predictors.folds import folds_predictor
    from fer_cli.evaluation.predictors.model import model_predictor, study_predictor

    if artifact.kind == "model":
        return model_predictor(store, artifact, device, batching, data)
    of_study = study_predictor if StudyConfig.of(artifact).folds is None else folds_predictor
    return of_study(store, artifact, device, batching, data)


def default_split(names: Container[str]) -> SplitName:
    """Return the split to score where none is asked for."""
    return "test" if "test" in names else "validation"
