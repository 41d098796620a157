"""The picture of the hierarchy: what it says, that its words do not collide, and that nothing global is touched."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from fer_cli.core.labels import EXPRESSIONS
from fer_cli.plots.hierarchy import hierarchy_figure
from fer_cli.systems.ahm.hierarchy import Hierarchy, default_hierarchy, parse_hierarchy


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return default_hierarchy()


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    return found + [label.get_text() for label in figure.axes[1].get_yticklabels()]


def test_says_every_expression_part_unit_and_weight(hierarchy: Hierarchy) -> None:
    said = texts(hierarchy_figure(hierarchy))
    for expression in hierarchy.expressions:
        assert said.count(expression.name) == 2, "once in the tree, once above the table"
    for part in hierarchy.parts:
        assert f"{part.name} ({part.code})" in said
        for code, words in part.action_units:
            assert f"{code}  {words}" in said
    assert "eyes .64: AU5 .83  AU7 .17" in said
    assert "mouth: AU14" in said
    cells = [text for text in said if text.replace(".", "").isdigit()]
    assert len(cells) == sum(len(b.action_units) for e in hierarchy.expressions for b in e.branches)
    assert ".53" in cells


def test_action_units_are_in_the_order_of_their_numbers(hierarchy: Hierarchy) -> None:
    labels = [label.get_text() for label in hierarchy_figure(hierarchy).axes[1].get_yticklabels()]
    numbers = [int(label.split()[0].removeprefix("AU")) for label in labels]
    assert numbers == sorted(numbers)
    assert len(numbers) > 10


def test_bands_carry_the_weights(hierarchy: Hierarchy) -> None:
    flow = hierarchy_figure(hierarchy).axes[0]
    bands = [patch for patch in flow.patches if isinstance(patch, PathPatch)]
    thickness = [float(np.ptp(np.asarray(band.get_path().vertices)[[0, 7], 1])) for band in bands]
    branches = [branch.weight for e in hierarchy.expressions for branch in e.branches]
    paths = [weight for e in hierarchy.expressions for weight in hierarchy.path_weights(e).values()]
    scale = max(thickness)
    assert sorted(np.round(np.array(thickness) / scale, 9)) == pytest.approx(sorted([*branches, *paths]), abs=1e-8)


@pytest.mark.parametrize("classes", [None, EXPRESSIONS[:7], ("happy", "fear")])
def test_no_text_lies_on_another_or_leaves_the_page(hierarchy: Hierarchy, classes: tuple[str, ...] | None) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = hierarchy_figure(hierarchy, classes)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    labels = [*figure.axes[0].texts, *figure.axes[1].texts, *figure.axes[1].get_yticklabels()]
    # Slanted names have boxes that overlap where their letters do not.
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in labels if t.get_text() and not t.get_rotation()]
    page = figure.bbox
    for index, (name, box) in enumerate(boxes):
        room = 0.1 * figure.dpi  # inches: no text touches the page's edge
        assert page.x0 + room <= box.x0 < box.x1 <= page.x1 - room, name
        assert page.y0 + room <= box.y0 < box.y1 <= page.y1 - room, name
        for other, taken in boxes[:index]:
            wide = min(box.x1, taken.x1) - max(box.x0, taken.x0)
            high = min(box.y1, taken.y1) - max(box.y0, taken.y0)
            # Lines of one block may touch: a line's box includes room above and below its letters.
            assert wide <= 0 or high <= 0.35 * min(box.height, taken.height), (name, other)


def test_draws_the_classes_asked_for_in_their_order(hierarchy: Hierarchy) -> None:
    figure = hierarchy_figure(hierarchy, ("sad", "happy"))
    said = texts(figure)
    assert "fear" not in said
    assert "AU9  nose wrinkler" not in said
    header = [text.get_text() for text in figure.axes[1].texts if text.get_rotation()]
    assert header == ["sad", "happy"]


def test_words_of_a_users_file_start_no_formula(hierarchy: Hierarchy) -> None:
    text = hierarchy.text.replace("cheek raiser", r"$\\frac{$ <script>").replace('code = "C3"', 'code = "$x_$"')
    figure = hierarchy_figure(parse_hierarchy(text, "h.toml"))
    out = io.BytesIO()
    figure.savefig(out, format="svg")
    assert b"<script>" not in out.getvalue()


def test_no_global_figure_is_kept(hierarchy: Hierarchy) -> None:
    hierarchy_figure(hierarchy)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
