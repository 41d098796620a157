"""``fer predict``: whatever is given becomes rows, and what a model says is what ``fer eval`` says."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import fer_cli as fer_package
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ImageForm, ModelSummary
from fer_cli.cli.app import run
from fer_cli.core.errors import FerError, UsageError
from fer_cli.datasets.dataset import open_dataset
from fer_cli.faces.alignment import TEMPLATE
from fer_cli.faces.detection import Faces
from fer_cli.prediction import faces as prediction_faces
from fer_cli.prediction.drawing import drawn
from fer_cli.prediction.faces import (
    BLURRED,
    CUT_OFF,
    NO_DETECTOR,
    NO_FACE,
    SMALL,
    DetectedFaces,
    WholePhotos,
    quality,
    sharpness,
)
from fer_cli.prediction.model import CropForm, Model
from fer_cli.prediction.photos import FIRST_FRAME, read_photo
from fer_cli.prediction.rows import PredictionRow
from fer_cli.prediction.sources import find_sources, frames
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.predict import predict
from fer_cli.stages.train import train
from tests.kits.faces import NONE, ReportExtras, faces_at, one_face, save, spots, turned
from tests.kits.toy import toy_dataset
from tests.kits.train import Fer

RNG = np.random.default_rng(0)
SIDE = 24


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Artifact]:
    """A store with a data set of grey images of 24 px and a model of it."""
    store = Store(tmp_path_factory.mktemp("predict"))
    toy_dataset(store, images=210)
    small = [
        *("model.backbone=test_efficientnet", "model.weights=none", "model.drop_path=0.0"),
        *("data.size=32", "train.batch=20", "train.epochs=2", "optim.lr=3e-3"),
    ]
    return store, train(store=store, system="baseline", changes=small, device="cpu").whole.artifact


def seen_by(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """Let a detector that says what the test says stand for the network."""

    def detected(_mode: str, crops: CropForm, **_: object) -> DetectedFaces:
        return DetectedFaces(ReportExtras(answer), crops)

    monkeypatch.setattr(prediction_faces, "open_finder", detected)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_predictions_are_those_of_eval_on_the_same_crops(trained: tuple[Store, Artifact], tmp_path: Path) -> None:
    store, model = trained
    dataset = open_dataset(store.find("toy", ["dataset"]))
    rows = dataset.rows("test")
    for row in rows:
        save(tmp_path / "crops" / f"{dataset.ids[row]}.png", dataset.images[row])
    crops, output = [str(tmp_path / "crops")], tmp_path / "rows.csv"
    predict(store=store, given=crops, model=model.reference, faces="whole", output=output, batch=7, device="cpu")
    evaluated = evaluate_model(store=store, model=model.reference, device="cpu").artifact
    import pyarrow.parquet as pq

    expected = pq.read_table(next(evaluated.path.glob("predictions*.parquet"))).to_pylist()
    answers = {Path(row["file"]).stem: row for row in table(tmp_path / "rows.csv")}
    temperature = ModelSummary.of(model).temperature
    assert temperature is not None
    assert len(answers) == len(expected) == len(rows)
    for line in expected:
        logits = np.log([line[f"score_{name}"] for name in dataset.classes]) / temperature
        calibrated = np.exp(logits - logits.max())
        calibrated /= calibrated.sum()
        answer = answers[line["id"]]
        assert answer["expression"] == dataset.classes[int(logits.argmax())]
        given = [float(answer[f"p_{name}"]) for name in dataset.classes]
        assert given == pytest.approx(calibrated.tolist(), abs=2e-6)


def test_flipped_views_are_averaged(trained: tuple[Store, Artifact], tmp_path: Path) -> None:
    store, model = trained
    pixels = RNG.integers(0, 255, (SIDE, SIDE), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    [row] = predict(store=store, given=[str(tmp_path / "face.png")], model=model.name, faces="whole", tta="flip").rows
    alone = fer_package.load_model(model.name, store=store, device="cpu").predict([pixels, pixels[:, ::-1].copy()])
    assert np.abs(np.diff(alone.probabilities, axis=0)).max() > 1e-4
    assert list(row.probabilities.values()) == pytest.approx(alone.probabilities.mean(0), abs=1e-6)
    with pytest.raises(UsageError, match="--tta flip is for models of the store"):
        predict(store=store, given=[str(tmp_path / "face.png")], model="m.onnx", faces="whole", tta="flip")


def test_a_model_knows_the_form_of_the_images_that_it_was_trained_on(trained: tuple[Store, Artifact]) -> None:
    assert ModelSummary.of(trained[1]).images == ImageForm(side=SIDE, grey=True)
    of_any_shape = ImageForm(side=None, grey=True)
    assert ImageForm.model_validate(of_any_shape.record()) == of_any_shape


def test_the_temperature_is_where_the_validation_loss_is_least(trained: tuple[Store, Artifact]) -> None:
    store, model = trained
    dataset = open_dataset(store.find("toy", ["dataset"]))
    rows = dataset.rows("validation")
    opened = fer_package.load_model(model.reference, store=store, device="cpu")
    assert isinstance(opened, Model)
    calibrated = opened.predict([dataset.images[row] for row in rows]).probabilities
    logits, labels = np.log(calibrated) * opened.temperatures[0], dataset.labels[rows]

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        return float(np.mean(np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(rows)), labels]))

    best = min(np.geomspace(0.2, 10, 4000), key=loss)
    assert opened.temperatures[0] == pytest.approx(best, rel=0.01)


def test_each_face_is_a_row_from_left_to_right(
    trained: tuple[Store, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = save(tmp_path / "two.png", RNG.integers(0, 256, (200, 300, 3), dtype=np.uint8))
    two = faces_at((180, 20, 280, 120), (10, 30, 90, 110))
    seen_by(monkeypatch, lambda pixels: two if len(pixels) == 200 else NONE)
    summary = predict(store=trained[0], given=[str(photo)], output=tmp_path / "rows.jsonl", device="cpu")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["face"], row["left"], row["right"]) for row in rows] == [(0, 10, 90), (1, 180, 280)]
    assert all(sum(row[f"p_{name}"] for name in summary.classes) == pytest.approx(1, abs=1e-5) for row in rows)
    assert (summary.images, summary.faces, summary.without_face) == (1, 2, 0)


def test_a_photo_without_a_face_is_a_row_without_an_answer(
    trained: tuple[Store, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_by(monkeypatch, lambda _: NONE)
    photo = save(tmp_path / "sky.png", np.full((60, 80, 3), 200, np.uint8))
    summary = predict(store=trained[0], given=[str(photo)], output=tmp_path / "rows.csv", device="cpu")
    (row,) = table(tmp_path / "rows.csv")
    assert (row["expression"], row["face"], row["flags"], row["error"]) == ("", "", NO_FACE, "")
    assert summary.without_face == 1


def test_a_file_that_cannot_be_read_is_a_row_with_its_error(trained: tuple[Store, Artifact], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    good = save(folder / "a.png", RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8))
    (folder / "b.jpg").write_text("not an image")
    (folder / "c.png").write_bytes(b"")
    (folder / "d.png").write_bytes(good.read_bytes()[:200])
    (folder / "notes.txt").write_text("none of it")
    (folder / ".DS_Store").write_text("none of it")
    summary = predict(store=trained[0], given=[str(folder)], faces="whole", output=tmp_path / "rows.csv", device="cpu")
    rows = table(tmp_path / "rows.csv")
    assert [Path(row["file"]).name for row in rows] == ["a.png", "b.jpg", "c.png", "d.png"]
    assert [bool(row["error"]) for row in rows] == [False, True, True, True]
    assert "is not an image of a format" in rows[1]["error"]
    assert "empty" in rows[2]["error"]
    assert [bool(row["expression"]) for row in rows] == [True, False, False, False]
    assert summary.unreadable == 3
    assert summary.left_out == (str(folder / "notes.txt"),)


def test_each_kind_of_unreadable_file_is_one_row_that_says_what_to_do(
    trained: tuple[Store, Artifact], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    whole = save(folder / "whole.jpg", RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "line\nbreak.jpg").write_text("not an image")
    (folder / "lost.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "film.mp4").write_text("not a film")
    Image.new("1", (12_000, 9_000)).save(folder / "large.png")
    Image.new("RGB", (1, 1)).save(folder / "point.png")
    words = ["predict", str(folder), "--faces", "whole", "--device", "cpu", "--store", str(trained[0].root)]
    assert run([*words, "-o", str(tmp_path / "rows.csv")]) == 0
    errors = {Path(row["file"]).name: row["error"] for row in table(tmp_path / "rows.csv")}
    assert errors == {
        "whole.jpg": "",
        "point.png": "",
        "cut.jpg": errors["cut.jpg"],
        "line\nbreak.jpg": "is not an image of a format that can be read; convert it to PNG",
        "lost.jpg": "cannot be read: No such file or directory; check the file",
        "pipe.jpg": "is a pipe or a device, not a file; save it as a file first",
        "film.mp4": "the video cannot be read (Invalid data found when processing input); check it",
        "large.png": "the image has more than 64 million pixels; resize it",
    }
    assert errors["cut.jpg"].startswith("is damaged or truncated")
    out, said = capsys.readouterr()
    assert said.count("\n") == 1, "what model it takes, and no remark of a library"
    assert "Traceback" not in out


def test_a_camera_that_is_not_there_and_a_model_that_is_a_zip_are_one_line(tmp_path: Path, fer: Fer) -> None:
    assert fer("predict", "camera:99", "--faces", "whole").endswith(
        "it could not be read (there is no camera /dev/video99; connect one, or give another number: camera:1)"
    )
    photo = save(tmp_path / "a.png", np.zeros((24, 24), np.uint8))
    said = fer("predict", photo, "--model", tmp_path / "m.zip")
    assert "m.zip: is a zip, not a model; 'fer import' takes one" in said


def test_nothing_that_could_be_read_is_an_error_and_leaves_no_file(
    trained: tuple[Store, Artifact], tmp_path: Path
) -> None:
    (tmp_path / "b.jpg").write_text("not an image")
    with pytest.raises(FerError, match=r"b.jpg: it could not be read \(is not an image"):
        predict(
            store=trained[0],
            given=[str(tmp_path / "b.jpg")],
            faces="whole",
            output=tmp_path / "rows.csv",
            device="cpu",
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.jpg"]


def test_without_a_detector_each_row_says_so(
    trained: tuple[Store, Artifact], tmp_path: Path, fer: Fer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_OFFLINE", "1")
    photo = save(tmp_path / "a.png", RNG.integers(0, 256, (90, 90, 3), dtype=np.uint8))
    rows = tmp_path / "rows.csv"
    said = fer("predict", photo, "--store", trained[0].root, "--output", rows, "--device", "cpu", code=0)
    (row,) = table(rows)
    assert row["flags"].split(";")[0] == NO_DETECTOR
    assert row["left"] == ""
    assert said.index("fetching retinaface-mobile0.25 to find faces") < said.index(
        "each image is taken as one face crop"
    )
    error = fer("predict", photo, "--faces", "detect", "--store", trained[0].root, "--device", "cpu")
    assert "FER_OFFLINE" in error


def test_a_list_of_photos_and_what_is_wrong_with_one(
    trained: tuple[Store, Artifact], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        save(tmp_path / "photos" / f"{name}.png", RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8))
    (tmp_path / "list.csv").write_text("who,Path\n1,photos/a.png\n\n2,photos/b.png\n3,photos/none.png\n")
    summary = predict(
        store=trained[0], given=[str(tmp_path / "list.csv")], faces="whole", output=tmp_path / "rows.csv", device="cpu"
    )
    assert [row["file"] for row in table(tmp_path / "rows.csv")] == ["photos/a.png", "photos/b.png", "photos/none.png"]
    assert summary.unreadable == 1
    for text in ("path;x;y;w;h\nphotos\\a.png;1;1;9;9\n", "\ufeffImage Path\tnote\nphotos/a.png\tx\n"):
        for encoding in ("utf-8", "utf-16"):
            (tmp_path / "other.tsv").write_text(text, encoding)
            [source] = find_sources([str(tmp_path / "other.tsv")]).found
            assert source.path == tmp_path / "photos/a.png"
    capsys.readouterr()
    (tmp_path / "boxes.csv").write_text("path,x,y,w,h\nphotos/a.png,1,1,9,9\n")
    find_sources([str(tmp_path / "boxes.csv")])
    assert "boxes.csv: the boxes of faces (h, w, x, y) are not read" in capsys.readouterr().err
    (tmp_path / "bad.csv").write_text("who,what\n1,2\n")
    with pytest.raises(FerError, match=r"bad.csv:1: has no column of paths; it has who, what"):
        find_sources([str(tmp_path / "bad.csv")])
    (tmp_path / "bad.csv").write_text("path,what\n,2\n")
    with pytest.raises(FerError, match=r"bad.csv:2: has no path"):
        find_sources([str(tmp_path / "bad.csv")])


def test_rows_in_parquet_are_those_in_csv(trained: tuple[Store, Artifact], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    photo = save(tmp_path / "a.png", RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8))
    for form in ("csv", "parquet"):
        predict(store=trained[0], given=[str(photo)], faces="whole", output=tmp_path / f"rows.{form}", device="cpu")
    (row,), (line,) = pq.read_table(tmp_path / "rows.parquet").to_pylist(), table(tmp_path / "rows.csv")
    assert {name: "" if value is None else str(value) for name, value in row.items()} == line
    with pytest.raises(UsageError, match=r"rows.xls has no known ending; take .csv, .jsonl, .parquet"):
        predict(store=trained[0], given=[str(photo)], faces="whole", output=tmp_path / "rows.xls", device="cpu")


def test_drawn_pictures_stand_under_their_names_and_never_over_their_sources(
    trained: tuple[Store, Artifact], tmp_path: Path
) -> None:
    pixels = RNG.integers(0, 256, (60, 60), dtype=np.uint8)
    save(tmp_path / "one" / "a.png", pixels)
    save(tmp_path / "two" / "a.jpg", pixels)
    given = [str(tmp_path / "one"), str(tmp_path / "two")]
    predict(store=trained[0], given=given, faces="whole", draw=tmp_path / "drawn", device="cpu")
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["a-2.jpg", "a.jpg"]
    with pytest.raises(UsageError, match=r"--draw would write over .*two/a.jpg"):
        predict(store=trained[0], given=given[1:], faces="whole", draw=tmp_path / "two", device="cpu")


def test_a_mark_lies_on_the_box_and_within_the_picture() -> None:
    grey = np.full((120, 160, 3), 128, np.uint8)
    row = PredictionRow("a", box=(100, -10, 170, 60), expression="surprise", probabilities={"surprise": 0.9})
    marked = drawn(grey, [row])
    assert marked.shape == grey.shape
    changed = (marked != grey).any(2)
    assert changed[30, 100]  # the left edge
    assert not changed[30, 110:150].any()  # not the face itself
    assert not changed[100:, :60].any()
    assert (drawn(grey, [PredictionRow("a", flags=(NO_FACE,))]) == grey).all()


# ---- faces


def crops(side: int | None = 48, *, grey: bool = False) -> CropForm:
    return CropForm(side, grey, TEMPLATE)


def test_a_face_is_brought_to_where_the_model_expects_it() -> None:
    points = turned(12, 90, (150, 100))
    photo = spots(points, 300, 200, 4)

    def answer(_: NDArray[np.uint8]) -> Faces:
        return one_face(points)

    framing = TEMPLATE * 0.8 + 0.1
    (face,) = DetectedFaces(ReportExtras(answer), CropForm(64, True, framing)).find([photo])[0]
    assert face.crop.shape == (64, 64)
    bright = np.argwhere(face.crop > 120)[:, ::-1] + 0.5
    for target in framing * 64:
        assert np.hypot(*(bright - target).T).min() < 1.5


def test_a_square_of_the_models_own_size_is_not_touched() -> None:
    pixels = RNG.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    ((face,),) = WholePhotos(crops()).find([pixels])
    assert np.array_equal(face.crop, pixels)
    ((face,),) = WholePhotos(crops(grey=True)).find([pixels])
    assert np.array_equal(face.crop, np.asarray(Image.fromarray(pixels).convert("L")))
    ((face,),) = WholePhotos(crops(None)).find([RNG.integers(0, 256, (70, 90, 3), dtype=np.uint8)])
    assert face.crop.shape == (112, 112, 3)


@pytest.mark.parametrize(
    ("box", "flag"),
    [((20, 20, 120, 120), None), ((20, 20, 42, 42), SMALL), ((-20, 20, 80, 120), CUT_OFF), ((150, 20, 195, 65), None)],
)
def test_flags_of_a_face_by_its_box(box: tuple[float, float, float, float], flag: str | None) -> None:
    photo = RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8)
    ((face,),) = DetectedFaces(ReportExtras(lambda _: faces_at(box)), crops()).find([photo])
    assert face.flags == (() if flag is None else (flag,))


def test_a_blurred_face_has_less_detail() -> None:
    image = Image.fromarray(RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize(
        (96, 96), Image.Resampling.NEAREST
    )
    sharp, soft = np.asarray(image), np.asarray(image.filter(ImageFilter.GaussianBlur(5)))
    assert sharpness(soft) < prediction_faces.SHARP < sharpness(sharp)
    assert quality(soft, 96, 48) == (BLURRED,)
    assert quality(sharp, 96, 48) == ()
    assert quality(soft, 20, 48) == (SMALL,)
    assert sharpness(np.full((96, 96, 3), 7, np.uint8)) == 0


# ---- photos


def test_photos_are_read_as_a_viewer_shows_them(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_photo(tmp_path / "turned.png").pixels, np.rot90(pixels, -1))
    wide = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert np.abs(read_photo(tmp_path / "wide.png").pixels[..., 0].astype(int) - wide // 257).max() <= 1
    clear = image.convert("RGBA")
    clear.putalpha(Image.fromarray(np.zeros((20, 30), np.uint8)))
    clear.save(tmp_path / "clear.png")
    assert (read_photo(tmp_path / "clear.png").pixels == 255).all()
    image.convert("CMYK").save(tmp_path / "print.jpg")
    assert read_photo(tmp_path / "print.jpg").pixels.shape == (20, 30, 3)
    image.save(tmp_path / "moving.gif", save_all=True, append_images=[image.rotate(90)])
    assert read_photo(tmp_path / "moving.gif").flags == (FIRST_FRAME,)


def test_a_photo_that_is_too_large_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (12_000, 9_000)).save(tmp_path / "large.png")
    with warnings.catch_warnings(action="error"), pytest.raises(FerError, match="more than 64 million pixels"):
        read_photo(tmp_path / "large.png")


def test_heic_is_read_where_its_plugin_is_and_else_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the plugin: it reads an image that stands behind the file's head."""
    pixels, head = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    photo, stream = tmp_path / "a.heic", io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    photo.write_bytes(head + stream.getvalue())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (frame,) = frames(find_sources([str(photo)]).found[0], None)
    assert frame.error == "is not an image of a format that can be read; install pillow-heif"

    def opened(file: Any, name: Any) -> Any:
        image = Image.open(io.BytesIO(file.read()[len(head) :]))
        image.format = "HEIF"
        return image

    plugin = SimpleNamespace(
        register_heif_opener=lambda: Image.register_open("HEIF", opened, lambda prefix: prefix[4:12] == b"ftypheic")
    )
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN})
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    assert np.array_equal(read_photo(photo).pixels, pixels)


