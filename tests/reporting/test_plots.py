"""Figures: what they show, how they are saved, and that none of it needs pyplot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS
from fer_cli.datasets.dataset import open_dataset
from fer_cli.datasets.sampling import stratified_subsample
from fer_cli.plots.classes import classes_figure, imbalance, training_counts
from fer_cli.reporting import style
from fer_cli.reporting.confusion import confusion_figure
from fer_cli.reporting.style import CLASS_COLOURS, MARKERS, class_colour, class_marker, save_figure
from fer_cli.reporting.tsne import fitting_perplexity, tsne_backend, tsne_embedding, tsne_figure
from tests.kits.toy import toy_dataset

CONFUSION = [[30, 10, 0], [2, 7, 1], [0, 0, 0]]
CLASSES = ("happy", "$\\frac{", "a_b^")  # mathtext would fail on these


def texts(figure: Figure) -> list[str]:
    return [one.get_text() for one in figure.findobj(Text) if one.get_text()]


def figure() -> Figure:
    return confusion_figure(CONFUSION, CLASSES, "A title with $\\frac{", "subtitle")


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_saved_by_suffix_and_the_same_each_time(tmp_path: Path, suffix: str, magic: bytes) -> None:
    first = save_figure(figure(), tmp_path / f"a{suffix}", dpi=60)
    second = save_figure(figure(), tmp_path / f"b{suffix}", dpi=60)
    assert first.read_bytes().startswith(magic)
    assert first.read_bytes() == second.read_bytes()
    assert b"CreationDate" not in first.read_bytes()
    assert b"<dc:date>" not in first.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.tar.gz", ".png"])
def test_unknown_suffix_names_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(FerError, match=r"\.png, \.svg, \.pdf") as caught:
        save_figure(figure(), tmp_path / name)
    assert caught.value.path == tmp_path / name
    assert not list(tmp_path.iterdir())


def test_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(FerError, match="No such file"):
        save_figure(figure(), tmp_path / "absent" / "a.png")


def test_failed_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(FerError, match="No space left"):
        save_figure(Figure(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_picture_is_replaced_whole(tmp_path: Path) -> None:
    """A reader who holds the old file keeps it: the new one takes its place, it is not written over it."""
    path, held = tmp_path / "a.png", tmp_path / "held"
    path.write_bytes(b"old")
    held.hardlink_to(path)
    save_figure(figure(), path, dpi=40)
    assert held.read_bytes() == b"old"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_new_picture_is_readable_by_others(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    assert save_figure(figure(), tmp_path / "a.png", dpi=40).stat().st_mode == plain.stat().st_mode


def test_neither_pyplot_nor_early_imports() -> None:
    """Figures do without pyplot, and the report does without matplotlib."""
    code = """
import sys
import fer_cli.reporting.report, fer_cli.reporting.confusion, fer_cli.reporting.tsne, fer_cli.plots.classes
assert not {"matplotlib", "sklearn", "torch"} & set(sys.modules)
fer_cli.reporting.confusion.confusion_figure([[1, 0], [0, 1]], ("happy", "sad"))
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_confusion_says_counts_shares_and_support() -> None:
    said = texts(figure())
    for text in ("30", "75.0%", "10", "25.0%", "70.0%", "40", "32", "17", "50", *CLASSES, "true", "predicted"):
        assert text in said, text
    assert said.count("–") == 3  # a class without items has no shares
    with pytest.raises(ValueError, match="for 2 classes"):
        confusion_figure(CONFUSION, CLASSES[:2])


def test_confusion_colours_follow_the_row_shares() -> None:
    cells = figure().axes[0].patches
    assert [cell.get_center() for cell in cells] == [pytest.approx((j, i)) for i in range(3) for j in range(3)]  # type: ignore[attr-defined]
    shares = [0.75, 0.25, 0.0, 0.2, 0.7, 0.1, 0.0, 0.0, 0.0]
    assert [cell.get_alpha() for cell in cells] == pytest.approx([0.03 + 0.89 * share for share in shares])
    assert {to_hex(cell.get_facecolor()) for cell in cells} == {style.HEAT}


