"""The Python API: the guide's example runs, nothing is printed, and models answer as they do in an evaluation."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image

import fer_cli as fer
from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.core.progress import LOGGER, Advance, note, shown_by, track, warn
from fer_cli.faces.alignment import TEMPLATE
from fer_cli.prediction.model import CropForm, Model
from tests.kits.toy import toy_dataset

GUIDE: Final = Path(__file__).resolve().parents[2] / "docs" / "guide" / "python.md"


def test_the_guides_example_runs_and_prints_nothing(tmp_path: Path) -> None:
    [code] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nassert probabilities.shape == (8, 7) and len(labels) == 8"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "artifacts" / "ahm").is_dir()


def test_every_name_is_there_and_importing_fer_imports_nothing_heavy() -> None:
    code = "import sys, fer_cli; print(sorted({'numpy', 'torch', 'pydantic'} & set(sys.modules)), dir(fer_cli))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    for name in fer.__all__:
        assert repr(name) in done.stdout
        assert getattr(fer, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = fer.nonsense
    assert (Path(fer.__file__).parent / "py.typed").is_file()


def test_a_model_predicts_what_its_evaluation_says(store: Store, tmp_path: Path) -> None:
    """Arrays, PIL images and files give the probabilities that were written of the same images."""
    dataset = toy_dataset(store, images=210)
    changes = ["model.backbone=test_efficientnet", "model.weights=none", "data.size=32", "train.epochs=1"]
    trained = fer.train(store=store, system="baseline", changes=[*changes, "train.batch=16"], seeds=[0, 1])
    evaluation = fer.evaluate(store=store, model=trained.models[0].artifact.reference, resamples=100).artifact
    table = read_table(evaluation.file("predictions.parquet"))
    opened = fer.open_dataset(dataset)
    rows = opened.rows("test")
    assert table["id"].to_pylist() == opened.ids[rows].tolist()
    model = fer.load_model(trained.models[0].artifact.reference, store=store, device="cpu")
    assert isinstance(model, Model)
    probabilities, labels = model.predict(opened.images[rows], calibrated=False)
    written = np.stack([table[f"score_{name}"].to_numpy() for name in model.classes], axis=1)
    np.testing.assert_allclose(probabilities, written, atol=1e-5)
    assert labels == [model.classes[index] for index in written.argmax(1)]
    probabilities, again = model.predict(opened.images[rows])
    assert again == labels
    paths = []
    for row in rows[:3]:
        paths.append(tmp_path / f"{row}.png")
        Image.fromarray(opened.images[row]).save(paths[-1])
    np.testing.assert_allclose(model.predict(paths).probabilities, probabilities[:3], atol=1e-5)
    pictures = [Image.open(path) for path in paths]
    np.testing.assert_allclose(model.predict(pictures).probabilities, probabilities[:3], atol=1e-5)
    mixed = [opened.images[rows[0]], np.zeros((20, 30, 3), np.uint8), opened.images[rows[1]]]
    np.testing.assert_allclose(model.predict(mixed).probabilities[[0, 2]], probabilities[:2], atol=1e-5)
    other = fer.load_model(trained.models[1].artifact.reference, store=store, device="cpu")
    study = fer.load_model(trained.whole.artifact.reference, store=store, device="cpu")
    mean = (probabilities + other.predict(opened.images[rows]).probabilities) / 2
    np.testing.assert_allclose(study.predict(opened.images[rows]).probabilities, mean, atol=1e-9)
    assert model.predict([]).probabilities.shape == (0, len(model.classes))


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_what_is_no_image_is_refused(image: Any) -> None:
    with pytest.raises(FerError, match="give uint8"):
        fer.Model((), ("a", "b"), (), CropForm(None, False, TEMPLATE), "none").predict([image])


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("x")
    with pytest.raises(FerError, match=r"x\.png: is not an image"):
        fer.Model((), ("a", "b"), (), CropForm(None, False, TEMPLATE), "none").predict([tmp_path / "x.png"])


def test_artifacts_are_listed_and_read_as_tables(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.artifacts() == []
    dataset = toy_dataset(store, images=70)
    assert [artifact.reference for artifact in store.datasets()] == [dataset.reference]
    assert store.models() == store.evaluations() == []
    table = dataset.to_arrow()
    assert table.num_rows == 70
    assert dataset.to_arrow("index.parquet").equals(table)
    with pytest.raises(FerError, match=r"has no table 'nonsense'; it has index\.parquet"):
        dataset.to_arrow("nonsense")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FerError, match="pandas is not installed; install pandas, or take to_arrow"):
        dataset.to_pandas()


def test_a_loader_that_is_missing_is_named(store: Store) -> None:
    with pytest.raises(FerError, match="nonsense"):
        fer.prepare("nonsense", store=store)


def test_a_display_sees_progress_and_a_logger_the_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, float | None, float]] = []

    @contextmanager
    def display(title: str, total: float | None, unit: str | None, done: float) -> Iterator[Advance]:
        yield lambda done=1, status=None: seen.append((title, total, done))

    with shown_by(display), track("work", 10) as advance:
        advance(3)
        advance()
    assert seen == [("work", 10, 3), ("work", 10, 1)]
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", records.append)
    LOGGER.addHandler(handler)
    try:
        note("a\nnote")
        warn("a warning")
    finally:
        LOGGER.removeHandler(handler)
    assert [(record.levelname, record.getMessage()) for record in records] == [
        ("INFO", r"a\nnote"),
        ("WARNING", "a warning"),
    ]