# ---- options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--every", "0"], "--every '0' is no time; write 0.5s or 200ms"),
        (["--faces", "whole", "--detector", "retinaface-mobile0.25"], "--faces whole looks for no faces"),
        (["--format", "csv", "--faces", "some"], "'--faces'"),
    ],
)
def test_options_that_contradict_each_other(
    trained: tuple[Store, Artifact], tmp_path: Path, fer: Fer, options: Sequence[str], said: str
) -> None:
    photo = save(tmp_path / "a.png", RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8))
    assert said in fer("predict", photo, "--store", trained[0].root, *options, code=2)


def test_json_and_a_format_are_not_printed_into_each_other(
    trained: tuple[Store, Artifact], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = save(tmp_path / "a.png", RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8))
    words = ["predict", str(photo), "--faces", "whole", "--store", str(trained[0].root), "--device", "cpu"]
    assert run([*words, "--json", "--format", "csv"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["message"].startswith("--json and --format both")
    assert run([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["images"], printed["faces"], len(printed["rows"])) == (1, 1, 1)
    assert run([*words, "--format", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["expression"] == printed["rows"][0]["expression"]
    assert run(words) == 0
    assert "images  1, 1 face" in capsys.readouterr().out


def test_sources_that_are_not_there(trained: tuple[Store, Artifact], tmp_path: Path, fer: Fer) -> None:
    assert "there is no such file or folder" in fer("predict", tmp_path / "none.jpg", "--store", trained[0].root)
    (tmp_path / "empty").mkdir()
    assert "no photo or video in" in fer("predict", tmp_path / "empty", "--store", trained[0].root)
    assert "there is no camera /dev/video63" in fer(
        "predict", "camera:63", "--faces", "whole", "--store", trained[0].root, "--device", "cpu"
    )


def test_a_signal_ends_after_the_batch_and_keeps_its_rows(
    trained: tuple[Store, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdef":
        save(tmp_path / "photos" / f"{name}.png", RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8))
    find = WholePhotos.find

    def interrupted(self: WholePhotos, photos: Sequence[NDArray[np.uint8]]) -> Any:
        signal.raise_signal(signal.SIGINT)
        return find(self, photos)

    monkeypatch.setattr(WholePhotos, "find", interrupted)
    photos, output = [str(tmp_path / "photos")], tmp_path / "rows.csv"
    # A shell lets the jobs that it starts in the background ignore SIGINT, and the tests may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            predict(store=trained[0], given=photos, faces="whole", batch=2, output=output, device="cpu")
    finally:
        signal.signal(signal.SIGINT, before)
    assert [Path(row["file"]).name for row in table(tmp_path / "rows.csv")] == ["a.png", "b.png"]
