"""The checks of a model's number that cost little: names, preprocessing, ids, selection, a few images alone.

``fer eval`` makes them always; :mod:`fer_cli.stages.audit_model` makes them and more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.sections import SplitName
from fer_cli.artifacts.summaries import ModelSummary
from fer_cli.core.findings import Check, Finding
from fer_cli.core.progress import track
from fer_cli.datasets.dataset import Dataset
from fer_cli.evaluation.cross_dataset import image_format
from fer_cli.evaluation.label_permutation import swapped_names
from fer_cli.evaluation.leakage import leaks, selection, shared, starting_weights
from fer_cli.evaluation.predictor import Predictor, Rows, TrainingRecord

if TYPE_CHECKING:
    from fer_cli.evaluation.batch_invariance import LogitShift
    from fer_cli.models.trained import TrainedModel

FEW: Final = 32
"""Images that ``fer eval`` runs alone and in a batch."""


def cheap_checks(
    predictor: Predictor, rows: Rows, split: SplitName, tables: Sequence[NDArray[np.float64]]
) -> tuple[Finding, ...]:
    """Make the checks that ``fer eval`` makes always.

    Args:
        predictor: what is scored.
        rows: (n,) of its dataset.
        split: that they are.
        tables: (n, C) each, of the chosen output, or of the runs whose mean it is.
    """
    record = predictor.training_record
    if predictor.lacks_training_data:
        assert predictor.target.trained_on is not None
        away = f"{predictor.target.trained_on.dataset}, which it was trained on, is not in this store"
        advice = "prepare that dataset in this store, and evaluate again"
        return (
            swapped(predictor, rows, tables),
            *(
                Finding(check, "cannot be told", f"whether scored images were trained on: {away}", advice)
                for check in (Check.TRAINING_IDS, Check.TRAINING_IMAGES)
            ),
            *starting_weights(predictor, rows),
            *_few_alone(predictor, rows),
        )
    if record is None:
        unknown = "what the predictions were trained on is unknown"
        return (
            swapped(predictor, rows, tables),
            Finding(Check.TRAINING_IDS, "cannot be told", unknown),
            *predictor.findings,
        )
    return (
        class_names(predictor, record, rows, tables),
        preprocessing(predictor, record),
        *leaks(predictor, rows),
        *shared(predictor, rows),
        selection(predictor, rows, split),
        *starting_weights(predictor, rows),
        *_few_alone(predictor, rows),
    )


def class_names(
    predictor: Predictor, record: TrainingRecord, rows: Rows, tables: Sequence[NDArray[np.float64]]
) -> Finding:
    """Compare the names that an artifact gives its outputs with its dataset's, and with what it answers."""
    wanted = record.dataset.classes
    for part, names in record.class_names.items():
        if names != wanted:
            return Finding(
                Check.CLASS_NAMES,
                "fail",
                f"{part} names its outputs {', '.join(names)}, the dataset it was trained on {', '.join(wanted)}",
                "do not trust its predictions: train it again, or bring back the artifact as it was made",
            )
    return swapped(predictor, rows, tables)


def swapped(predictor: Predictor, rows: Rows, tables: Sequence[NDArray[np.float64]]) -> Finding:
    """Look in the predictions for class names at the wrong outputs; of several runs in each."""
    classes = predictor.dataset.classes
    answered = ~predictor.no_answer(rows)
    labels, swap = predictor.dataset.labels[rows[answered]], None
    for table in tables:
        confusion = np.zeros((len(classes), len(classes)))
        np.add.at(confusion, (labels, table[answered].argmax(axis=1)), 1)
        swap = swap or swapped_names(confusion)
    if swap is None:
        return Finding(
            Check.CLASS_NAMES,
            "pass",
            f"{', '.join(classes)}: no other order of them fits the predictions clearly better",
        )
    pairs = ", ".join(f"{classes[true]} is predicted as {classes[given]}" for true, given in swap.pairs)
    return Finding(
        Check.CLASS_NAMES,
        "fail",
        f"{pairs}: balanced accuracy {swap.balanced_accuracy:.1%}, with these names swapped {swap.if_renamed:.1%}",
        "the class names are at the wrong outputs: correct their order where the predictions or weights were made",
    )


def preprocessing(predictor: Predictor, record: TrainingRecord) -> Finding:
    """Compare what a network does to images with what its training recorded, and the images with its own."""
    artifact = predictor.origin.artifact
    networks = predictor.networks()
    recorded = ModelSummary.of(artifact).preprocessing if artifact is not None and artifact.kind == "model" else None
    for name, model in networks.items():
        applied = model.preprocessing.record()
        if recorded is not None and applied != recorded:
            key = next(key for key in {**recorded, **applied} if recorded.get(key) != applied.get(key))
            return Finding(
                Check.PREPROCESSING,
                "fail",
                f"{name} was trained with {key} {recorded.get(key)}, and is run with {applied.get(key)}",
                "use the fer and the timm that trained it, or train it again",
            )
    training, scored = image_format(record.dataset), image_format(predictor.dataset)
    if training != scored:
        return Finding(
            Check.PREPROCESSING,
            "caution",
            f"trained on images of {training}, scored on images of {scored}",
            "prepare both datasets alike (--size), or read the number with that in mind",
        )
    as_recorded = ", preprocessed as recorded" if networks else ""
    return Finding(Check.PREPROCESSING, "pass", f"images of {scored}, as in training{as_recorded}")


