"""Classes that are no expressions: from folders and tables to numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_cli.artifacts.payload import read_json
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import open_dataset
from fer_cli.datasets.folder import Folder
from fer_cli.datasets.listing import ClassNames
from fer_cli.reporting.confusion import confusion_figure
from tests.kits.train import Fer, words

OWN = ("bored", "calm", "frustrated", "joyful", "\u6012\u308a")


def pictures(root: Path, classes: tuple[str, ...], each: int = 1) -> Path:
    generator = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(each):
            pixels = np.clip(generator.normal(20 + 215 * number / len(classes), 12, (16, 16)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{index}.png")
    return root


@pytest.mark.parametrize(
    ("options", "folders", "classes", "said"),
    [
        ({}, OWN, OWN, ["classes: bored, calm, frustrated, joyful, \u6012\u308a (own names)"]),
        ({}, ("calm", "joyful"), ("neutral", "happy"), ["synonyms read: calm=neutral, joyful=happy"]),
        ({}, ("calm", "joyful", "mad"), ("calm", "joyful", "mad"), ["classes: calm, joyful, mad (own names)"]),
        ({}, ("tearful", "hapy"), ("hapy", "tearful"), ["classes: hapy, tearful (own names)"]),
        (
            {},
            ("happy", "angry", "bored", "calm", "meh"),
            ("happy", "angry", "bored", "calm", "meh"),
            ["classes: happy, angry, bored, calm, meh (own names; no expressions: bored, calm, meh)"],
        ),
        ({"classes": "own"}, ("calm", "neutral"), ("neutral", "calm"), ["classes: neutral, calm (own names)"]),
        ({"labels": "calm=neutral"}, ("calm", "neutral", "sad"), ("neutral", "sad"), []),
        (
            {"labels": "calm=neutral,wut=anger"},
            ("calm", "neutral", "sad"),
            ("neutral", "sad"),
            ["--labels: no image is labelled wut"],
        ),
        ({"labels": "meh=bored,calm=bored", "classes": "own"}, ("meh", "calm", "sad"), ("sad", "bored"), None),
        ({"classes": "calm,bored"}, ("bored", "calm"), ("calm", "bored"), ["classes: calm, bored (own names)"]),
        ({"classes": "own", "synonyms": True}, ("calm", "bored"), ("neutral", "bored"), None),
    ],
)
def test_classes_and_what_is_said(
    tmp_path: Path,
    options: dict[str, str | bool],
    folders: tuple[str, ...],
    classes: tuple[str, ...],
    said: list[str] | None,
) -> None:
    report = Folder(source=pictures(tmp_path / "p", folders), **options).report()  # type: ignore[arg-type]
    assert report.classes == classes
    assert said is None or report.warnings == said


@pytest.mark.parametrize(
    ("options", "folders", "message"),
    [
        ({}, ("happy", "sad", "weird"), "neither a split nor an expression"),
        ({}, ("angry", "joyful", "weird"), "neither a split nor an expression"),
        ({}, ("happy", "bored", "meh", "feer"), "'bored' is neither .*and 2 more are at fault"),
        ({}, ("happy", "bored", "meh", "calm", "neutral"), "'bored' is neither"),
        ({}, ("s01", "s02", "s03"), "'s01' is neither"),
        ({}, ("subject 1", "subject 2"), "'subject 1' is neither"),
        ({}, ("aligned", "original"), "'aligned' is neither"),
        ({}, ("calm, sad", "bored|sad", "meh # old"), "'bored.sad' is neither"),
        ({}, ("calm", "neutral"), "keep both with --classes own"),
        ({"classes": "own"}, ("Bored", "bored"), "too alike"),
        ({"classes": "own"}, ("bored",), "has 1 class"),
        ({"classes": "calm,sad"}, ("calm", "bored"), "none of --classes"),
        ({"classes": "calm,sad"}, ("calm",), "no image is of 'sad'"),
        ({"classes": "own"}, tuple(f"c{n}" for n in range(201)), "has 201 classes"),
        ({"classes": "a,\u200bb"}, ("a",), "cannot be seen"),
        ({"labels": "hapy=happy"}, ("happy", "sad"), "no image is labelled 'hapy'"),
        ({"labels": "zz=bored", "classes": "own"}, ("calm", "sad"), "no image is labelled 'zz'"),
    ],
)
def test_classes_that_cannot_be(
    tmp_path: Path, options: dict[str, str], folders: tuple[str, ...], message: str
) -> None:
    with pytest.raises(FerError, match=message):
        Folder(source=pictures(tmp_path / "p", folders), **options)  # type: ignore[arg-type]


def test_two_hundred_classes(tmp_path: Path) -> None:
    names = tuple(f"class {number:03}" for number in range(200))
    assert Folder(source=pictures(tmp_path / "p", names), classes="own").report().classes == names
    figure = confusion_figure(np.eye(200, dtype=int), names)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(names)
    assert ClassNames().meaning("bored") is None


def test_from_folders_to_a_report(tmp_path: Path, fer: Fer) -> None:
    store = Store(tmp_path / "store")
    at = ("--store", store.root)
    fer("prepare", "folder", "--source", pictures(tmp_path / "mine", OWN, 20), *at, code=0)
    data = open_dataset(store.find("mine", ("dataset",)))
    assert data.classes == OWN
    assert np.bincount(data.labels).tolist() == [20] * 5
    fer(*words(store), code=0)
    fer("eval", "--report", "--resamples", "100", *at, code=0)
    rows = data.rows("test")
    with (tmp_path / "p.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *(f"score_{name}" for name in OWN)])
        for row in rows:
            writer.writerow([data.ids[row], *(0.6 if k == data.labels[row] else 0.1 for k in range(5))])
    fer("eval", "--predictions", tmp_path / "p.csv", "--data", "mine", "--name", "theirs", *at, code=0)
    scores = read_json(store.find("theirs", ("evaluation",)).file("metrics.json"))["predictors"]["predictions"]
    assert scores["confusion"] == np.diag([4] * 5).tolist()
