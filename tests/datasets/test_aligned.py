"""Data sets of raw pictures, aligned on the way in: any loader of pictures, and ``fer prepare folder --align``."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.protocol import DatasetProtocol
from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import INDEX, open_dataset
from fer_cli.datasets.folder import Folder
from fer_cli.datasets.image_files import decode_all
from fer_cli.datasets.image_hash import decoded_hash
from fer_cli.evaluation.protocol_warnings import judge
from fer_cli.faces import aligned, alignment
from fer_cli.faces.aligned import Aligned
from fer_cli.faces.alignment import FLAGS, NO_FACE, SEVERAL, TINY_FACE, Aligner, align, centre
from fer_cli.faces.detection import Faces
from fer_cli.stages.prepare import prepare
from fer_cli.weights.files import WeightsFile
from tests.kits.faces import NONE, ReportExtras, faces_at, one_face, save, spots, turned
from tests.kits.fer2013 import drain
from tests.kits.official import ck48, ckplus, sfew
from tests.kits.protocols import evaluation_protocol
from tests.kits.train import Fer, files

WIDTHS = {  # a picture's width tells the detector of these tests what is in it
    120: one_face(turned(20, 60, (60, 50))),
    160: faces_at((20, 20, 90, 90), (100, 10, 150, 60)),
    90: NONE,
    72: one_face(turned(-10, 44, (36, 29))),  # SFEW's raw frames, as the kit writes them
    64: one_face(turned(5, 44, (32, 24))),  # and CK+'s
    100: faces_at((40, 40, 55, 55)),
}
NAMES = {
    "train/happy/one.png": 120,
    "train/happy/several.png": 160,
    "train/sad/none.png": 90,
    "train/sad/one.png": 120,
    "val/happy/one.png": 120,
    "val/sad/tiny.png": 100,
    "test/happy/none.png": 90,
    "test/sad/one.png": 120,
}


def told(picture: NDArray[np.uint8]) -> Faces:
    return WIDTHS.get(picture.shape[1], NONE)  # nothing more in the upright face


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for index, (name, width) in enumerate(NAMES.items()):
        pixels = spots(turned(20, 60, (60, 50)), width, 100, 3) // 2
        pixels[..., index % 3] += 4 * index
        save(tmp_path / "Stills" / name, pixels)
    return tmp_path / "Stills"


def loaded(
    source: Path, *, size: int = 32, without: str = "centre", grey: bool | None = None
) -> tuple[Aligned, ReportExtras]:
    detector = ReportExtras(told)
    return Aligned(Folder(source=source), Aligner(detector, size, without), grey=grey), detector


def test_every_picture_is_aligned_in_the_loaders_order(source: Path) -> None:
    loader, detector = loaded(source)
    plain = Folder(source=source)
    rows, images, report = drain(loader)
    assert [row.id for row in rows] == sorted(NAMES)
    assert images.shape == (8, 32, 32, 3)
    assert detector.asked == [(100,) * 8, (320,) * 5]
    expected_flags = {120: (), 160: (SEVERAL,), 90: (NO_FACE,), 100: (TINY_FACE,)}
    for row, before, pixels in zip(rows, plain.pictures(), images, strict=True):
        picture = np.asarray(decode_all([source / row.id], grey=False)[0])
        faces = told(picture)
        assert row.decoded_hash == decoded_hash(picture), "before it was aligned"
        assert row.flags == expected_flags[NAMES[row.id]]
        assert (row.width, row.height) == (NAMES[row.id], 100)
        assert (row.label, row.split, row.source) == (before.row.label, before.row.split, before.row.source)
        kept = row.flags in ((), (SEVERAL,))
        np.testing.assert_array_equal(pixels, align(picture, faces.points[0], 32) if kept else centre(picture, 32))
    assert report.warnings == [
        f"in 2 of 8 images {FLAGS[NO_FACE]}: the middle of the image was taken (flag no-face)",
        f"in 1 of 8 images {FLAGS[TINY_FACE]}: the middle of the image was taken (flag tiny-face)",
        f"in 1 of 8 images {FLAGS[SEVERAL]} (flag several-faces)",
    ]
    assert report.dropped == {}
    assert str(report.alignment) == (
        "told (000000000000), five points to a template of 32 px; of several faces the largest, weighted by how "
        "central it is: 1 images; 3 of 8 images without a face of 24 px kept by their middle"
    )
    assert report.alignment_record["counts"] == {"pictures": 8, NO_FACE: 2, TINY_FACE: 1, SEVERAL: 1}


def test_pictures_without_a_face_can_be_dropped(source: Path) -> None:
    loader, _ = loaded(source, without="drop")
    rows, images, report = drain(loader)
    assert [row.id for row in rows] == sorted(name for name, width in NAMES.items() if width in (120, 160))
    assert len(images) == 5
    assert report.dropped == {FLAGS[NO_FACE]: 2, FLAGS[TINY_FACE]: 1}
    assert report.label_rule == "folder names, N = 8, less 3 without a face"
    assert "dropped (flag no-face)" in report.warnings[0]
    assert str(report.alignment).endswith("3 of 8 images without a face of 24 px dropped")


def test_nothing_is_left_when_every_picture_is_dropped(tmp_path: Path, store: Store) -> None:
    for name in ("happy/1.png", "sad/2.png"):
        save(tmp_path / "void" / name, np.full((100, 90, 3), 60, dtype=np.uint8))
    loader, _ = loaded(tmp_path / "void", without="drop")
    with pytest.raises(FerError, match="no face was found in any of 2 images, and all were dropped"):
        prepare(store=store, loader=loader)
    assert store.directories() == []


def test_grey_is_made_after_the_face_was_found_in_colour(source: Path, tmp_path: Path) -> None:
    colour = drain(loaded(source)[0])[1]
    grey = drain(loaded(source, grey=True)[0])[1]
    assert grey.shape == (8, 32, 32)
    luma = colour.astype(float) @ (0.299, 0.587, 0.114)
    assert abs(grey - luma).max() <= 1
    pixels = spots(turned(20, 60, (60, 50)), 120, 100, 3)
    for name in ("happy/1.png", "happy/2.png"):
        save(tmp_path / "grey" / name, pixels[..., 0])
    found = drain(loaded(tmp_path / "grey")[0])[1]
    np.testing.assert_array_equal(found[0], align(pixels, WIDTHS[120].points[0], 32)[..., 0])
    assert drain(loaded(tmp_path / "grey", grey=False)[0])[1].shape == (2, 32, 32, 3)


def test_few_pictures_are_held_at_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drain(loaded(source)[0])[1]
    monkeypatch.setattr(aligned, "_BYTES", 2 * 120 * 100 * 3)
    loader, detector = loaded(source)
    np.testing.assert_array_equal(drain(loader)[1], whole)
    assert [len(asked) for asked in detector.asked[::2]] == [2, 1, 1, 2, 2]
    monkeypatch.setattr(aligned, "_BYTES", 1)
    loader, detector = loaded(source)
    assert len(list(loader.blocks())) == len(detector.asked[::2]) == 8
    monkeypatch.setattr(aligned, "_BYTES", 1 << 30)
    monkeypatch.setattr(aligned, "_ROWS", 3)
    loader, detector = loaded(source)
    list(loader.blocks())
    assert [len(asked) for asked in detector.asked[::2]] == [3, 3, 2]


def test_the_artifact_says_how_its_faces_were_aligned(source: Path, store: Store) -> None:
    artifact = prepare(store=store, loader=loaded(source)[0]).artifact
    assert artifact.name == "stills-aligned"
    manifest = artifact.manifest
    assert manifest.config["loader"] == "Aligned"
    assert manifest.config["of"] == "Folder"
    assert "resize" not in manifest.config
    how = manifest.config["alignment"]
    assert (how["detector"], how["size"], how["no_face"]) == ("told", 32, "centre")
    counts = {"pictures": 8, NO_FACE: 2, TINY_FACE: 1, SEVERAL: 1}
    weights = {"source": "a test", "sha256": "0" * 64}
    assert manifest.summary["alignment"] == {**how, "weights": weights, "counts": counts}
    assert str(DatasetProtocol.of(artifact).alignment).startswith(
        "told (000000000000), five points to a template of 32 px; of"
    )
    assert sum(" of 8 images" in warning for warning in manifest.warnings) == 3
    assert open_dataset(artifact).images.shape == (8, 32, 32, 3)
    index = read_table(artifact.file(INDEX))
    flags = dict(zip(index["id"].to_pylist(), index["flags"].to_pylist(), strict=True))
    assert flags["test/happy/none.png"] == [NO_FACE]
    assert flags["train/happy/several.png"] == [SEVERAL]
    assert prepare(store=store, loader=loaded(source)[0]).up_to_date
    other = prepare(store=store, loader=loaded(source, without="drop")[0]).artifact
    assert other.version != artifact.version
    assert other.manifest.summary["dropped"] == {FLAGS[NO_FACE]: 2, FLAGS[TINY_FACE]: 1}
    plain = prepare(store=store, loader=Folder(source=source)).artifact
    assert "alignment" not in plain.manifest.summary | plain.manifest.protocol


def test_a_damaged_picture_is_named_and_nothing_is_written(source: Path, store: Store) -> None:
    place = source / "train/sad/none.png"
    place.write_bytes(place.read_bytes()[:-200])
    with pytest.raises(FerError, match=r"none\.png: the image is damaged or truncated"):
        prepare(store=store, loader=loaded(source)[0])
    assert store.directories() == []


# --- the command


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Network(ReportExtras):
        def __init__(self, name: str, weights: WeightsFile, *, device: str) -> None:
            super().__init__(told)
            self.name = name

        def record(self) -> dict[str, Any]:
            return {"detector": self.name, "weights": "1" * 64}

    monkeypatch.setattr(alignment, "RetinaFace", Network)
    monkeypatch.setattr(
        alignment, "find_detector", lambda *_: ("retinaface-mobile0.25", WeightsFile(tmp_path, "file", "?"))
    )


@pytest.mark.usefixtures("stand_in")
def test_prepare_folder_aligns(source: Path, store: Store, fer: Fer, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", "folder", "--source", str(source), "--align", "--store", str(store.root)]
    said = fer(*words, code=0)
    assert "detector retinaface-mobile0.25: its weights are on this machine" in said
    assert "fer: warning: in 2 of 8 images the detector finds no face" in said
    assert run([*words, "--size", "48", "--no-face", "drop", "--name", "mine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["artifact"]["name"] == "mine"
    assert found["summary"]["images"] == 5
    assert found["summary"]["alignment"]["size"] == 48
    assert run([*words]) == 0
    out = capsys.readouterr().out
    assert out.startswith("dataset/stills-aligned@")
    assert "up to date" in out
    assert "alignment" in out
    assert "five points to a template of 112 px" in out


def test_alignment_that_was_asked_for_is_refused_without_weights(
    source: Path, store: Store, fer: Fer, tmp_path: Path
) -> None:
    said = fer("prepare", "folder", "--source", source, "--align", "--store", store.root, code=1)
    assert "no face detector's weights are on this machine; run 'fer weights fetch retinaface-mobile0.25'" in said
    raw = sfew(tmp_path / "sfew", aligned=False)
    assert "no face detector's weights" in fer("prepare", "sfew", "--source", raw, "--align", "--store", store.root)
    assert not (store.root / "dataset").exists()


def test_words_that_do_not_go_together(source: Path, store: Store, fer: Fer, tmp_path: Path) -> None:
    words = ["prepare", "folder", "--source", str(source), "--store", str(store.root)]
    assert "need --align; add --align" in fer(*words, "--no-face", "drop", code=2)
    assert "--no-face 'refuse' is unknown" in fer(*words, "--align", "--no-face", "refuse", code=2)
    assert "--detector 'dlib' is unknown" in fer(*words, "--align", "--detector", "dlib", code=2)
    text = fer(*words, "--align", "--detector", "retinaface-resnet50")
    assert "$HF_HUB_OFFLINE forbids downloading it" in text
    assert "--no-align uses images as face crops" in text
    assert files(store) == set()


@pytest.mark.usefixtures("stand_in")
def test_raw_frames_of_sfew_are_aligned(
    store: Store, fer: Fer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = sfew(tmp_path / "sfew", aligned=False)
    words = ["prepare", "sfew", "--source", str(source), "--store", str(store.root)]
    said = fer(*words, "--size", "48", "--jobs", "2", code=0)
    assert "as face crops" not in said
    artifact = store.find("dataset/sfew-raw-aligned", ["dataset"])
    found = open_dataset(artifact)
    frame = decode_all([source / "Train/Angry" / f"Airheads_Angry000000_{1:08}.png"], grey=False)[0]
    at = read_table(artifact.file(INDEX))["id"].to_pylist().index(f"train/anger/Airheads_Angry000000_{1:08}")
    np.testing.assert_array_equal(found.images[at], align(frame, told(frame).points[0], 48))
    manifest = artifact.manifest
    assert (manifest.config["of"], manifest.config["layout"]) == ("Sfew", "raw")
    assert "faces" not in manifest.config | manifest.protocol
    assert manifest.protocol["alignment"]["detector"] == "retinaface-mobile0.25"
    assert manifest.summary["alignment"]["counts"]["pictures"] == 42

    assert "as face crops" in fer(*words, "--no-align", code=0)
    whole = store.find("dataset/sfew", ["dataset"]).manifest
    assert "no alignment" in whole.protocol["faces"]
    assert "alignment" not in whole.protocol | whole.summary
    assert "need --align" in fer(*words, "--no-align", "--no-face", "drop", code=2)
    capsys.readouterr()

    sfew(source)  # with aligned faces beside them
    assert "the raw frames next to the aligned faces were not read" in fer(*words, code=0)
    assert open_dataset(store.find("dataset/sfew", ["dataset"])).images.shape == (42, 181, 143, 3)
    assert "the aligned faces next to the raw frames were not read" in fer(*words, "--align", code=0)
    assert open_dataset(store.find("dataset", ["dataset"])).images.shape == (42, 112, 112, 3)
    assert "no raw frames are here; unpack Train and Val" in fer(
        "prepare", "sfew", "--source", sfew(tmp_path / "faces"), "--align", "--store", store.root
    )


@pytest.mark.usefixtures("stand_in")
def test_frames_of_ckplus_are_aligned_where_that_is_asked_for(store: Store, fer: Fer, tmp_path: Path) -> None:
    source = ckplus(tmp_path / "ck")
    words = ["prepare", "ckplus", "--source", str(source), "--store", str(store.root), "--allow-incomplete"]
    assert "as face crops: align them with --align" in fer(*words, code=0)
    assert "as face crops" not in fer(*words, "--align", "--size", "48", code=0)
    whole, upright = (store.find(f"dataset/{name}", ["dataset"]) for name in ("ckplus", "ckplus-aligned"))
    rows, others = (read_table(one.file(INDEX)).to_pylist() for one in (upright, whole))
    for key in ("id", "label", "subject", "sequence"):
        assert [row[key] for row in rows] == [row[key] for row in others], key
    frame = decode_all([source / "cohn-kanade-images" / rows[0]["source"].split("/", 1)[1]], grey=False)[0]
    expected = np.asarray(Image.fromarray(align(frame, told(frame).points[0], 48)).convert("L"))
    np.testing.assert_array_equal(open_dataset(upright).images[0], expected)
    folders = ["prepare", "ckplus", "--source", ck48(tmp_path / "folders"), "--store", store.root, "--align"]
    assert "no raw frames are here; give the official layout" in fer(*folders, "--allow-incomplete")


def test_raw_frames_without_weights_are_face_crops_and_it_is_said(store: Store, fer: Fer, tmp_path: Path) -> None:
    source = sfew(tmp_path / "sfew", aligned=False)
    said = fer("prepare", "sfew", "--source", source, "--store", store.root, code=0)
    assert "no detector's weights are here: the images were used as face crops" in said
    manifest = store.find("dataset/sfew", ["dataset"]).manifest
    assert manifest.protocol["alignment"] == {"kind": "crops", "dropped": False}
    assert "no alignment" in manifest.protocol["faces"]
    protocol = evaluation_protocol(DatasetProtocol.of(store.find("dataset/sfew", ["dataset"])))
    assert judge(protocol, 0.5).cautions[0].startswith("Faces were not aligned: no face detector weights found")


def test_the_rule_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("folder", "sfew", "ckplus"):
        assert run(["prepare", name, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "the largest counts, weighted by how central it is; faces under 24 px never do" in text
        assert "--no-align" in text


def test_turned_and_odd_pictures(tmp_path: Path, store: Store) -> None:
    upright = spots(turned(20, 60, (60, 50)), 120, 100, 3)
    upright[:50, :, 0] //= 2
    for place in ("plain", "turned", "opaque"):
        (tmp_path / place / "happy").mkdir(parents=True)
    Image.fromarray(upright).save(tmp_path / "plain/happy/1.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its left side: to be turned clockwise
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "turned/happy/1.png", exif=exif)
    Image.fromarray(upright).convert("RGBA").save(tmp_path / "opaque/happy/1.png")
    plain, *others = (drain(loaded(tmp_path / place)[0]) for place in ("plain", "turned", "opaque"))
    for rows, images, _ in others:
        np.testing.assert_array_equal(images, plain[1])
        assert (rows[0].width, rows[0].height) == (120, 100)
    glass = Image.fromarray(upright).convert("RGBA")
    glass.putalpha(100)
    glass.save(tmp_path / "opaque/happy/1.png")
    moving = Image.fromarray(upright)
    moving.save(tmp_path / "plain/happy/1.png", save_all=True, append_images=[Image.fromarray(upright // 2)])
    huge = tmp_path / "turned/happy/1.png"
    huge.write_bytes(enormous(9000, 8000))
    for place, what in (("opaque", "partly transparent"), ("plain", "several frames"), ("turned", "64 million pixels")):
        with pytest.raises(FerError, match=rf"1\.png: the image (is|has).*{what}"):
            prepare(store=store, loader=loaded(tmp_path / place)[0])
    assert store.directories() == []


def enormous(width: int, height: int) -> bytes:
    """Return a PNG whose header promises that many pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
