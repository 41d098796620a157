"""Data that nothing can be learned from or measured on: said when it is prepared, refused before it is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_cli.artifacts.protocol import DatasetProtocol
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import open_dataset
from fer_cli.datasets.folder import Folder
from fer_cli.datasets.splits import check_groups, class_warnings
from fer_cli.stages.prepare import prepare
from fer_cli.stages.train import train
from tests.datasets.test_folder import picture


def test_odd_images_are_named(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "faces"
    for index in range(20):
        picture(root / f"{('happy', 'sad')[index % 2]}/{index:02}.png", (20, 20))
    Image.fromarray(np.full((20, 20), 7, np.uint8)).save(root / "happy/00.png")
    picture(root / "sad/01.png", (1, 1))
    artifact = prepare(store=store, loader=Folder(source=root)).artifact
    odd = [str(images) for images in DatasetProtocol.of(artifact).odd_images]
    assert odd == [
        "1 image smaller than 16 pixels: sad/01.png",
        "1 image is not of 20x20 px as all others: sad/01.png (1x1)",
        "2 blank images, of one colour: happy/00.png, sad/01.png",
    ]
    assert set(odd) <= set(artifact.manifest.warnings)
    resized = "the images have 2 sizes: the 19 of 20x20 stay as they are, the others were resized to it"
    assert resized in artifact.manifest.warnings
    dataset = open_dataset(artifact)
    assert dataset.images.shape[:3] == (20, 20, 20)
    one = int(np.flatnonzero(dataset.ids == "sad/03.png")[0])
    np.testing.assert_array_equal(dataset.images[one], np.asarray(Image.open(root / "sad/03.png")))


def test_one_class_is_said_and_not_trained_on(store: Store, tmp_path: Path) -> None:
    for index in range(8):
        picture(tmp_path / f"faces/happy/{index}.png", (16, 16))
    artifact = prepare(store=store, loader=Folder(source=tmp_path / "faces")).artifact
    assert artifact.manifest.warnings[0].startswith("all images are of one class, happy")
    with pytest.raises(FerError, match="has a single class, happy: nothing to learn"):
        train(store=store, system="baseline")


def test_classes_that_a_split_lacks_or_hardly_has() -> None:
    labels = ["happy"] * 7 + ["sad"] * 4 + ["fear"]
    splits = ["train"] * 3 + ["validation", "test", "test", "test"] + ["train"] * 3 + ["validation", "test"]
    assert class_warnings(labels, splits, ("happy", "sad", "fear")) == [
        "train has no fear: training refuses it",
        "validation has no fear: nothing is measured of it there",
        "validation has images: 1 of happy, 1 of sad: too few to measure anything",
        "test has no sad: nothing is measured of it there",
        "test has images: 1 of fear: too few to measure anything",
    ]


@pytest.mark.parametrize(
    ("groups", "number"),
    [("abcde", "2 images,"), ("abcdd", "2 images, 1 of them independent"), ("aaade", None)],
)
def test_a_class_needs_an_image_for_each_split(groups: str, number: str | None) -> None:
    labels = ["happy"] * 3 + ["sad"] * 2
    if number is None:
        number = "class 'happy' has 3 images, 1 of them independent"
    with pytest.raises(FerError, match=number) as caught:
        check_groups(labels, list(groups), ["train", "validation", "test"])
    assert "train, validation and test need one each" in str(caught.value)
    check_groups(labels, list("abcde"), ["train", "test"])


@pytest.mark.parametrize("share", [0.0, 1e-320, 9e-7, 0.5, float("nan"), -0.1])
def test_a_share_that_holds_nothing_or_too_much_out_is_refused(store: Store, tmp_path: Path, share: float) -> None:
    picture(tmp_path / "faces/happy/0.png", (16, 16))
    loader = Folder(source=tmp_path / "faces")
    with pytest.raises(FerError, match=r"is not a share of train; use a number from 1e-06 to below 0\.5"):
        prepare(store=store, loader=loader, validation=share)
    assert store.artifacts() == []
