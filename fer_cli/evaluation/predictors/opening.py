"""Opening whatever can be scored."""

from __future__ import annotations

from fer_cli.artifacts.store import Artifact, Store
from fer_cli.core.errors import UsageError
from fer_cli.evaluation.predictor import Predictor


def open_predictor(
    store: Store, artifact: Artifact, device: str, batching: str | None, data: Artifact | None = None
) -> Predictor:
    """Open an ahm artifact, a model or a study on the data set that it learned from, or on another one.

    Args:
        store: where artifacts are.
        artifact: which.
        device: torch's name of the device, or ``auto``.
        batching: what stands beside an image when a deep model scores it; its own way where it is None.
        data: the data set to score on, over the classes in common; its own where it is None.
    """
    if artifact.kind == "ahm":
        if batching is not None:
            raise UsageError("--batching is for deep models", hint="leave it out: AHM has no batches")
        from fer_cli.evaluation.predictors.ahm import ahm_predictor

        return ahm_predictor(store, artifact, device, data)
    from fer_cli.evaluation.predictors.folds import folds_predictor
    from fer_cli.evaluation.predictors.model import model_predictor, study_predictor

    if artifact.kind == "model":
        return model_predictor(store, artifact, device, batching, data)
    of_study = folds_predictor if "folds" in artifact.manifest.config else study_predictor
    return of_study(store, artifact, device, batching, data)


def default_split(names: tuple[str, ...]) -> str:
    """Return the split to score where none is asked for."""
    return "test" if "test" in names else "validation"
