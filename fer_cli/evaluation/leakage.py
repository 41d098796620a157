"""The checks of what the images that are scored have to do with those that were trained on, or selected by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fer_cli.artifacts.protocol import LEAKY_FRAMES, DatasetProtocol
from fer_cli.artifacts.sections import SplitName
from fer_cli.core.findings import Check, Finding, Verdict
from fer_cli.datasets.overlap import same_id_space, shared_subjects
from fer_cli.evaluation.copies import scorers, selected_by, selected_by_before, trained_on, trained_on_before
from fer_cli.evaluation.predictor import Predictor, Rows

PREPARE_AGAIN: Final = (
    "prepare both datasets again from their sources, which keeps the hashes of these, and train again"
)


def leaks(predictor: Predictor, rows: Rows) -> tuple[Finding, Finding]:
    """Look for images that the models which score them were trained on: under their ids, and under others."""
    dataset = predictor.dataset
    copies = trained_on(predictor, rows)
    of = f"of {len(rows):,} scored images"
    records = [record for _, record, _ in scorers(predictor, rows)]
    training = f"{len(records[0].rows):,} training images" if len(records) == 1 else "its fold's training images"
    searched = (
        f", and none of {copies.sought:,} of unknown origin is a near copy within the reach of the search"
        if copies.sought
        else ""
    )
    ids = Finding(Check.TRAINING_IDS, "pass", f"none {of} is among the {training}, by id")
    images = Finding(
        Check.TRAINING_IMAGES, "pass", f"none {of} is among the {training}, by file or by pixels{searched}"
    )
    if copies.untold:
        untold = f"whether {copies.untold:,} {of} were trained on: {copies.reason}"
        ids, images = (
            Finding(check, "cannot be told", untold, PREPARE_AGAIN)
            for check in (Check.TRAINING_IDS, Check.TRAINING_IMAGES)
        )
    if len(copies.same):
        ids = Finding(
            Check.TRAINING_IDS,
            "fail",
            f"{len(copies.same):,} {of} were trained on, the first is {dataset.ids[rows[copies.same[0]]]}",
            "score images that it was not trained on",
        )
    texts = [
        f"{len(found):,} {of} {what}, the first is {dataset.ids[rows[found[0]]]}"
        for found, what in (
            (copies.equal, "equal a training image by file or by pixels"),
            (copies.near, "are near copies of a training image"),
        )
        if len(found)
    ]
    if texts:
        if copies.untold:
            texts.append(f"of {copies.untold:,} more it cannot be told: {copies.reason}")
        advice = "prepare the dataset without duplicates (--drop-duplicates), and train again"
        if not predictor.is_own:
            advice = "score images that it was not trained on"
        images = Finding(Check.TRAINING_IMAGES, "fail", "; ".join(texts), advice)
    return ids, images


def shared(predictor: Predictor, rows: Rows) -> Iterator[Finding]:
    """Look for subjects and sequences that the models which score them were trained on; nothing where none is named.

    A leaky frame split fails, whichever images are scored.
    """
    parts = scorers(predictor, rows)
    same_names = [record.dataset for part, record, _ in parts if same_id_space(part.dataset, record.dataset)]
    named = {
        "subject": any(dataset.subjects is not None for dataset in same_names),
        "sequence": any(dataset.sequences is not None for dataset in same_names),
    }
    if not any(named.values()):
        return
    positions = [
        shared_subjects(part.dataset, rows[places], record.dataset, record.rows) for part, record, places in parts
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


def starting_weights(predictor: Predictor, rows: Rows) -> Iterator[Finding]:
    """Look for images that the models were trained on or selected by whose weights these networks began with.

    Nothing where they began with none.
    """
    of = f"of {len(rows):,} scored images"
    for ancestor in predictor.ancestors:
        model, record = ancestor.model, ancestor.record
        if record is None:
            away = f"its data set {model.dataset.name}@{model.dataset.version} is not in this store"
            measured = f"whether scored images were trained on by {model.reference}: {away}"
            yield Finding(Check.STARTING_WEIGHTS, "cannot be told", measured, "prepare that data set in this store")
            continue
        trained = trained_on_before(predictor, rows, record)
        selected = selected_by_before(predictor, rows, record)
        texts = [
            f"{len(found):,} {of} {what} {model.reference}, the first is {predictor.dataset.ids[rows[found[0]]]}"
            for found, what in (
                (trained.equal, "were trained on by"),
                (trained.near, "are near copies of a training image of"),
                (selected.all, "selected"),
            )
            if len(found)
        ]
        if trained.untold:
            texts.append(f"of {trained.untold:,} more it cannot be told: {trained.reason}")
        if not texts:
            among = f"the {len(record.rows):,} training images or the {record.select_on} images of {model.reference}"
            yield Finding(Check.STARTING_WEIGHTS, "pass", f"none {of} is among {among}, by file or by pixels")
            continue
        verdict: Verdict = "fail" if len(trained.all) else "caution" if len(selected.all) else "cannot be told"
        advice = "split the data sets alike ('fer split --like'), and train again; or score other images"
        yield Finding(Check.STARTING_WEIGHTS, verdict, "; ".join(texts), advice)


def selection(predictor: Predictor, rows: Rows, split: SplitName) -> Finding:
    """Look for images that a model was selected by among those that it scores."""
    records = [record for _, record, _ in scorers(predictor, rows)]
    select_on = records[0].select_on
    advice = f"score a split that selected nothing, and select on validation (it was selected on {select_on})"
    if predictor.is_own and split == select_on:
        return Finding(Check.SELECTION, "fail", f"it was selected on the {split} split, which is scored", advice)
    if predictor.is_own and select_on == "test":
        return Finding(Check.SELECTION, "fail", "it was selected on test: optimistic everywhere", advice)
    copies = selected_by(predictor, rows)
    if count := len(copies.all):
        return Finding(
            Check.SELECTION,
            "caution" if predictor.is_own else "fail",
            f"{count:,} of {len(rows):,} scored images equal one of the {select_on} images that selected it",
            "prepare the dataset without duplicates (--drop-duplicates), and train again"
            if predictor.is_own
            else advice,
        )
    if copies.untold:
        measured = f"whether {copies.untold:,} of {len(rows):,} scored images selected it: {copies.reason}"
        return Finding(Check.SELECTION, "cannot be told", measured, PREPARE_AGAIN)
    numbers = [len(record.dataset.rows(select_on)) for record in records]
    if len(records) > 1:
        least, most = min(numbers), max(numbers)
        images = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        measured = f"each selected on {images} {select_on} images, none of which it scores"
        return Finding(Check.SELECTION, "pass", measured)
    return Finding(Check.SELECTION, "pass", f"selected on {select_on}, {numbers[0]:,} images, none of them scored")
