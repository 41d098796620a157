"""Opening whatever can be scored."""

from __future__ import annotations

from fer_cli.artifacts.store import Artifact, Store
from fer_cli.errors import UsageError
from fer_cli.stages.scored import Subject


def open_subject(
    store: Store, artifact: Artifact, device: str, batching: str | None, data: Artifact | None = None
) -> Subject:
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
        from fer_cli.stages.scored_ahm import ahm_subject

        return ahm_subject(store, artifact, device, data)
    from fer_cli.stages.scored_folds import folds_subject
    from fer_cli.stages.scored_model import model_subject, study_subject

    if artifact.kind == "model":
        return model_subject(store, artifact, device, batching, data)
    of_study = folds_subject if "folds" in artifact.manifest.config else study_subject
    return of_study(store, artifact, device, batching, data)


def default_split(names: tuple[str, ...]) -> str:
    """Return the split to score where none is asked for."""
    return "test" if "test" in names else "validation"
