"""Text in figures: any name is written as it stands, fits its place, and breaks no file."""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from fer_cli.core.labels import EXPRESSIONS
from fer_cli.plots.classes import classes_figure
from fer_cli.plots.hierarchy import hierarchy_figure
from fer_cli.plots.roc import roc_figure
from fer_cli.reporting import lettering
from fer_cli.reporting.cases import ShownCase, cases_figure
from fer_cli.reporting.confusion import confusion_figure
from fer_cli.reporting.curves import METRICS, ParameterPath, curves_figure, path_figure
from fer_cli.reporting.gradcam import Example, Row, gradcam_figure
from fer_cli.reporting.lettering import DOTS, fitted, left_to_right, measured, page_fonts, printable
from fer_cli.reporting.style import save_figure, styled
from fer_cli.reporting.svg import inline_svg
from fer_cli.reporting.tsne import tsne_figure
from fer_cli.systems.ahm.hierarchy import default_hierarchy, load_hierarchy
from tests.kits.hostile import ALL, NAMES, SURROGATE, steering

CLASSES = (*NAMES.values(), SURROGATE)
IMAGE = np.full((9, 9), 90, np.uint8)
N = len(CLASSES)
SOME = (*CLASSES[:-2:3], *CLASSES[-2:])  # where a figure has many pictures or N x N cells


def confusion() -> Figure:
    return confusion_figure(np.ones((len(SOME), len(SOME))), SOME, ALL, ALL, ALL)


def roc() -> Figure:
    curve = np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.7, 1.0])
    return roc_figure(dict.fromkeys(CLASSES, (curve, curve)), ALL, ALL)


def tsne() -> Figure:
    points = np.random.default_rng(0).normal(size=(2 * N, 2))
    return tsne_figure(points, np.arange(2 * N) % N, CLASSES, ALL, ALL, wrong=np.arange(2 * N) % 3 == 0)


def classes() -> Figure:
    counts = {part: {name: k + 1 for k, name in enumerate(CLASSES)} for part in ("train", ALL)}
    return classes_figure(counts, {name: [IMAGE] for name in SOME}, ALL, ALL)


def curves() -> Figure:
    run = [
        {"epoch": e, "lr": 1e-3 / e, "train_loss": 0.5, "validation_loss": 0.5, **dict.fromkeys(METRICS, 0.4)}
        for e in (1, 2)
    ]
    return curves_figure({ALL: run, "b": run}, chosen={ALL: 1, "b": 2}, title=ALL, subtitle=ALL)


def path() -> Figure:
    return path_figure([ParameterPath(ALL, (0.1, 1.0), {ALL: (0.4, 0.5), "_b": (0.3, 0.2)}, (ALL, 1.0))], ALL, ALL)


def gradcam() -> Figure:
    examples = [Example(IMAGE, np.zeros((3, 3), np.float32), name, 0.5) for name in CLASSES[:2]]
    return gradcam_figure([Row(name, examples, examples[:1]) for name in SOME], ALL, ALL)


def cases() -> Figure:
    shown = [ShownCase((IMAGE, IMAGE), ((name, ALL), (ALL, name)), name) for name in SOME]
    return cases_figure({ALL: shown}, ALL, ALL)