def test_subsample_keeps_the_shares() -> None:
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    kept = stratified_subsample(labels, 100, seed=1)
    assert np.bincount(labels[kept]).tolist() == [90, 9, 1]
    assert len(np.unique(kept)) == 100
    assert np.array_equal(kept, stratified_subsample(labels, 100, seed=1))
    assert not np.array_equal(kept, stratified_subsample(labels, 100, seed=2))
    assert stratified_subsample(labels, 1000, seed=1).tolist() == list(range(1000))
    # Shares that do not divide: the largest remainders are rounded up, and the total holds.
    assert (
        np.bincount(np.repeat([0, 1, 2], [5, 3, 3])[stratified_subsample(np.repeat([0, 1, 2], [5, 3, 3]), 7, 0)]).sum()
        == 7
    )


@pytest.fixture(scope="module")
def clusters() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    features = rng.normal(size=(120, 12)) + 6 * np.eye(12)[labels]
    features[:, -1] = 7.0  # a dead feature
    features[:, 5] *= 1e4  # and one of another scale: noise, which must not rule
    return features, labels


def test_embedding_keeps_clusters_apart(clusters: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    features, labels = clusters
    points = tsne_embedding(features, seed=3, perplexity=10)
    assert points.shape == (120, 2)
    assert np.array_equal(points, tsne_embedding(features, seed=3, perplexity=10))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert np.mean(labels[distances.argmin(axis=1)] == labels) > 0.95


def test_one_dimension_can_be_embedded() -> None:
    points = tsne_embedding(np.linspace(0, 1, 30)[:, None], seed=0, perplexity=5)
    assert np.isfinite(points).all()


@pytest.mark.parametrize(
    ("features", "perplexity", "what"),
    [
        (np.eye(10), 30, "perplexity 30 does not fit 10"),
        (np.eye(40), 0.5, "perplexity 0.5"),
        (np.full((40, 3), np.nan), 5, "finite"),
        (np.ones((40, 3)), 5, "alike"),
        (np.ones(40), 5, "finite"),
    ],
)
def test_what_cannot_be_embedded_is_said(features: NDArray[np.float64], perplexity: float, what: str) -> None:
    with pytest.raises(FerError, match=what):
        tsne_embedding(features, seed=0, perplexity=perplexity)


def test_tsne_figure_counts_and_draws_every_point(tmp_path: Path) -> None:
    labels = np.array([0, 0, 0, 2, 2])
    points = np.arange(10, dtype=float).reshape(5, 2)
    drawn = tsne_figure(points, labels, CLASSES, "features", tsne_backend())
    said = texts(drawn)
    assert [text for text in said if text.startswith(CLASSES)] == ["happy   3", "$\\frac{   0", "a_b^   2"]
    offsets = np.concatenate([np.asarray(one.get_offsets()) for one in drawn.axes[0].collections])
    assert sorted(map(tuple, offsets.tolist())) == sorted(map(tuple, points.tolist()))
    save_figure(drawn, tmp_path / "t.svg")
    with pytest.raises(ValueError, match="5 labels"):
        tsne_figure(points[:4], labels, CLASSES, "features")


def test_wrong_answers_are_ringed() -> None:
    labels = np.array([0, 0, 0, 2, 2])
    points = np.arange(10, dtype=float).reshape(5, 2)
    wrong = np.array([False, True, False, False, True])
    drawn = tsne_figure(points, labels, CLASSES, "features", wrong=wrong)
    ringed = [
        tuple(at)
        for one in drawn.axes[0].collections
        for at in np.asarray(one.get_offsets()).tolist()
        if np.allclose(np.asarray(one.get_edgecolor())[:, :3], to_rgb(style.INK))
    ]
    assert sorted(ringed) == [(2.0, 3.0), (8.0, 9.0)]
    assert "ring: wrong answer" in texts(drawn)
    assert {"happy   3, 1 wrong", "a_b^   2, 1 wrong"} <= set(texts(drawn))
    offsets = np.concatenate([np.asarray(one.get_offsets()) for one in drawn.axes[0].collections])
    assert len(offsets) == 5
    assert not [text for text in texts(tsne_figure(points, labels, CLASSES, "features")) if "wrong" in text]
    with pytest.raises(ValueError, match="4 answers for 5 labels"):
        tsne_figure(points, labels, CLASSES, "features", wrong=wrong[:4])


def test_classes_before_and_after_the_extra_images_of_a_training(store: Store) -> None:
    toy_dataset(store, images=140)
    dataset = open_dataset(store.find("toy", ["dataset"]))
    before = dict.fromkeys(dataset.classes, 12)
    counts = training_counts(dataset, {"limit": None, "oversample": {"disgust": 5, "fear": 2}})
    assert counts == {"train": before, "an epoch of training": {**before, "disgust": 60, "fear": 24}}
    counts = training_counts(dataset, {"limit": 42, "oversample": {"disgust": 3}})
    assert counts["an epoch of training"] == {**dict.fromkeys(dataset.classes, 6), "disgust": 18}
    figure = classes_figure(counts)
    assert {"train", "an epoch of training", "84 items, imbalance 1.0 : 1"} <= {
        text.get_text() for text in figure.texts
    }


def test_classes_figure_says_counts_and_imbalance(tmp_path: Path) -> None:
    counts = {"train": {"happy": 7215, "disgust": 436, "a_b^{": 0}, "test": {"happy": 88, "disgust": 11, "a_b^{": 1}}
    grey, colour = np.zeros((48, 48), np.uint8), np.zeros((30, 20, 3), np.uint8)
    faces: dict[str, list[NDArray[np.uint8]]] = {"happy": [grey] * 9, "disgust": [colour]}
    drawn = classes_figure(counts, faces, "Classes", "of what")
    said = " | ".join(texts(drawn))
    for text in (
        "7,215  94.3%",
        "436  5.7%",
        "88  88.0%",
        "7,651 items, imbalance 16.5 : 1",
        "imbalance 88.0 : 1",
        "a_b^{",
    ):
        assert text in said
    assert sum(len(axes.images) for axes in drawn.axes) == 6 + 1
    widths = [patch.get_width() for patch in drawn.axes[0].patches]  # type: ignore[attr-defined]
    assert widths == [7215, 436, 0]
    save_figure(drawn, tmp_path / "c.png", dpi=40)
    assert sum(len(axes.images) for axes in classes_figure(counts).axes) == 0
    with pytest.raises(ValueError, match="same classes"):
        classes_figure({"train": {"happy": 1}, "test": {"sad": 1}})
    with pytest.raises(ValueError, match="same classes"):
        classes_figure({})


def test_imbalance_leaves_out_empty_classes() -> None:
    assert imbalance({"a": 6, "b": 0, "c": 2}) == 3
    assert imbalance({"a": 0}) == 1


def _cielab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(linear, 0, 1) @ matrix.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize(
    "sight",
    [
        np.eye(3),
        # Machado, Oliveira & Fernandes 2009, severity 1: protanopia, deuteranopia, tritanopia.
        np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
        np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
        np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
    ],
    ids=["normal", "protan", "deutan", "tritan"],
)
def test_class_colours_can_be_told_apart(sight: NDArray[np.float64]) -> None:
    rgb = np.array([[int(CLASS_COLOURS[name][k : k + 2], 16) for k in (1, 3, 5)] for name in EXPRESSIONS]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lab = _cielab(linear @ sight.T)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(lab), 1)]
    assert distances.min() > 24


def test_every_name_has_its_own_look() -> None:
    assert len({class_marker(name) for name in EXPRESSIONS}) == len(EXPRESSIONS) == len(MARKERS)
    assert class_colour("happy", 3) == class_colour("happy", 0)
    others = [class_colour(f"other {k}", k) for k in range(len(style.OTHER_COLOURS))]
    assert len(set(others) | set(CLASS_COLOURS.values())) == len(others) + len(CLASS_COLOURS)


@pytest.mark.parametrize(("items", "perplexity"), [(3000, 30), (91, 15), (12, 11 / 6), (5, 1)])
def test_the_usual_perplexity_fits_few_items(items: int, perplexity: float) -> None:
    assert fitting_perplexity(items) == pytest.approx(perplexity)
    if items < 100:
        features = np.random.default_rng(0).normal(size=(items, 6))
        assert np.isfinite(tsne_embedding(features, seed=0, perplexity=fitting_perplexity(items))).all()


def test_four_items_are_too_few_to_embed() -> None:
    with pytest.raises(FerError, match="does not fit 4 items; embed at least 5 images"):
        tsne_embedding(np.eye(4), seed=0, perplexity=1)
