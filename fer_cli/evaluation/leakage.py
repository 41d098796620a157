"""The checks of what the images that are scored have to do with those that were trained on, or selected by."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.protocol import LEAKY_FRAMES, DatasetProtocol
from fer_cli.artifacts.sections import SplitName
from fer_cli.core.findings import Check, Finding
from fer_cli.datasets.overlap import overlap, same_id_space, shared_subjects
from fer_cli.evaluation.predictor import Predictor, Rows, TrainingRecord


def leaks(predictor: Predictor, rows: Rows) -> tuple[Finding, Finding]:
    """Look for images that the models which score them were trained on: by id, and by equal pixels."""
    dataset = predictor.dataset
    same, equal = trained_on(predictor, rows)
    of = f"of {len(rows):,} scored images"
    scorers = _scorers(predictor, rows)
    training = f"{len(scorers[0][1].rows):,} training images" if len(scorers) == 1 else "its fold's training images"
    ids, pixels = (
        Finding(check, "pass", f"none {of} is among the {training}, by {how}")
        for check, how in ((Check.TRAINING_IDS, "id"), (Check.TRAINING_IMAGES, "pixels"))
    )
    if len(same):
        ids = Finding(
            Check.TRAINING_IDS,
            "fail",
            f"{len(same):,} {of} were trained on, the first is {dataset.ids[rows[same[0]]]}",
            "score images that it was not trained on",
        )
    if len(equal):
        pixels = Finding(
            Check.TRAINING_IMAGES,
            "fail",
            f"{len(equal):,} {of} equal a training image pixel by pixel, the first is {dataset.ids[rows[equal[0]]]}",
            "prepare the dataset without duplicates (--drop-duplicates), and train again",
        )
    return ids, pixels


def trained_on(predictor: Predictor, rows: Rows) -> tuple[Rows, Rows]:
    """Return which rows (positions among them) the models that score them were trained on: as such, as equals."""
    overlaps = [
        (places, overlap(part.dataset, rows[places], record.dataset, record.rows))
        for part, record, places in _scorers(predictor, rows)
    ]
    same, equal = ([places[getattr(each, kind)] for places, each in overlaps] for kind in ("same", "equal"))
    return np.sort(np.concatenate(same)), np.sort(np.concatenate(equal))


def shared(predictor: Predictor, rows: Rows) -> Iterator[Finding]:
    """Look for subjects and sequences that the models which score them were trained on; nothing where none is named.

    A leaky frame split fails, whichever images are scored.
    """
    scorers = _scorers(predictor, rows)
    same_names = [record.dataset for part, record, _ in scorers if same_id_space(part.dataset, record.dataset)]
    named = {
        "subject": any(dataset.subjects is not None for dataset in same_names),
        "sequence": any(dataset.sequences is not None for dataset in same_names),
    }
    if not any(named.values()):
        return
    positions = [
        shared_subjects(part.dataset, rows[places], record.dataset, record.rows) for part, record, places in scorers
    ]
    reasons = [
        f"{count:,} of {len(rows):,} scored images are of a {what} in the training images"
        for index, what in enumerate(named)
        if (count := sum(len(each[index]) for each in positions))
    ]
    if any(DatasetProtocol.of(dataset.artifact).leaky_frame_split for dataset in same_names):
        reasons.insert(0, LEAKY_FRAMES)
    if reasons:
        advice = "split by subject ('fer split' keeps subjects and sequences whole), and train again"
        yield Finding(Check.SHARED_SUBJECTS, "fail", "; ".join(reasons), advice)
    else:
        which = " or ".join(what for what, is_named in named.items() if is_named)
        measured = f"none of {len(rows):,} scored images is of a {which} in the training images"
        yield Finding(Check.SHARED_SUBJECTS, "pass", measured)


def selection(predictor: Predictor, rows: Rows, split: SplitName) -> Finding:
    """Look for images that a model was selected by among those that it scores."""
    scorers = _scorers(predictor, rows)
    select_on = scorers[0][1].select_on
    advice = f"score a split that selected nothing, and select on validation (it was selected on {select_on})"
    if predictor.is_own and split == select_on:
        return Finding(Check.SELECTION, "fail", f"it was selected on the {split} split, which is scored", advice)
    if predictor.is_own and select_on == "test":
        return Finding(Check.SELECTION, "fail", "it was selected on test: optimistic everywhere", advice)
    selected_by = [record.dataset.rows(select_on) for _, record, _ in scorers]
    overlaps = [
        overlap(part.dataset, rows[places], record.dataset, chosen)
        for (part, record, places), chosen in zip(scorers, selected_by, strict=True)
    ]
    if count := sum(len(each.same) + len(each.equal) for each in overlaps):
        return Finding(
            Check.SELECTION,
            "caution" if predictor.is_own else "fail",
            f"{count:,} of {len(rows):,} scored images equal one of the {select_on} images that selected it",
            "prepare the dataset without duplicates (--drop-duplicates), and train again"
            if predictor.is_own
            else advice,
        )
    if len(scorers) > 1:
        least, most = min(map(len, selected_by)), max(map(len, selected_by))
        images = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        measured = f"each selected on {images} {select_on} images, none of which it scores"
        return Finding(Check.SELECTION, "pass", measured)
    return Finding(
        Check.SELECTION, "pass", f"selected on {select_on}, {len(selected_by[0]):,} images, none of them scored"
    )


def _scorers(predictor: Predictor, rows: Rows) -> list[tuple[Predictor, TrainingRecord, NDArray[np.intp]]]:
    """Return who scores which of the rows (positions among them), and what that was trained on."""
    return [
        (part, part.training_record, places)
        for part, places in predictor.by_part(rows)
        if part.training_record is not None
    ]
