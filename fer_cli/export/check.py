"""Is what was exported still the model: the same answers, of real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypedDict

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.checksums import AnyArray
from fer_cli.artifacts.sections import SplitName
from fer_cli.core.errors import FerError
from fer_cli.core.progress import track
from fer_cli.datasets.dataset import Dataset
from fer_cli.prediction.model import BATCH, Model
from fer_cli.prediction.onnx_model import CheckRecord

TOLERANCE: Final = 1e-4
"""Between the probabilities of a network and of its exported file in float32."""
SYNTHETIC_FACES: Final = 64
Classify = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float64]]


class _Agreement(TypedDict):
    images: int
    largest_difference: float
    same_class: float


def split_of(dataset: Dataset) -> SplitName:
    """Return the split whose images are compared: validation; where there is none, train."""
    return "validation" if "validation" in dataset.split_names else "train"


def compare(model: Model, exported: Classify, dataset: Dataset, split: SplitName, most: int | None) -> CheckRecord:
    """Run a model and its exported file on images of its own data set.

    Args:
        model: on its networks.
        exported: crops (H, W) or (H, W, 3) to probabilities (n, C), with the same preparation of the images.
        dataset: that the model was trained on.
        split: of it.
        most: images at most, drawn at random with a fixed seed; None: all.
    """
    rows = dataset.rows(split)
    if most is not None and len(rows) > most:
        rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
    ours, theirs = _answers(model, exported, dataset.images, rows)
    names = np.array(model.classes)
    labels = np.array(dataset.classes)[dataset.labels[rows]]
    return CheckRecord(
        dataset=dataset.artifact.reference,
        split=split,
        **_agreement(ours, theirs),
        network_accuracy=float((names[ours.argmax(1)] == labels).mean()),
        accuracy=float((names[theirs.argmax(1)] == labels).mean()),
    )


def compare_on_synthetic_faces(model: Model, exported: Classify) -> CheckRecord:
    """Run a model and its exported file on faces that fer draws, where the model's data set is not here.

    They show whether the answers are equal, and nothing of how good they are.
    """
    from fer_cli.datasets.synth.faces import render_face
    from fer_cli.datasets.synth.loader import face_of

    side = model.crops.side or model.networks[0].preprocessing.size
    faces = [render_face(face_of(0, number, number), side)[0] for number in range(SYNTHETIC_FACES)]
    ours, theirs = _answers(model, exported, faces, np.arange(len(faces)))
    return CheckRecord(**_agreement(ours, theirs))


def _answers(
    model: Model, exported: Classify, images: AnyArray | Sequence[NDArray[np.uint8]], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ours, theirs = (np.empty((len(rows), len(model.classes))) for _ in range(2))
    with track("check", len(rows), "images") as advance:
        for start in range(0, len(rows), BATCH):
            crops = [images[row] for row in rows[start : start + BATCH]]
            ours[start : start + len(crops)] = model.predict(crops).probabilities
            theirs[start : start + len(crops)] = exported(crops)
            advance(len(crops))
    return ours, theirs


def _agreement(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> _Agreement:
    return {
        "images": len(ours),
        "largest_difference": float(np.abs(ours - theirs).max()),
        "same_class": float((ours.argmax(1) == theirs.argmax(1)).mean()),
    }


def refuse_other_answers(check: CheckRecord, reference: str) -> None:
    """Refuse a file in float32 whose answers are not the network's.

    Raises:
        FerError: a class is another one, or a probability differs by more than :data:`TOLERANCE`.
    """
    others = round(check.images * (1 - check.same_class))
    # Written so that NaN is refused too.
    if others or not check.largest_difference <= TOLERANCE:
        raise FerError(
            f"the exported {reference} answers otherwise than the network: of {check.images:,} images {others:,} have "
            f"another class, and probabilities differ by up to {check.largest_difference:.2g}, more than {TOLERANCE:g}",
            hint="nothing was written: report it",
        )
