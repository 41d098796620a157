"""Classes held against the published counts: other orders of numbers, exchanged names, more images than exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_cli.core.errors import FerError
from fer_cli.datasets import affectnet, rafdb
from fer_cli.datasets.class_counts import ORDERS, check_classes
from fer_cli.datasets.rafdb import RafDb
from fer_cli.datasets.source_labels import SourceLabels
from tests.kits import official as kit
from tests.kits.fer2013 import drain, fault

SOURCE = Path("source")
IDS = {str(number): name for number, name in enumerate(affectnet.EMOTIONS)}
TRAIN = affectnet.OFFICIAL["train"]


def numbered(order: tuple[str, ...], counts: dict[str, int], option: str | None = None) -> SourceLabels:
    """Check a source whose folder i holds the images of ``order[i]``, and return what was found of its numbers."""
    labels = SourceLabels("AffectNet", IDS, option)
    found: dict[str, int] = {}
    for number, label in enumerate(order):
        meaning = labels.meaning(str(number))
        assert meaning is not None
        found[meaning] = counts[label]
    check_classes("AffectNet", SOURCE, {"train": found}, affectnet.OFFICIAL, labels)
    return labels


def test_an_exchange_of_two_like_classes_in_a_part_is_told_as_what_would_not_show() -> None:
    own = affectnet.EMOTIONS
    assert own[5::2] == ("disgust", "contempt")  # 3,803 and 3,750 images
    exchanged = (*own[:5], "contempt", "anger", "disgust")
    for order in (own, exchanged):
        numbering = numbered(order, part_of(0.05)).numbering
        assert numbering is not None
        assert (numbering.alike, numbering.is_certain) == (("sad and anger", "disgust and contempt"), False)
        assert "an exchange of sad and anger, or of disgust and contempt would not show" in str(numbering)
    numbering = numbered(own, TRAIN).numbering
    assert numbering is not None
    assert numbering.is_certain


def shown_by(labels: SourceLabels) -> str:
    assert labels.numbering is not None
    return labels.numbering.shown_by


def part_of(share: float) -> dict[str, int]:
    return {label: int(np.random.default_rng(0).binomial(count, share)) for label, count in TRAIN.items()}


def test_what_shows_the_order_of_numbers() -> None:
    own, alphabetical = affectnet.EMOTIONS, ORDERS["alphabetical"]
    assert shown_by(numbered(own, TRAIN)) == "counts"
    assert shown_by(numbered(own, part_of(0.05))) == "proportions"
    assert shown_by(numbered(own, dict.fromkeys(own, 300))) == "trust"
    assert shown_by(numbered(alphabetical, TRAIN, ",".join(f"{i}={n}" for i, n in enumerate(alphabetical)))) == "given"


@pytest.mark.parametrize("share", [1.0, 0.02])
def test_alphabetical_numbers_are_told_with_the_labels_to_give(share: float) -> None:
    alphabetical = ORDERS["alphabetical"]
    counts = TRAIN if share == 1 else part_of(share)
    option = ",".join(f"{i}={n}" for i, n in enumerate(alphabetical))
    words = "are exchanged" if share == 1 else "in alphabetical order, not in its own"
    error = fault(lambda: numbered(alphabetical, counts), words)
    assert f"--labels {option}" in (error.hint or "")
    numbered(alphabetical, counts, option)


def test_exchanged_names_and_more_than_exist_are_refused() -> None:
    counts = {part: dict(of) for part, of in rafdb.OFFICIAL.items()}
    test = counts["test"]
    test["fear"], test["disgust"] = test["disgust"], test["fear"]
    words = "fear has the 160 images of disgust in test"
    fault(lambda: check_classes("RAF-DB", SOURCE, counts, rafdb.OFFICIAL), words)
    more = {"train": {"happy": 4773}}
    fault(
        lambda: check_classes("RAF-DB", SOURCE, more, rafdb.OFFICIAL),
        "more images than RAF-DB has (train happy 4,773 of 4,772)",
    )
    check_classes("RAF-DB", SOURCE, {"train": {"happy": 4771}}, rafdb.OFFICIAL)


def test_given_labels_are_used(tmp_path: Path) -> None:
    source = kit.rafdb_folders(tmp_path / "raf")
    for table in source.glob("*.csv"):
        table.unlink()
    for part in ("train", "test"):
        (source / f"DATASET/{part}/4").rename(source / f"DATASET/{part}/freude")
    fault(lambda: RafDb(source=source, allow_incomplete=True), "is not a class folder", "--labels")
    rows, _, report = drain(RafDb(source=source, allow_incomplete=True, labels="freude=happy"))
    assert {row.label for row in rows if "/freude/" in row.source} == {"happy"}
    assert report.numbering is not None
    assert report.numbering.shown_by == "trust"
    with pytest.raises(FerError, match="RAF-DB has no contempt"):
        RafDb(source=source, labels="freude=contempt")


def test_folders_that_look_like_splits_are_refused_and_others_listed(tmp_path: Path) -> None:
    raf = kit.rafdb_folders(tmp_path / "raf")
    kit.save(raf / "DATASET/valid/1/test_0001_aligned.jpg", kit.face(0, "sad", 100))
    fault(
        lambda: RafDb(source=raf, allow_incomplete=True), "looks like a split", "(1)", at=f"{raf / 'DATASET/valid'}: "
    )
    (raf / "DATASET/valid").rename(raf / "DATASET/more")
    fault(lambda: RafDb(source=raf, allow_incomplete=True), "with its class folder 1/", at=f"{raf / 'DATASET/more'}: ")
    (raf / "DATASET/more/1").rename(raf / "DATASET/more/originals")
    (leftover,) = drain(RafDb(source=raf, allow_incomplete=True))[2].leftovers
    assert (leftover.names, leftover.images, leftover.matters) == (("DATASET/more/",), (1,), True)
    affect = kit.affectnet_folders(tmp_path / "affect")
    kit.save(affect / "test/0/image1.jpg", kit.face(0, "sad", 56))
    fault(lambda: affectnet.AffectNet(source=affect, allow_incomplete=True), "looks like a split", at=f"{affect}/test")