FIGURES = [confusion, roc, tsne, classes, curves, path, gradcam, cases]


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_a_figure_of_hostile_names_is_a_sound_file(draw: Callable[[], Figure], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that the font does not have
        text = save_figure(draw(), tmp_path / "a.svg").read_text(encoding="utf-8")
        ET.fromstring(text)
        assert not steering(text.replace("\u200e", ""))
        with page_fonts():
            page = str(inline_svg(draw(), ALL))
    for one in (text, page):
        tags = [node.tag.rpartition("}")[2] for node in ET.fromstring(one.replace("xlink:", "")).iter()]
        assert not {"script", "img", "style"} & set(tags) - ({"style"} if one is text else set())
    assert not steering(page.replace("\u200e", ""))


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_hostile_names_lie_on_the_figure(draw: Callable[[], Figure]) -> None:
    with styled():
        figure = draw()
        figure.set_dpi(100)
        renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
        figure.draw(renderer)
        width, height = figure.bbox.size
        for one in figure.findobj(Text):
            # Ticks beyond the axes are there too, but not drawn.
            if isinstance(one, Text) and one.get_visible() and any(char.isalpha() for char in one.get_text()):
                box = one.get_window_extent(renderer)
                assert -2 <= box.x0 <= box.x1 <= width + 2, one.get_text()
                assert -2 <= box.y0 <= box.y1 <= height + 2, one.get_text()
                assert not one.get_parse_math()


def test_words_of_a_hierarchy_are_drawn_as_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    words = "$x_1$ <b> 笑い"
    text = default_hierarchy().text
    file.write_text(re.sub(r'AU12 = ".*?"', lambda _: f'AU12 = "{words}"', text), encoding="utf-8")
    figure = hierarchy_figure(load_hierarchy(file))
    text = save_figure(figure, tmp_path / "a.svg").read_text(encoding="utf-8")
    ET.fromstring(text)
    shown = [one.get_text() for one in figure.findobj(Text) if isinstance(one, Text)]
    assert "AU12  $x_1$ <b> \\u7b11\\u3044" in shown


def test_no_word_of_ours_is_shortened() -> None:
    """The bundled hierarchy and the names of expressions, compound ones too, are whole in every figure."""
    compound = ("happily surprised", "angrily disgusted", *EXPRESSIONS)
    evaluated = "ferplus-baseline-resnet18-seed0 (network) on ferplus test, 3,579 images"
    scores = "accuracy 64.1 [62.0, 66.2], balanced accuracy 60.1 [58.0, 61.2], in percent"
    drawn = [
        hierarchy_figure(default_hierarchy()),
        confusion_figure(np.ones((10, 10)), compound, "Confusion matrix", evaluated, scores),
        roc_figure(dict.fromkeys(compound, ()), "ROC curves, each class against the rest", evaluated),
        tsne_figure(np.eye(10, 2), np.arange(10), compound, wrong=np.ones(10, bool)),
        classes_figure({"validation": dict.fromkeys(compound, 1)}),
    ]
    for figure in drawn:
        assert not [one.get_text() for one in figure.findobj(Text) if isinstance(one, Text) and "…" in one.get_text()]


def test_a_class_is_in_every_legend_whatever_its_name() -> None:
    for figure in (roc(), tsne()):
        entries = " ".join(text.get_text() for legend in figure.legends for text in legend.get_texts())
        assert "_hidden   " in entries


def test_text_is_written_whole_or_with_an_ellipsis() -> None:
    assert fitted("happy", 400, 9.5) == "happy"
    for name in CLASSES:
        assert measured(fitted(name, 120, 9.5), 9.5) <= 120
        assert measured(fitted(name, 120, 9.5, "bold", middle=True), 9.5, "bold") <= 120
    assert fitted("n" * 10**6, 2 * DOTS, 9.5).endswith("…")
    assert fitted("", 10, 9.5) == ""
    assert printable("笑\x1b\ud800") == "\\u7b11\\x1b\\ud800"
    with page_fonts():
        assert printable("笑\x1b\ud800") == "笑\\x1b\\ud800"


def test_numbers_beside_names_from_right_to_left_keep_their_place() -> None:
    assert left_to_right("happy 4, 3") == "happy 4, 3"
    assert left_to_right("שלום עולם 4, 3") == "\u200eשלום עולם\u200e 4, 3"
    assert left_to_right("a سعيد, b") == "\u200ea سعيد\u200e, b"


@pytest.fixture
def fresh_fonts() -> Iterator[None]:
    def forget() -> None:
        lettering.families.cache_clear()
        lettering._has.cache_clear()
        lettering._missing.clear()

    forget()
    yield
    forget()


def test_letters_that_no_font_has_are_said_once_a_script(
    fresh_fonts: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lettering, "FALLBACKS", ("No Such Font",))
    with caplog.at_level("WARNING", logger="fer_cli"):
        assert printable("困惑") == "\\u56f0\\u60d1"
        assert printable("惑, ひ") == "\\u60d1, \\u3072"
    assert [one.message.partition(";")[0] for one in caplog.records] == [
        "no font here has '困': figures show \\u56f0",
        "no font here has 'ひ': figures show \\u3072",
    ]
    assert "install Noto Sans CJK" in caplog.text


def test_an_installed_font_lends_what_ours_lacks(
    fresh_fonts: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lettering, "FALLBACKS", ("No Such Font", "STIXGeneral"))
    lent = "\u213c"  # an operator that STIX has
    assert lettering.families() == ("DejaVu Sans", "STIXGeneral")
    assert printable(f"a{lent}") == f"a{lent}"
    assert measured(f"a{lent}", 9.5) > measured("a", 9.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for suffix in (".png", ".svg", ".pdf"):
            save_figure(confusion_figure(np.ones((2, 2)), (lent, "happy")), tmp_path / f"a{suffix}")
