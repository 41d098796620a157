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

from fer_cli.core.format import whole_percent
from fer_cli.metrics import Estimate, Metrics, evaluate
from fer_cli.reporting import report
from fer_cli.reporting.charts import Curve, Series, interval_bar, line_chart, nice_ticks, reliability_chart, tick_label
from fer_cli.reporting.heatmap import HALF, GradCamGrid, GradCamRow, GradCamTile, heat_thumbnail, laid_over
from fer_cli.reporting.report import Cost, Fact, LineageNode, Mistake, PredictorScores, ReportData, render_report
from fer_cli.reporting.scatter import Scatter, scatter_chart
from fer_cli.reporting.style import class_colour

CLASSES = ("neutral", "happy", "sad", "surprise")
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}{% raw %}&amp;"
VOID = {"meta", "img"}


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
SCATTER = Scatter(
    points=((0.0, 0.0), (4.0, 2.0), (2.0, 1.0), (3.0, 0.0), (1.0, 2.0)),
    labels=(0, 1, 1, 3, 1),
    wrong=(False, True, False, True, False),
    classes=CLASSES,
    title="t-SNE of five",
    note="Of the last layer.",
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
        curves=(
            Curve(
                "Lambda path",
                "lambda",
                "validation accuracy",
                (0.01, 1.0, 100.0, 10000.0),
                (Series("semantic", (0.4, 0.45, 0.5, 0.48)), Series("visual", (0.3, math.nan, 0.35, 0.32))),
                log_x=True,
                chosen=("semantic", 2),
                note="By lambda.",
            ),
        ),
        scatter=SCATTER,
        looks=GradCamGrid(
            rows=(
                GradCamRow(
                    "happy",
                    (GradCamTile(png(), "happy", 0.934),),
                    (GradCamTile(png(), "sad", 0.612), GradCamTile(png(), "fear", 0.3)),
                ),
                GradCamRow("sad", (), ()),
            ),
            note="Heat is evidence.",
        ),
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
        fixed = {"mark", "thumbnail", "picture", "refusal"}
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
    """Hostile text in every field gives the same tags and the same attributes as harmless text."""
    harmless = Page(render_report(each_string(full(), lambda text: text + "x")))
    hostile_page = render_report(each_string(full(), lambda text: text + HOSTILE))
    hostile = Page(hostile_page)
    assert hostile.shape == harmless.shape
    assert "script" not in {tag for tag, _ in hostile.shape}
    assert "{{ 7 * 7 }}" in hostile.words()
    # Titles of charts and cells, which a browser shows and reads out, arrive as they were.
    assert f"semantic{HOSTILE}" in hostile.words()


@pytest.mark.parametrize("data", [full(), minimal()], ids=["full", "minimal"])
def test_nothing_is_asked_of_a_network(data: ReportData) -> None:
    text = render_report(data)
    page = Page(text)
    for tag, attributes in page.attributes:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    for word in ("http:", "https:", "//", "@import", "url("):
        assert word not in re.sub(r"data:image/png;base64,[\w+/=]+", "", text)
    policy = next(one for tag, one in page.attributes if one.get("http-equiv"))["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "script" not in policy


@pytest.mark.parametrize("data", [full(), minimal()], ids=["full", "minimal"])
def test_links_and_charts_are_accessible(data: ReportData) -> None:
    page = Page(render_report(data))
    ids = [one["id"] for _, one in page.attributes if "id" in one]
    assert len(ids) == len(set(ids))
    assert {str(one["href"])[1:] for tag, one in page.attributes if tag == "a"} == set(ids)
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
        "parameters 4.65 M", "multiply-adds an image 101 M", "images a second 312", "peak memory 700 MiB",
        "Difference from logistic", "Most frequent confusions", "test (unsound)", "3 (caution)",
        "ahm top @7c41", "dataset low @1f3a note", "chosen: 100", "img/1.png happy sad 99.1 0.4", "To compare.",
        "Of the last layer. t-SNE of five Points by true class", "neutral 1 0 happy 3 1 sad 0 0 surprise 1 1",
        "Heat is evidence. less more happy right 93% wrong sad 61% fear 30% sad right none wrong none",
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
    matrix = words[words.index("Each row holds") : words.index("Most frequent")]
    for row, one in zip(WEAK.confusion, WEAK.per_class, strict=True):
        cells = " ".join(f"{count} {whole_percent(count / one.support)}" for count in row)
        assert f"{cells} {one.support}" in matrix
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
        ("curves", (), "Lambda path"),
        ("scatter", None, "separates the classes"),
        ("looks", None, "Where"),
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
    for phrase in ("Predictors", "Difference", "chosen", "Use and limits", "Run it again"):
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
        with pytest.raises(ValueError, match="no PNG data URI"):
            GradCamTile(uri, "happy", 0.9)
    with pytest.raises(ValueError, match="5 points, 4 labels"):
        dataclasses.replace(SCATTER, labels=(0, 1, 1, 3))
    with pytest.raises(ValueError, match="nowhere"):
        dataclasses.replace(SCATTER, points=((0.0, math.nan), *SCATTER.points[1:]))
    with pytest.raises(ValueError, match="points of x"):
        Curve("c", "x", "y", (1.0, 2.0), (Series("s", (1.0,)),))
    with pytest.raises(ValueError, match="logarithmic"):
        Curve("c", "x", "y", (0.0, 2.0), (Series("s", (1.0, 2.0)),), log_x=True)


def test_every_colour_exists_in_both_themes() -> None:
    style = resources.files("fer_cli.reporting").joinpath("templates/style.css").read_text()
    light, dark = (
        set(re.findall(r"(--[\w-]+):", block)) for block in re.findall(r":root \{(.*?)\n\s*\}", style, re.S)[:2]
    )
    assert light == dark
    # Two more are set where they are used: a class's colour and a cell's share.
    assert set(re.findall(r"var\((--[\w-]+)\)", style)) == light | {"--c", "--p"}
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


def test_ticks_are_round_and_hold_the_data() -> None:
    assert nice_ticks(0.33, 0.462, 4) == [0.3, 0.35, 0.4, 0.45, 0.5]
    assert nice_ticks(0, 100, 5) == [0, 20, 40, 60, 80, 100]
    assert nice_ticks(3, 3)[0] < 3 < nice_ticks(3, 3)[-1]
    assert [tick_label(x) for x in (1e-4, 0.01, 1, 1000, 1e4, 2e5, 0)] == [
        "10⁻⁴",
        "0.01",
        "1",
        "1,000",
        "10⁴",
        "200,000",
        "0",
    ]


def test_line_chart_places_points() -> None:
    curve = full().curves[0]
    page = Page(str(line_chart(curve)))
    lines = [one["points"] for tag, one in page.attributes if tag == "polyline"]
    assert [len(str(points).split()) for points in lines] == [4, 3]  # NaN leaves a point out
    xs = [float(point.split(",")[0]) for point in str(lines[0]).split()]
    np.testing.assert_allclose(np.diff(xs), np.diff(xs)[0], atol=0.11)  # equal steps on a logarithmic axis
    ring = next(one for _, one in page.attributes if one.get("class") == "ring")
    assert [ring["cx"], ring["cy"]] == str(lines[0]).split()[2].split(",")
    assert "10⁴" in page.words()
    single = Curve("one", "epoch", "loss", (1.0,), (Series("s", (0.5,)),), percent=False)
    assert "nan" not in line_chart(single)


def test_reliability_chart_has_a_point_a_bin() -> None:
    page = Page(str(reliability_chart(WEAK.reliability, "a <title>")))
    held = [one for one in WEAK.reliability if one.count]
    dots = [one for _, one in page.attributes if one.get("class") == "dot"]
    assert len(dots) == len(held) == sum(1 for _, one in page.attributes if one.get("class") == "hist")
    heights = [float(str(one["cy"])) for one in dots]
    order = np.argsort([one.accuracy.value for one in held], kind="stable")
    assert np.all(np.diff(np.array(heights)[order]) <= 0.1)  # more accurate is higher up
    assert "a <title>" in page.words()


def test_what_cannot_be_shown_is_said_in_its_section() -> None:
    refusal = f"Nothing can be shown: <b>{HOSTILE}"
    text = render_report(full(looks=GradCamGrid(refusal=refusal), scatter=Scatter(refusal=f"{refusal}, 3 images.")))
    page = Page(text)
    assert f"Where the model looks {refusal}" in page.words()
    assert f"How the model separates the classes {refusal}, 3 images." in page.words()
    assert "script" not in {tag for tag, _ in page.shape}
    pictures = [one for tag, one in page.attributes if tag == "img"]
    assert [one["alt"] for one in pictures] == ["happy, taken for sad"]
    assert not [tag for tag, one in page.attributes if one.get("class") == "chart scatter"]


def marks(page: Page) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Return where a scatter's marks stand, by ring and fill."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for tag, one in page.attributes:
        if tag == "path":
            at = re.findall(r"M([\d.]+) ([\d.]+)m", str(one["d"]))
            found.setdefault((str(one["class"]), str(one["fill"])), []).extend((float(x), float(y)) for x, y in at)
    return found


def test_scatter_places_points_and_rings_wrong_answers() -> None:
    page = Page(str(scatter_chart(SCATTER)))
    happy, surprise, neutral = (class_colour(name) for name in ("happy", "surprise", "neutral"))
    found = marks(page)
    assert {key: len(at) for key, at in found.items()} == {
        **{("right", neutral): 1, ("right", happy): 2, ("wrong", happy): 1, ("wrong", surprise): 1}
    }
    # One scale for both axes, the second one upwards, all of it inside.
    (x0, y0), (x1, y1) = found["right", neutral][0], found["wrong", happy][0]
    assert x1 - x0 == pytest.approx(2 * (y0 - y1), abs=0.2)
    right = sorted(found["right", happy])
    np.testing.assert_allclose(right, [(x0 + (x1 - x0) / 4, y1), ((x0 + x1) / 2, (y0 + y1) / 2)], atol=0.2)
    box = [float(number) for number in str(page.attributes[0][1]["viewbox"]).split()]
    assert x0 > 6
    assert y1 > 6
    assert x1 < box[2] - 6
    assert y0 < box[3] - 6
    assert SCATTER.tally() == [("neutral", 1, 0), ("happy", 3, 1), ("sad", 0, 0), ("surprise", 1, 1)]
    one = dataclasses.replace(SCATTER, points=((1.0, 1.0),), labels=(0,), wrong=(True,))
    assert "nan" not in scatter_chart(one)
    names = tuple(f"class {k}" for k in range(8))
    every = Scatter(tuple((float(k), 0.0) for k in range(8)), tuple(range(8)), (False,) * 8, names)
    shapes = re.findall(r'd="M[\d.]+ [\d.]+(m[^"]+z)"', str(scatter_chart(every)))
    assert len(shapes) == len(set(shapes)) == 8, "a shape a class"


@pytest.mark.parametrize("colour", [False, True])
def test_a_thumbnail_is_grey_but_for_its_heat(colour: bool) -> None:
    image = np.full((30, 20, 3) if colour else (30, 20), 90, np.uint8)
    heat = np.zeros((40, 40), np.float32)
    heat[20:] = 1  # below
    shown = laid_over(image, heat, 60)
    assert shown.shape == (60, 40, 3)
    assert (shown[:28] == 90).all()
    below = shown[33:].astype(int)
    assert (below[..., 0] - below[..., 2]).min() > 80, "hot is yellow"
    line = (shown.min(axis=2) > 200).all(axis=1)
    assert line.sum() == 1, "one line, where half of the heat is"
    assert abs(int(np.flatnonzero(line)[0]) - 29) <= 1
    for flat in (0.0, HALF, 1.0):
        plain = laid_over(image, np.full((4, 4), flat, np.float32), 30)
        assert (plain == plain[0, 0]).all(), "no line where nothing lies on both sides"
    uri = heat_thumbnail(image, heat)
    kept = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert kept.size == (75, 112)
    difference = np.abs(np.asarray(kept.convert("RGB"), dtype=int) - laid_over(image, heat))
    assert difference.mean() < 2
