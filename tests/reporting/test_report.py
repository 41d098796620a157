"""The report: stands alone, escapes everything, says what it was given, and leaves out what it was not."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_cli.metrics import Estimate, Metrics, evaluate
from fer_cli.reporting import report
from fer_cli.reporting.calibration import calibration_figure
from fer_cli.reporting.confusion import confusion_figure
from fer_cli.reporting.curves import METRICS, ParameterPath, curves_figure, path_figure
from fer_cli.reporting.gradcam import Example, Row, gradcam_figure
from fer_cli.reporting.heatmap import HALF, overlaid
from fer_cli.reporting.interval_bar import interval_bar
from fer_cli.reporting.report import (
    Cost,
    Fact,
    FigureSection,
    LineageNode,
    Mistake,
    PredictorScores,
    ReportData,
    render_report,
)
from fer_cli.reporting.style import HEAT, INK, LINES, class_colour, new_figure, styled
from fer_cli.reporting.svg import inline_svg
from fer_cli.reporting.tsne import tsne_figure

CLASSES = ("neutral", "happy", "sad", "surprise")
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}{% raw %}&amp;"
VOID = {"meta", "img"}
KEYS = ("train_loss", "validation_loss", *METRICS)


def scored(seed: int, strength: float, n: int = 300) -> Metrics:
    rng = np.random.default_rng(seed)
    true = rng.choice(4, size=n, p=[0.4, 0.3, 0.2, 0.1])
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), true] += strength
    table = np.exp(logits)
    return evaluate(true, table / table.sum(axis=1, keepdims=True), CLASSES, seed=0, resamples=200)


def png() -> str:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), 128).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


WEAK, STRONG = scored(1, 0.7), scored(2, 2.0)


def figures(name: str = "happy") -> tuple[FigureSection, ...]:
    run = [{"epoch": epoch, "lr": 1e-3 / epoch, **dict.fromkeys(KEYS, 0.5 / epoch)} for epoch in (1, 2, 3)]
    training = curves_figure({"seed 0": run}, chosen={"seed 0": 2})
    path = ParameterPath("lambda", (0.01, 1.0, 100.0), {name: (0.4, 0.5, 0.45)}, (name, 1.0))
    image, heatmap = np.full((9, 9, 3), 90, np.uint8), np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    rows = [Row(name, [Example(image, heatmap, name, 0.934)], [])]
    points = np.array([[0.0, 0.0], [4.0, 2.0], [2.0, 1.0], [3.0, 0.0], [1.0, 2.0]])
    labels, wrong = np.array([0, 1, 1, 3, 1]), np.array([False, True, False, True, False])
    scatter = tsne_figure(points, labels, ("neutral", name, "sad", "surprise"), wrong=wrong)
    return (
        FigureSection("selection", "Lambda path", "By lambda.", path_figure([path])),
        FigureSection("separation", "Separation", "Of the last layer.", scatter, "t-SNE of five"),
        FigureSection("gradcam", "Grad-CAM", "Colour is evidence.", gradcam_figure(rows), "Grad-CAM of one"),
        FigureSection("training", "Training", "By epoch.", training),
        FigureSection("none", "No picture", "Nothing to see: too few images."),
    )


def full(**changes: Any) -> ReportData:
    gain = {
        "accuracy": Estimate(0.0312, 0.011, 0.052),
        "balanced_accuracy": Estimate(-0.02, -0.03, -0.01),
        "macro_f1": Estimate(0.001, -0.01, 0.012),
    }
    middle = LineageNode("features", "middle", "a901", inputs=(LineageNode("dataset", "low", "1f3a", "note"),))
    data = ReportData(
        title="ahm on fer2013",
        subtitle="Lite0 features",
        split="test",
        predictors=(
            PredictorScores("logistic", WEAK, "multinomial"),
            PredictorScores("ahm-semantic", STRONG, "feature to semantic space", chosen=True, gain=gain),
        ),
        reference="logistic",
        unsound=("selection split: optimistic",),
        cautions=("PublicTest is the test split",),
        cost=Cost(4_651_960, 101_000_000, 312.4, 734_003_200, "2 cores"),
        mistakes=(Mistake("img/1.png", "happy", "sad", 0.991, 0.004, png()),),
        mistakes_note="The worst ones.",
        protocol=(Fact("Data", "fer2013@1f3a"), Fact("Selected on", "test", "unsound"), Fact("Scored", "3", "caution")),
        figures=figures(),
        lineage=LineageNode("ahm", "top", "7c41", inputs=(middle,)),
        intended_use=("To compare.",),
        limits=("Not for decisions.",),
        versions=(Fact("torch", "2.10"),),
        commands=("fer eval --report",),
        created="today",
    )
    return dataclasses.replace(data, **changes)


def minimal() -> ReportData:
    return ReportData(title="a model", split="validation", predictors=(PredictorScores("model", WEAK),))


class Page(HTMLParser):
    """Reads a page strictly: every tag closed in order; keeps tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.shape: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append((tag, tuple(name for name, _ in attrs)))
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append((tag, tuple(name for name, _ in attrs)))
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text.append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def each_string(value: Any, change: Callable[[str], str]) -> Any:
    """Rebuild ``value`` with every string changed, but for the ones that are no free text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fixed = {"mark", "thumbnail", "id"} if isinstance(value, FigureSection) else {"mark", "thumbnail"}
        parts = {
            field.name: getattr(value, field.name)
            if field.name in fixed
            else each_string(getattr(value, field.name), change)
            for field in dataclasses.fields(value)
        }
        return type(value)(**parts)
    if isinstance(value, tuple):
        return tuple(each_string(item, change) for item in value)
    return change(value) if isinstance(value, str) and value else value


def test_every_string_is_escaped() -> None:
    """Hostile text in every field gives the same tags and the same attributes as harmless text of its length."""
    harmless = Page(render_report(each_string(full(), lambda text: text + "x" * len(HOSTILE))))
    hostile_page = render_report(each_string(full(), lambda text: text + HOSTILE))
    hostile = Page(hostile_page)
    assert hostile.shape == harmless.shape
    assert "script" not in {tag for tag, _ in hostile.shape}
    assert "{{ 7 * 7 }}" in hostile.words()
    # Titles of pictures, which a browser shows and reads out, arrive as they were.
    assert f"t-SNE of five{HOSTILE}" in hostile.words()


@pytest.mark.parametrize("k", range(3))
def test_every_word_of_a_figure_is_escaped(k: int) -> None:
    harmless, hostile = (
        Page(str(inline_svg(figures(name)[k].figure or new_figure(1, 1), f"of {name}"))) for name in ("happy", HOSTILE)
    )
    assert hostile.shape == harmless.shape
    assert {"script", "img"}.isdisjoint({tag for tag, _ in hostile.shape})
    assert f"of {HOSTILE}" in hostile.words()
    if k < 2:  # in a grid of pictures a long name is shortened
        assert HOSTILE in hostile.words()


@pytest.mark.parametrize("data", [full(), minimal()], ids=["full", "minimal"])
def test_nothing_is_asked_of_a_network(data: ReportData) -> None:
    text = render_report(data)
    page = Page(text)
    for tag, attributes in page.attributes:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    # What a picture is clipped by is in the page itself.
    bare = re.sub(r"data:image/png;base64,[\w+/=]+|url\(#[\w-]+\)", "", text)
    for word in ("http:", "https:", "//", "@import", "url("):
        assert word not in bare
    ids = {str(one["id"]) for _, one in page.attributes if "id" in one}
    assert set(re.findall(r"url\(#([\w-]+)\)", text)) <= ids
    assert {str(one["xlink:href"])[1:] for tag, one in page.attributes if tag == "use"} <= ids
    policy = next(one for tag, one in page.attributes if one.get("http-equiv"))["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "script" not in policy


@pytest.mark.parametrize("data", [full(), minimal()], ids=["full", "minimal"])
def test_links_and_charts_are_accessible(data: ReportData) -> None:
    page = Page(render_report(data))
    ids = [one["id"] for _, one in page.attributes if "id" in one]
    assert len(ids) == len(set(ids))
    anchors = [one["id"] for tag, one in page.attributes if "id" in one and tag == "section"]
    assert [str(one["href"])[1:] for tag, one in page.attributes if tag == "a"] == anchors
    kinds = [tag for tag, _ in page.attributes]
    for k, (tag, attributes) in enumerate(page.attributes):
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or kinds[k + 1] == "title"
        if tag == "img":
            assert attributes["alt"]
        if tag == "th":
            assert attributes["scope"] in {"row", "col", "colgroup"}
    assert kinds.count("h1") == 1


def test_full_report_says_what_it_was_given() -> None:
    words = Page(render_report(full())).words()
    for phrase in (
        "ahm on fer2013", "split test", "predictor ahm-semantic",
        "This number is not sound selection split: optimistic", "Read with care PublicTest is the test split",
        "parameters 4.65 M", "MACs per image 101 M", "images/s 312", "peak memory 700 MiB",
        "Difference from logistic", "Most frequent confusions", "test (unsound)", "3 (caution)",
        "ahm top @7c41", "dataset low @1f3a note", "chosen: 1", "img/1.png happy sad 99.1 0.4", "To compare.",
        "Of the last layer. t-SNE of five", "neutral 1, 0 wrong happy 3, 1 wrong sad 0, 0 wrong surprise 1, 1 wrong",
        "Colour is evidence. Grad-CAM of one", "right wrong happy happy 93% none less more",
        "No picture Nothing to see: too few images.",
        "Not for decisions.", "torch 2.10", "fer eval --report", "bootstrap of 300 items, 200 resamples, seed 0",
    ):  # fmt: skip
        assert phrase in words, phrase


def test_headline_is_the_chosen_predictors() -> None:
    words = Page(render_report(full())).words()
    low, high = STRONG.accuracy.low, STRONG.accuracy.high
    said = f"{100 * STRONG.accuracy.value:.1f} % 95%: [{100 * low:.1f}, {100 * high:.1f}]"
    assert f"share of items that are right {said}" in words
    assert f"{STRONG.ece.value:.3f} 95%: [{STRONG.ece.low:.3f}, {STRONG.ece.high:.3f}]" in words
    # The same four classes at random: always answering the largest one is the mark to beat.
    largest = max(STRONG.per_class, key=lambda one: one.support)
    assert f"always {largest.name}: {100 * largest.support / STRONG.n:.1f} (dashed)" in words
    assert f"always {largest.name}: 25.0 (dashed)" in words


def test_gains_say_what_the_interval_allows() -> None:
    words = Page(render_report(full())).words()
    assert re.search(r"\+3\.12 \[\+1\.10, \+5\.20\] better", words)
    assert re.search(r"−2\.00 \[−3\.00, −1\.00\] worse", words)
    assert re.search(r"\+0\.10 \[−1\.00, \+1\.20\] no clear difference", words)
    assert report.verdict(Estimate(0.1, math.nan, math.nan)) == "no interval"


def test_confusion_and_classes_hold_every_count() -> None:
    words = Page(render_report(minimal())).words()
    matrix, table = words[words.index("Each row holds") : words.index("In percent, with")].split("Most frequent")
    for row, one in zip(WEAK.confusion, WEAK.per_class, strict=True):
        assert " ".join(f"{count} {count / one.support:.1%}" for count in row) in matrix
        assert f" {one.support} " in matrix
        assert f"{one.name} {' '.join(map(str, row))} {one.support}" in table
    classes = words[words.index("In percent, with 95%") :]
    for one in WEAK.per_class:
        ends = f"[{100 * one.recall.low:.1f}, {100 * one.recall.high:.1f}]"
        assert f"{one.name} {one.support} {one.predicted} {100 * one.recall.value:.1f} {ends}" in classes


@pytest.mark.parametrize(
    ("field", "empty", "phrase"),
    [
        ("subtitle", "", "Lite0 features"),
        ("unsound", (), "not sound"),
        ("cautions", (), "Read with care"),
        ("cost", None, "peak memory"),
        ("cost", Cost(parameters=5), "peak memory"),
        ("mistakes", (), "Worst mistakes"),
        ("protocol", (), "Protocol"),
        ("figures", (), "Lambda path"),
        ("figures", (), "Grad-CAM"),
        ("lineage", None, "Lineage"),
        ("limits", (), "Not for decisions"),
        ("intended_use", (), "To compare"),
        ("versions", (), "Versions"),
        ("commands", (), "fer eval --report"),
        ("created", "", "today"),
    ],
)
def test_what_is_absent_leaves_no_trace(field: str, empty: Any, phrase: str) -> None:
    assert phrase in Page(render_report(full())).words()
    words = Page(render_report(full(**{field: empty}))).words()
    assert phrase not in words
    assert "None" not in words


def test_one_predictor_needs_no_comparison() -> None:
    words = Page(render_report(minimal())).words()
    for phrase in ("Predictors", "Difference", "chosen", "Use and limits", "Reproduce"):
        assert phrase not in words


def test_undefined_values_are_dashes() -> None:
    metrics = evaluate([0], np.eye(4)[[0]], CLASSES, seed=0)
    text = render_report(ReportData(title="one", split="test", predictors=(PredictorScores("model", metrics),)))
    words = Page(text).words()
    assert "no interval" in words
    assert "no items" in words
    assert not re.search(r"\bnan\b", text)
    never = evaluate([0, 1] * 20, np.eye(4)[[0] * 40], CLASSES, seed=0, resamples=20)
    text = render_report(ReportData(title="one", split="test", predictors=(PredictorScores("model", never),)))
    assert "never predicted: precision counted as 0" in Page(text).words()


def test_same_data_same_text() -> None:
    assert render_report(full()) == render_report(full())


def test_reports_that_would_mislead_are_refused() -> None:
    one = PredictorScores("a", WEAK)
    for predictors in ((), (one, one), (dataclasses.replace(one, chosen=True),) * 2):
        with pytest.raises(ValueError, match="exactly one"):
            full(predictors=predictors)
    for uri in ("https://example.org/a.png", 'data:image/png;base64,AA" onerror="x', "data:image/svg+xml;base64,AAAA"):
        with pytest.raises(ValueError, match="no PNG data URI"):
            full(mistakes=(Mistake("i", "happy", "sad", 0.9, 0.1, uri),))


def test_every_colour_exists_in_both_themes() -> None:
    style = resources.files("fer_cli.reporting").joinpath("templates/style.css").read_text()
    light, dark = (
        set(re.findall(r"(--[\w-]+):", block)) for block in re.findall(r":root \{(.*?)\n\s*\}", style, re.S)[:2]
    )
    assert light == dark
    # One more is set where it is used, a class's colour; and figures take theirs from the page.
    used = set(re.findall(r"var\((--[\w-]+)\)", style + render_report(full())))
    assert used == light | {"--c"}
    assert style.count("{") == style.count("}")


def test_interval_bar_is_to_scale() -> None:
    bar = interval_bar(0.5, 0.4, 0.65, 0.0, 1.0, mark=0.25)
    assert 'x="40.00" y="4" width="25.00"' in bar
    assert 'class="tick" x1="50.00"' in bar
    assert 'class="mark" x1="25.00"' in bar
    gain = interval_bar(0.01, -0.01, 0.03, -0.04, 0.04, mark=0.0)
    assert 'class="mark" x1="50.00"' in gain
    assert 'x="37.50" y="4" width="50.00"' in gain
    outside = interval_bar(1.4, math.nan, math.nan, 0.0, 1.0)
    assert 'class="tick" x1="100.00"' in outside
    assert "span" not in outside
    assert "tick" not in interval_bar(math.nan, math.nan, math.nan, 0.0, 1.0)


def test_a_figure_takes_the_pages_colours_and_font() -> None:
    with styled():
        figure = new_figure(2, 1)
        figure.text(0.1, 0.6, "ink", color=INK)
        figure.text(0.1, 0.2, f"line {INK}", color=LINES[1])
        axes = figure.add_axes((0.5, 0.2, 0.4, 0.6))
        axes.scatter([1], [2], color=class_colour("happy"), edgecolors="white")
        axes.fill_between([0, 1], [0, 1], color=HEAT)
    text = str(inline_svg(figure, "of what"))
    page = Page(text)
    styles = " ".join(str(one.get("style", "")) for _, one in page.attributes)
    for colour in ("var(--ink)", "var(--s1)", "var(--page)", "rgb(var(--heat))", class_colour("happy")):
        assert colour in styles, colour
    assert INK not in styles
    assert f"line {INK}" in page.words(), "words stay as they are"
    assert page.shape[0] == ("svg", ("class", "role", "viewbox", "style"))
    assert page.shape[1][0] == "title"
    assert "style" not in {tag for tag, _ in page.shape}, "a rule would be the whole page's"
    assert text == str(inline_svg(figure, "of what"))
    assert len(text) < 15_000


def test_calibration_has_a_point_a_bin() -> None:
    axes, histogram = calibration_figure(WEAK.reliability, "a", "b").axes
    held = [one for one in WEAK.reliability if one.count]
    points = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(points, [(one.confidence, one.accuracy.value) for one in held])
    sizes = axes.collections[0].get_sizes()  # type: ignore[attr-defined]
    assert np.argmax(sizes) == np.argmax([one.count for one in held])
    assert [bar.get_height() for bar in histogram.patches] == [one.count for one in held]  # type: ignore[attr-defined]
    whiskers = [np.asarray(line.get_ydata()) for line in axes.lines[1:]]
    np.testing.assert_allclose(whiskers, [(one.accuracy.low, one.accuracy.high) for one in held])
    assert calibration_figure([]).axes


def test_a_report_is_small() -> None:
    assert len(render_report(full())) < 200_000
    names = [f"class {k}" for k in range(8)]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 1000)
    scatter = tsne_figure(rng.normal(size=(1000, 2)), labels, names, wrong=labels > 3)
    assert len(inline_svg(scatter, "t-SNE")) < 200_000
    assert len(inline_svg(confusion_figure(np.eye(8, dtype=int), names), "confusion")) < 60_000


@pytest.mark.parametrize("colour", [False, True])
def test_a_picture_is_grey_but_for_its_heatmap(colour: bool) -> None:
    image = np.full((30, 20, 3) if colour else (30, 20), 90, np.uint8)
    heat = np.zeros((40, 40), np.float32)
    heat[20:] = 1  # below
    shown = overlaid(image, heat, 60)
    assert shown.shape == (60, 40, 3)
    assert (shown[:28] == 90).all()
    below = shown[33:].astype(int)
    assert (below[..., 0] - below[..., 2]).min() > 80, "hot is yellow"
    line = (shown.min(axis=2) > 200).all(axis=1)
    assert line.sum() == 1, "one line, where half of the heat is"
    assert abs(int(np.flatnonzero(line)[0]) - 29) <= 1
    for flat in (0.0, HALF, 1.0):
        plain = overlaid(image, np.full((4, 4), flat, np.float32), 30)
        assert (plain == plain[0, 0]).all(), "no line where nothing lies on both sides"


def test_a_picture_in_a_page_has_few_colours_and_looks_the_same() -> None:
    rng = np.random.default_rng(0)
    image = np.cumsum(rng.normal(size=(30, 20)), axis=0) * 6 + 128
    heatmap = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    shown = gradcam_figure([Row("happy", [Example(image.clip(0, 255).astype(np.uint8), heatmap, "happy", 0.9)], [])])
    uri = re.findall(r"data:image/png;base64,([\w+/=]+)", str(inline_svg(shown, "of what")))[0]
    kept = Image.open(io.BytesIO(base64.b64decode(uri)))
    assert kept.mode == "P"
    assert kept.size[1] == pytest.approx(1.3 * 120, abs=1)
    expected = np.asarray(Image.fromarray(np.asarray(shown.axes[0].images[0].get_array())).resize(kept.size))
    assert (
        np.abs(
            np.asarray(kept.convert("RGB").transpose(Image.Transpose.FLIP_TOP_BOTTOM), dtype=int) - expected.astype(int)
        ).mean()
        < 3
    )
