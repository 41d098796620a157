"""Stage ``export``: a model as a file for other programs, checked against the network on real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli import __version__
from fer_cli.artifacts.archive import write_archive
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.atomic_io import write_atomic
from fer_cli.artifacts.maintenance import Lineage, has_parent, lineage
from fer_cli.artifacts.manifest import KINDS as ALL_KINDS
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.progress import track, warn
from fer_cli.datasets.fold_view import dataset_of
from fer_cli.prediction.onnx_model import CheckRecord, ExportRecord, Precision, SourceRecord, from_bytes

if TYPE_CHECKING:
    from fer_cli.datasets.dataset import Dataset
    from fer_cli.export.check import Classify
    from fer_cli.export.graph import Pixels
    from fer_cli.faces.retinaface_onnx import DetectorRecord
    from fer_cli.prediction.model import Model

SUFFIXES: Final = {"onnx": ".onnx", "torch-export": ".pt2", "zip": ".zip"}
KINDS: Final = ("model", "study", "ensemble")
PARITY_IMAGES: Final = 1000
"""On which a file in float32 is compared with its network; another precision is measured on all."""
_CALIBRATION: Final = 256  # training images from which the ranges of 8 bits are measured


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and what it says of itself."""

    path: Path
    size: int
    record: ExportRecord


@dataclass(frozen=True, slots=True)
class Archived:
    """A zip that was written: of what, the artifacts that are in it, and those of which it has the lineage alone."""

    path: Path
    size: int
    artifact: Artifact
    parts: tuple[Artifact, ...]
    lineage: tuple[Artifact, ...]


