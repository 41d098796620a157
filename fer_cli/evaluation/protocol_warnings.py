"""What makes a number unsound, and what a reader must know of it: decided by the protocol's fields, said in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fer_cli.artifacts.protocol import LEAKY_FRAMES, EvaluationProtocol, PredictionsFile

SUSPICIOUS: Final = {"rafdb": 0.93, "fer2013": 0.77, "ferplus": 0.92}
"""Family of datasets -> accuracy above which one model without extra face data should be taken for a bug."""
FEW: Final = 100
"""Images below which a selection split decides more by chance than by merit: its standard error is 5 points."""


@dataclass(frozen=True, slots=True)
class ProtocolWarnings:
    """``unsound`` are marked in red wherever the number appears, ``cautions`` in amber; one phrase each."""

    unsound: tuple[str, ...]
    cautions: tuple[str, ...]


def judge(protocol: EvaluationProtocol, accuracy: float) -> ProtocolWarnings:
    """Return what is to be said of an accuracy that was measured under a protocol.

    The splits of the dataset that was trained on say nothing of another dataset's. Where nobody knows what was trained
    on, it may have been the dataset that is scored.
    """
    return ProtocolWarnings(tuple(_unsound(protocol)), tuple(_cautions(protocol, accuracy)))


def _unsound(protocol: EvaluationProtocol) -> list[str]:
    data, training, is_own = protocol.data, protocol.training, protocol.is_own
    selection = None if training is None or training.selection is None else training.selection.split
    unsound = []
    if is_own and protocol.split == "train":
        unsound.append("scored on the training split: not an estimate of performance on new images")
    elif is_own and protocol.split == selection:
        unsound.append("scored on the selection split: optimistic")
    elif is_own and selection == "test":
        unsound.append("selected on the test split: optimistic on every split")
    if data.leaky_frame_split and (is_own or training is None):
        unsound.append(LEAKY_FRAMES)
    if protocol.mixes_batch and protocol.batching != "alone":
        unsound.append(f"predictions depend on the other images in the batch ({protocol.batching})")
    if is_own:
        unsound += [f"{count} {what} are in more than one split: optimistic" for what, count in _leaks(protocol)]
    return unsound


def _cautions(protocol: EvaluationProtocol, accuracy: float) -> list[str]:
    data, training = protocol.data, protocol.training
    cautions = []
    if training is None:
        if protocol.split == "train":
            cautions.append("Scored on the training split: valid only if the predictor was trained on other images")
        cautions += [
            f"{count} {what} are in more than one split: optimistic if the predictor was trained on this dataset"
            for what, count in _leaks(protocol)
        ]
    if (file := protocol.predictions) is not None:
        cautions += _file_cautions(file)
    if data.missing:
        cautions.append(f"The source was incomplete: {'; '.join(data.missing)}")
    cautions += [f"Of the source, {leftover}" for leftover in data.leftovers if leftover.matters]
    if data.numbering is not None and not data.numbering.is_certain:
        cautions.append(f"Of the source, {data.numbering}")
    if data.votes_agreement is not None and not data.votes_agreement.enough:
        cautions.append(f"Of the votes, {data.votes_agreement}")
    if data.alignment is not None and data.alignment.kind == "crops":
        cautions.append("Faces were not aligned: no face detector weights found, images were used as face crops")
    if data.duplicates_across_splits and (protocol.is_own or training is None):
        cautions.append(f"{data.duplicates_across_splits} duplicate groups span splits: optimistic")
    if training is not None:
        selection = training.selection
        images = None if selection is None else training.data.n.get(selection.split)
        if selection is not None and images is not None and images < FEW:
            cautions.append(f"Selected on {images} {selection.split} images: too few to select reliably")
        if training.pretraining.kind == "random":
            cautions.append("The backbone has random weights: this tests the pipeline, not a method")
    if accuracy > SUSPICIOUS.get(data.family, 1.0):
        cautions.append(
            f"Accuracy above {SUSPICIOUS[data.family]:.0%} on {data.family} without extra face data: suspect a bug or "
            "a leak"
        )
    if data.synthetic:
        cautions.append("Synthetic faces: a test bench, not evidence about real faces")
    return cautions


def _file_cautions(file: PredictionsFile) -> list[str]:
    cautions = []
    if file.unanswered:
        cautions.append(f"Without an answer: {file.unanswered:,} images, which count as wrong")
    if file.answer_by_default:
        cautions.append(f"Column {file.answer!r} is taken for the answer, not the truth: no other column can be it")
    if file.rounded:
        cautions.append("Scores are rounded and sum to 1 by their division: calibration is coarse")
    if file.ties:
        cautions.append(f"Several classes have the largest score in {file.ties:,} rows: the first of them counts")
    return cautions


def _leaks(protocol: EvaluationProtocol) -> list[tuple[str, int]]:
    data = protocol.data
    counts = (("subjects", data.subjects_across_splits), ("sequences", data.sequences_across_splits))
    return [(what, count) for what, count in counts if count]
