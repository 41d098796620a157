"""The checks of what the images that are scored have to do with those that were learned from, or chosen by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.datasets.overlap import overlap, same_id_space, shared_subjects
from fer_cli.evaluation.findings import Finding
from fer_cli.evaluation.predictor import Predictor, Rows, TrainingRecord

IDS: Final = "training ids"
PIXELS: Final = "training images"
PERSONS: Final = "persons"
SELECTION: Final = "selection"


def leaks(subject: Predictor, rows: Rows) -> tuple[Finding, Finding]:
    """Look for images that were learned from by the models that score them: by id, and by equal pixels."""
    dataset = subject.dataset
    same, equal = learned_from(subject, rows)
    of = f"of {len(rows):,} scored images"
    who = _who(subject, rows)
    learned = f"the {len(who[0][1].trained):,}" if len(who) == 1 else "those that its fold's model"
    ids, pixels = (
        Finding(check, "pass", f"none {of} is one of {learned} learned from{how}")
        for check, how in ((IDS, ", by id"), (PIXELS, ", by its pixels"))
    )
    if len(same):
        ids = Finding(
            IDS,
            "fail",
            f"{len(same):,} {of} were learned from, the first is {dataset.ids[rows[same[0]]]}",
            "score images that it did not learn from",
        )
    if len(equal):
        pixels = Finding(
            PIXELS,
            "fail",
            f"{len(equal):,} {of} equal one that was learned from pixel by pixel, the first is "
            f"{dataset.ids[rows[equal[0]]]}",
            "prepare the data set without copies, and train again",
        )
    return ids, pixels


def learned_from(subject: Predictor, rows: Rows) -> tuple[Rows, Rows]:
    """Return which rows (positions among them) were learned from by the models that score them: as such, as equals."""
    found = [
        (places, overlap(part.dataset, rows[places], one.dataset, one.trained))
        for part, one, places in _who(subject, rows)
    ]
    same, equal = ([places[getattr(one, kind)] for places, one in found] for kind in ("same", "equal"))
    return np.sort(np.concatenate(same)), np.sort(np.concatenate(equal))


def persons(subject: Predictor, rows: Rows) -> Iterator[Finding]:
    """Look for persons and sequences that the models which score them have learned from; nothing where none is named.

    A split that parts the frames of a sequence on purpose fails, whichever images are scored.
    """
    who = _who(subject, rows)
    kin = [of.dataset for part, of, _ in who if same_id_space(part.dataset, of.dataset)]
    named = [what for what in ("subjects", "sequences") if any(getattr(one, what) is not None for one in kin)]
    if not named:
        return
    words = dict(zip(("subjects", "sequences"), ("person", "sequence"), strict=True))
    found = [shared_subjects(part.dataset, rows[places], of.dataset, of.trained) for part, of, places in who]
    reasons = [
        f"{count:,} of {len(rows):,} scored images are of a {words[what]} that was learned from"
        for place, what in enumerate(words)
        if (count := sum(len(one[place]) for one in found))
    ]
    if parted := next((text for one in kin if (text := one.artifact.manifest.protocol.get("unsound_split"))), None):
        reasons.insert(0, str(parted))
    if reasons:
        advice = "split by person ('fer split' keeps persons and sequences whole), and train again"
        yield Finding(PERSONS, "fail", "; ".join(reasons), advice)
    else:
        which = " or ".join(words[what] for what in named)
        yield Finding(PERSONS, "pass", f"none of {len(rows):,} scored images is of a {which} that was learned from")


def selection(subject: Predictor, rows: Rows, split: str) -> Finding:
    """Look for images that a model was chosen by among those that it scores."""
    who = _who(subject, rows)
    select_on = who[0][1].select_on
    advice = f"score a split that chose nothing, and select on validation (it was selected on {select_on})"
    if subject.is_own and split == select_on:
        return Finding(SELECTION, "fail", f"it was selected on the {split} split, which is scored", advice)
    if subject.is_own and select_on == "test":
        return Finding(SELECTION, "fail", "it was selected on test: optimistic everywhere", advice)
    chosen_by = [of.dataset.rows(select_on) for _, of, _ in who]
    found = [
        overlap(part.dataset, rows[places], of.dataset, chosen)
        for (part, of, places), chosen in zip(who, chosen_by, strict=True)
    ]
    if count := sum(len(one.same) + len(one.equal) for one in found):
        return Finding(
            SELECTION,
            "caution" if subject.is_own else "fail",
            f"{count:,} of {len(rows):,} scored images equal one of the {select_on} images that chose it",
            "prepare the data set without copies, and train again" if subject.is_own else advice,
        )
    if len(who) > 1:
        least, most = min(map(len, chosen_by)), max(map(len, chosen_by))
        images = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        told = f"each selected on {images} {select_on} images, none of which it scores"
        return Finding(SELECTION, "pass", told)
    return Finding(SELECTION, "pass", f"selected on {select_on}, {len(chosen_by[0]):,} images, none of them scored")


def _who(subject: Predictor, rows: Rows) -> list[tuple[Predictor, TrainingRecord, NDArray[np.intp]]]:
    """Return who scores which of the rows (positions among them), and what that learned from."""
    parted = subject.parted(rows)
    return [(part, part.learned, places) for part, places in parted if part.learned is not None]