def export_graph(
    *, store: Store, model: str | None = None, to: str, precision: Precision = "fp32", out: Path | None = None
) -> Exported:
    """Write a model as one graph from pixels to calibrated probabilities.

    A file in float32 must answer as the network does on images of the model's own validation split, on synthetic faces
    where the data set is not here, else nothing is written; what another precision costs is measured on that split and
    written into the file.

    Args:
        store: where the model and its data set are.
        model: reference of a model, or of a study or an ensemble (one graph with the mean of its models); the newest
            where it is None.
        to: ``onnx`` or ``torch-export``.
        precision: of an ONNX file; int8 is static, with ranges from training images.
        out: the file; NAME-VERSION with the usual suffix, in the working folder, where it is None.

    Raises:
        FerError: the model cannot be exported, the file answers otherwise, or the precision is to be measured and the
            model's data set is not in the store.
        UsageError: options contradict each other.
    """
    if to != "onnx" and precision != "fp32":
        raise UsageError(f"--precision {precision} is of ONNX files", hint="add --to onnx")
    artifact = store.find(model, list(KINDS))
    path = place(artifact, to, out)
    from fer_cli.evaluation.predictors.ensemble import networks_of
    from fer_cli.export import graph as graphs
    from fer_cli.export.check import (
        SYNTHETIC_FACES,
        compare,
        compare_on_synthetic_faces,
        refuse_other_answers,
        split_of,
    )
    from fer_cli.prediction.model import open_model

    opened = open_model(store, artifact, "cpu")
    first = next(iter(networks_of(store, artifact).values()))
    dataset = dataset_of(store, first) if precision != "fp32" or has_parent(store, first, "dataset") else None
    if dataset is None:
        checked_on = f"checked on {SYNTHETIC_FACES} synthetic faces, not on its images"
        warn(f"{artifact.reference}: its data set is not here: {checked_on}")
    record = record_of(store, artifact, opened, precision, graphs.OPSET if to == "onnx" else None)
    graph = graphs.PixelsToProbabilities(opened).eval()
    most = PARITY_IMAGES if precision == "fp32" else None

    def checked(classify: Classify) -> CheckRecord:
        if dataset is None:
            return compare_on_synthetic_faces(opened, classify)
        return compare(opened, classify, dataset, split_of(dataset), most)

    if to == "torch-export":
        with track("write the graph", None, unit=None):
            program = graphs.program_of(graph, record)
        answers = graphs.program_answers(graphs.program_bytes(program, record))

        def classify(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
            return answers(np.stack([record.pixels(crop) for crop in crops]))

        check = checked(classify)
    else:
        with track("write the graph", None, unit=None):
            data = graphs.onnx_bytes(graph, record)
        if precision == "fp16":
            data = graphs.to_fp16(data)
        elif precision == "int8":
            assert dataset is not None, "it is wanted where the precision is measured"
            data = graphs.to_int8(data, _calibration(record, dataset))
        session = from_bytes(graphs.with_record(data, record), path)
        check = checked(lambda crops: session.predict(crops).probabilities)
    if precision == "fp32":
        refuse_other_answers(check, artifact.reference)
    record = record.model_copy(update={"check": check})
    data = graphs.program_bytes(program, record) if to == "torch-export" else graphs.with_record(data, record)
    write_atomic(path, data)
    return Exported(path, len(data), record)


def export_archive(*, store: Store, reference: str | None = None, out: Path | None = None) -> Archived:
    """Write an artifact with its lineage as one zip, which :func:`fer_cli.artifacts.archive_import` takes back.

    Args:
        store: where it is.
        reference: of a model, a study, an ensemble, AHM or an evaluation; the newest of the first three where it is
            None.
        out: the file; NAME-VERSION.zip in the working folder where it is None.

    Raises:
        FerError: it is of a kind that is not exported, or damaged.
    """
    artifact = store.find(reference, KINDS if reference is None else ALL_KINDS)
    path = place(artifact, "zip", out)
    parts, known = write_archive(store, artifact, path)
    return Archived(path, path.stat().st_size, artifact, tuple(parts), tuple(known))


def export_detector(*, name: str, out: Path | None = None, weights: str | None = None) -> tuple[Path, DetectorRecord]:
    """Write a face detector as an ONNX file, with which ``fer predict`` finds faces without torch.

    Args:
        name: one of :data:`fer_cli.faces.retinaface.DETECTORS`.
        out: the file; NAME.onnx in the working folder where it is None.
        weights: a file with its weights; found on this machine or fetched where it is None.

    Raises:
        FerError: the weights cannot be had, or the file answers otherwise than the network.
    """
    from fer_cli.export import detector
    from fer_cli.faces.retinaface import find_detector

    path = _checked(Path(f"{name}.onnx") if out is None else out, "onnx")
    found = find_detector(name, weights)
    assert found is not None, "it is named: found, fetched or refused"
    data, record = detector.export_detector(*found, path)
    write_atomic(path, data)
    return path, record


def place(artifact: Artifact, to: str, out: Path | None) -> Path:
    """Return where a file goes.

    Raises:
        FerError: it is a folder, or in a folder that is not there.
        UsageError: its name is of another kind of file.
    """
    return _checked(Path(f"{artifact.name}-{artifact.version[:8]}{SUFFIXES[to]}") if out is None else out, to)


def _checked(path: Path, to: str) -> Path:
    if path.suffix.lower() != SUFFIXES[to]:
        raise UsageError(f"--out {path} does not end in {SUFFIXES[to]}", hint=f"a file of --to {to} does")
    if path.is_dir() or not path.parent.is_dir():
        raise FerError("cannot be written: not a file in an existing folder", hint="give the path of a file", path=path)
    return path


def _calibration(record: ExportRecord, dataset: Dataset) -> list[Pixels]:
    rows = dataset.rows("train")
    rows = np.random.default_rng(0).choice(rows, min(_CALIBRATION, len(rows)), replace=False)
    return [
        np.stack([record.pixels(dataset.images[row]) for row in rows[start : start + 32]])
        for start in range(0, len(rows), 32)
    ]


def record_of(store: Store, artifact: Artifact, model: Model, precision: Precision, opset: int | None) -> ExportRecord:
    """Return what a file of a model says of itself, before it was checked."""
    preparation = model.networks[0].preprocessing
    return ExportRecord.model_validate(
        {
            "fer": __version__,
            "reference": artifact.reference,
            "content": artifact.manifest.content,
            "classes": model.classes,
            "grey": model.crops.grey,
            "size": preparation.size,
            "crop": preparation.crop,
            "interpolation": preparation.interpolation,
            "mean": preparation.mean,
            "std": preparation.std,
            "temperatures": model.temperatures,
            "weights": model.weights,
            "temperature": model.temperature,
            "side": model.crops.side,
            "points": tuple((float(x), float(y)) for x, y in model.crops.points),
            "alone": any(network.mixes_batch for network in model.networks),
            "precision": precision,
            "opset": opset,
            "lineage": tuple(_sources(lineage(store, artifact))),
        }
    )


def _sources(node: Lineage) -> list[SourceRecord]:
    """Return what an artifact was made from, and what that was made from, each once."""
    found: dict[tuple[str, str, str], SourceRecord] = {}
    for parent in node.parents:
        source = parent.source
        one = SourceRecord(role=parent.role, **source.model_dump())
        for each in (one, *_sources(parent)):
            found.setdefault((each.kind, each.name, each.content), each)
    return list(found.values())
