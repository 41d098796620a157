"""``fer plot --style paper``: the width, the letters and the names of files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.core.labels import EXPRESSIONS
from fer_cli.plots.classes import classes_figure
from fer_cli.plots.hierarchy import hierarchy_figure
from fer_cli.reporting.confusion import confusion_figure, paper_confusion
from fer_cli.reporting.curves import curves_figure
from fer_cli.reporting.style import MILLIMETRES, fit_to_paper, save_figure
from fer_cli.systems.ahm.hierarchy import default_hierarchy
from tests.kits.train import Fer

CLASSES = ("anger", "happy", "sad")
COUNTS = [[80, 15, 5], [3, 90, 7], [10, 20, 70]]


@pytest.mark.parametrize("millimetres", [88.0, 180.0])
def test_a_figure_is_as_wide_as_asked(tmp_path: Path, millimetres: float) -> None:
    figure = confusion_figure(COUNTS, CLASSES, "The title", "The subtitle")
    assert fit_to_paper(figure, millimetres) == 0
    path = save_figure(figure, tmp_path / "a.pdf", cropped=True)
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ", path.read_bytes())
    assert box is not None
    assert float(box[1]) / 72 * 25.4 == pytest.approx(millimetres, rel=0.01)
    texts = [one for one in figure.findobj(Text) if isinstance(one, Text) and one.get_text().strip()]
    assert all(7 <= float(one.get_fontsize()) <= 9 for one in texts)
    assert not [one for one in texts if "title" in one.get_text()]
    assert b"/FontFile2" in path.read_bytes()


def test_texts_that_touch_are_counted() -> None:
    figure = confusion_figure([[12345] * 8] * 8, [f"class number {k}" for k in range(8)], "", "")
    assert fit_to_paper(figure, 40.0) > 0


@pytest.mark.parametrize(("count", "inches"), [(3, 3.46), (12, 3.46), (12, 7.09), (20, 3.46)])
def test_no_texts_touch_in_a_matrix_of_a_paper(count: int, inches: float) -> None:
    counts = np.full((count, count), 12) + 900 * np.eye(count, dtype=np.int64)
    figure = paper_confusion(counts, [f"state {k}" for k in range(count)], inches)
    assert fit_to_paper(figure, 25.4 * inches) == 0
    if (count, inches) == (12, 3.46):
        cells = [one.get_text() for one in figure.axes[0].texts]
        assert cells.count("87") == 12  # 912 of 1,044
        assert cells.count("1") == 132


@pytest.mark.parametrize("inches", [3.46, 7.09])
def test_no_texts_touch_in_hierarchies_and_class_counts_of_a_paper(inches: float) -> None:
    tree = hierarchy_figure(default_hierarchy(), paper=inches)
    assert fit_to_paper(tree, 25.4 * inches) == 0
    labels = {one.get_text() for one in tree.findobj(Text) if isinstance(one, Text)}
    assert {"AU12  lip corner puller", "contempt", "eyes (C3)"} <= labels
    counts = {split: dict.fromkeys(EXPRESSIONS, 12345) for split in ("train", "validation", "test")}
    assert fit_to_paper(classes_figure(counts, paper=inches), 25.4 * inches) == 0


def test_the_file_is_named_by_what_it_shows(own: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = own.datasets()[0]
    paper = ["--style", "paper"]
    for words in ([], ["--faces", "6"], ["--faces", "2"], paper, [*paper, "--width", "double", "--faces", "0"]):
        assert run(["plot", "classes", *words, "--store", str(own.root)]) == 0
    stem = f"fer-classes-{data.name}-{data.version}"
    assert {path.name for path in tmp_path.glob("fer-*")} == {
        f"{stem}.png",
        f"{stem}-faces-2.png",
        f"{stem}.pdf",
        f"{stem}-faces-0-double.pdf",
    }


def test_hierarchies_of_one_name_get_a_file_each(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = default_hierarchy().text
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.toml").write_text(f"# {name}\n{text}")
        assert run(["plot", "hierarchy", f"{name}/mine.toml", "--store", str(store.root)]) == 0
    assert len(list(tmp_path.glob("fer-hierarchy-mine-*.png"))) == 2


def test_widths_and_styles_that_are_none_are_refused(own: Store, fer: Fer) -> None:
    words = ["plot", "classes", "--store", own.root]
    assert "--width is for --style paper" in fer(*words, "--width", "single", code=2)
    assert "is no width" in fer(*words, "--style", "paper", "--width", "nan", code=2)
    assert "is not a choice" in fer(*words, "--style", "slides", code=2)


def test_curves_of_a_column_stand_one_below_the_other_and_are_as_wide_as_it() -> None:
    rows = [
        {"epoch": epoch, "lr": 0.1**epoch, "train_loss": 1.0, "validation_loss": 2.0 / epoch}
        | dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), epoch / 9)
        for epoch in range(1, 8)
    ]
    runs = {f"seed {seed}": rows for seed in range(3)}
    figure = curves_figure(runs, chosen=dict.fromkeys(runs, 7), metric="accuracy", paper=88 / MILLIMETRES)
    assert fit_to_paper(figure, 88) <= 1
    tops = [axes.get_position().y1 for axes in figure.axes]
    assert tops == sorted(tops, reverse=True)
    assert all(axes.get_position().width > 0.7 for axes in figure.axes)
