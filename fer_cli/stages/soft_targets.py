"""What a teacher says of the training images: made once, for all students of the same data set."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import TrainingProtocol
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.runner import run
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import Measured, SoftTargetsSummary
from fer_cli.artifacts.work import Plan, Work
from fer_cli.core import machine
from fer_cli.core.distributed import Ranks
from fer_cli.core.errors import FerError
from fer_cli.core.progress import track
from fer_cli.datasets.dataset import Dataset

REVISION: Final = 1
SHARES: Final = "shares.npy"
KINDS: Final = ("model", "study", "ensemble")
_BLOCK: Final = 512


def soft_targets(store: Store, teacher: str, dataset: Dataset, *, device: str, ranks: Ranks) -> Result:
    """Return the answers of a teacher: the mean of both views' calibrated probabilities, a row a training image.

    Args:
        store: where artifacts are.
        teacher: reference of a model, a study or an ensemble that was trained on the same data set.
        dataset: the data set.
        device: auto, or torch's name of it.
        ranks: the processes; the first one makes them.

    Raises:
        FerError: there is no such teacher, or it was trained on another data set: it may have seen the student's test
            images.
    """
    artifact = store.find(teacher, list(KINDS))
    _check(store, artifact, dataset)
    plan = Plan(
        kind="soft-targets",
        name=f"{artifact.name}-answers",
        stage="soft-targets",
        revision=REVISION,
        config={"views": ["original", "flip"]},
        inputs={"dataset": dataset.artifact.as_input(), "teacher": artifact.as_input()},
        seeds=[],
    )

    def produce(work: Work) -> None:
        if ranks.rank:
            return
        rows = dataset.rows("train")
        shares = _answers(store, artifact, dataset, rows, device)
        stream = io.BytesIO()
        np.save(stream, shares, allow_pickle=False)
        work.write(SHARES, stream.getvalue())
        agreement = float((shares.argmax(1) == dataset.labels[rows]).mean())
        work.commit(
            summary=SoftTargetsSummary(
                headline=f"{artifact.reference} of {len(rows):,} training images",
                images=len(rows),
                classes=dataset.classes,
                agreement=agreement,
            ),
            protocol=TrainingProtocol.of(artifact),
            measured=Measured(**machine.usage(machine.device_name(device))),
            files=[SHARES],
        )

    return run(store, plan, produce, ranks=ranks, force=False)


def _check(store: Store, teacher: Artifact, dataset: Dataset) -> None:
    from fer_cli.evaluation.predictors.ensemble import networks_of

    for model in networks_of(store, teacher).values():
        trained_on = model.manifest.inputs["dataset"]
        if (trained_on.name, trained_on.version) != (dataset.artifact.name, dataset.artifact.version):
            raise FerError(
                f"distill.teacher {teacher.reference} was trained on {trained_on.name}@{trained_on.version}, not on "
                f"{dataset.artifact.reference}: it may have seen its test images",
                hint="take a teacher of the same data set",
            )
        if model.manifest.config.get("fold") is not None:
            raise FerError(
                f"distill.teacher {teacher.reference} is of a fold: its training images are others",
                hint="take a teacher of the data set's own splits",
            )


def _answers(
    store: Store, teacher: Artifact, dataset: Dataset, rows: NDArray[np.int64], device: str
) -> NDArray[np.float32]:
    from fer_cli.prediction.model import open_model

    model = open_model(store, teacher, device)
    shares = np.empty((len(rows), len(dataset.classes)), np.float32)
    with track(f"answers of {teacher.name}", len(rows)) as advance:
        for start in range(0, len(rows), _BLOCK):
            images = dataset.images[rows[start : start + _BLOCK]]
            views = [model.predict(view).probabilities for view in (images, images[:, :, ::-1])]
            shares[start : start + _BLOCK] = np.mean(views, axis=0)
            advance(len(images))
    return shares