def invariance_findings(part: str, shifts: list[LogitShift], again: LogitShift, images: int) -> tuple[Finding, Finding]:
    """Put what :func:`fer_cli.evaluation.batch_invariance.batch_invariance` measured into words."""
    prefix = f"{part}: " if part else ""
    worst = max(shifts, key=lambda shift: (shift.classes, shift.logits))
    if all(shift.is_invariant for shift in shifts):
        most = max(shift.logits for shift in shifts)
        alone = Finding(
            Check.BATCH_INVARIANCE,
            "pass",
            f"{prefix}{images} images alone and in batches: no prediction changed, logits within {most:.1e}",
        )
    else:
        alone = Finding(
            Check.BATCH_INVARIANCE,
            "fail",
            f"{prefix}{worst.classes} of {images} predictions change in {worst.how}, logits shift by "
            f"{worst.logits:.3g}",
            "predictions depend on the other images in the batch: score each alone (--batching alone), or train "
            "without what mixes the batch (model.attention=tokens)",
        )
    if again.is_invariant:
        return alone, Finding(
            Check.REPEATABILITY, "pass", f"{prefix}{images} images twice: logits within {again.logits:.1e}"
        )
    return alone, Finding(
        Check.REPEATABILITY,
        "fail",
        f"{prefix}{again.classes} of {images} predictions change when run again, logits shift by {again.logits:.3g}",
        "something is random at test time: take dropout or random augmentation out of it",
    )


def _training_mode_findings(part: str, modules: list[str]) -> tuple[Finding, Finding]:
    """Return the findings of a network in training mode: to run it would change its norms' statistics."""
    prefix = f"{part}: " if part else ""
    shown = ", ".join(modules[:3]) + (f" and {len(modules) - 3} more" if len(modules) > 3 else "")
    return (
        Finding(
            Check.BATCH_INVARIANCE, "not measured", f"{prefix}it is not in evaluation mode", "run it in evaluation mode"
        ),
        Finding(Check.REPEATABILITY, "fail", f"{prefix}not in evaluation mode: {shown}", "run it in evaluation mode"),
    )


def is_amber(finding: Finding, predictor: Predictor) -> bool:
    """Tell whether a reader must know of a finding although the number does not fall with it.

    That is what is doubtful; what cannot be told of the images; a network that mixes its batch where each image was
    scored alone; and copies of training images that are in the dataset's own splits, as it is distributed.
    """
    if finding.verdict == "fail":
        return (finding.check == Check.BATCH_INVARIANCE and predictor.batching == "alone") or (
            finding.check == Check.TRAINING_IMAGES and predictor.is_own
        )
    if finding.verdict == "cannot be told":
        return predictor.predictions is None  # a file of predictions has a caution of its own
    return finding.verdict == "caution"


def subsample(labels: NDArray[np.int64], rows: Rows, number: int) -> Rows:
    """Return at most ``number`` of the rows, each class by its share, at least one of each."""
    from fer_cli.datasets.sampling import stratified_subsample

    return rows[stratified_subsample(labels[rows], number, seed=0)]


def _few_alone(predictor: Predictor, rows: Rows) -> Iterator[Finding]:
    networks = predictor.networks()
    if not networks:
        yield Finding(Check.BATCH_INVARIANCE, "pass", "each image is scored from its own features alone")
        return
    yield from worst_of(
        measure_batch_invariance(networks, predictor.dataset, rows, number=FEW, sizes=(FEW,), sort=False)
    )


def measure_batch_invariance(
    networks: Mapping[str, TrainedModel],
    dataset: Dataset,
    rows: Rows,
    *,
    number: int,
    sizes: tuple[int, ...],
    sort: bool,
) -> list[tuple[Finding, Finding]]:
    """Run every network on images alone, in batches, and twice.

    Args:
        networks: by name.
        dataset: of the images.
        rows: of it, those to take from.
        number: images to take, each class by its share.
        sizes: of the batches.
        sort: run batches class by class as well as shuffled.
    """
    from fer_cli.evaluation.batch_invariance import batch_invariance, runs

    sample = subsample(dataset.labels, rows, number)
    findings = []
    with track("check", len(sample) * runs(sizes, sort=sort) * len(networks)) as advance:
        for name, model in networks.items():
            prefix = name if len(networks) > 1 else ""
            if modules := training_mode(model):
                findings.append(_training_mode_findings(prefix, modules))
                continue
            shifts, again = batch_invariance(
                model, dataset.images, dataset.labels, sample, sizes=sizes, sort=sort, advance=advance
            )
            findings.append(invariance_findings(prefix, shifts, again, len(sample)))
    return findings


def training_mode(model: TrainedModel) -> list[str]:
    """Return the names of the modules that are not in evaluation mode: dropout drops there, norms follow the batch."""
    return [name or type(module).__name__ for name, module in model.network.named_modules() if module.training]


def worst_of(findings: list[tuple[Finding, Finding]]) -> tuple[Finding, ...]:
    """Return of each check the first network's that fails, else the first's."""
    return tuple(
        next((finding for finding in each if finding.verdict == "fail"), each[0])
        for each in zip(*findings, strict=True)
    )
