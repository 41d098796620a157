"""Plot ``hierarchy``: expression -> part of the face -> action unit, and the semantic vectors of AHM.

Left, each expression's weight of 1 flows through the parts of the face into action units; the width of a band is the
weight it carries, so an action unit that several expressions share is where bands of several colours meet. Right, on
the same rows, the semantic vectors: one column per expression, one row per path.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray

from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import AhmSummary
from fer_cli.core.progress import note
from fer_cli.plots.registry import Picture
from fer_cli.reporting.lettering import DOTS, LONGEST, fitted, measured
from fer_cli.reporting.style import WIDE, class_colour, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fer_cli.systems.ahm.hierarchy import Expression, Hierarchy, Part

_X_EXPRESSION: Final = 0.0
_X_PART: Final = 1.0
_X_UNIT: Final = 2.0
_BAR: Final = 0.035  # half the width of a node
_EXPRESSION: Final = 560  # dots of 1/200 inch, of an expression's name and what is below it
_PART: Final = 360
_UNIT: Final = 560
_GAP: Final = 0.35  # between nodes of a column, in rows of action units


def draw(
    store: Store,
    ahm: Annotated[
        str | None, typer.Argument(help="An ahm artifact, a TOML file, or 'default'. [default: the newest]")
    ] = None,
) -> Picture:
    """The tree of expression, face part and action unit with its weights."""
    from fer_cli.systems.ahm.hierarchy import default_hierarchy, load_hierarchy

    if ahm is not None and Path(ahm).suffix == ".toml":
        path = Path(ahm)
        return _picture(path.stem, load_hierarchy(path), hashlib.sha256(path.read_bytes()).hexdigest()[:12])
    if ahm is None and not store.directories(["ahm"]):
        note("no ahm artifact yet: this is the bundled hierarchy")
        ahm = "default"
    if ahm == "default":
        return _picture("default", default_hierarchy())
    artifact = store.find(ahm, ["ahm"])
    hierarchy = load_hierarchy(artifact.file("hierarchy.toml"))
    return _picture(artifact.name, hierarchy, artifact.version, AhmSummary.of(artifact).classes)


def _picture(name: str, hierarchy: Hierarchy, version: str = "", classes: tuple[str, ...] | None = None) -> Picture:
    figure = hierarchy_figure(hierarchy, classes)
    return Picture(name, figure, version, lambda inches: hierarchy_figure(hierarchy, classes, inches))


def hierarchy_figure(
    hierarchy: Hierarchy, classes: tuple[str, ...] | None = None, paper: float | None = None
) -> Figure:
    """Draw a hierarchy as flows of weight and as a table of semantic vectors.

    Args:
        hierarchy: checked.
        classes: the expressions to draw, in the table's order; all of the hierarchy's where left out.
        paper: inches of a paper's width: letters of 7 points, the weights in the table alone; of a column's width the
            flows alone.

    Returns:
        A matplotlib figure of 12 inches' width, or ``paper``'s, that no global state holds on to.
    """
    expressions = [e for e in hierarchy.expressions if classes is None or e.name in classes]
    weights = {e.name: hierarchy.path_weights(e) for e in expressions}
    # By their numbers: parts by their first action unit, so that few bands cross and a reader finds each.
    parts = sorted(hierarchy.parts, key=lambda part: min(_number(code) for code, _ in part.action_units))
    units = [
        (part, code, words)
        for part in parts
        for code, words in sorted(part.action_units, key=lambda unit: _number(unit[0]))
        if any((part.name, code) in vector for vector in weights.values())
    ]
    rows = len(units)
    size = 10.0 if paper is None else 7.0
    with styled():
        labels = [fitted(f"{code}  {words}", _UNIT * size / 10, size) for _, code, words in units]
        names = {expression.name: fitted(expression.name, _EXPRESSION, size) for expression in expressions}
        tables: list[Axes] = []
        if paper is None:
            figure = new_figure(12.0, 1.9 + 0.36 * rows)
            figure.set_layout_engine("constrained", w_pad=0.22, h_pad=0.16)
            flow, *tables = figure.subplots(1, 2, width_ratios=[1.75, 1.0])
        elif paper >= WIDE:
            figure = new_figure(paper, 0.75 + 0.19 * rows)
            figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02)
            flow, *tables = figure.subplots(1, 2, width_ratios=[1.2, 1.0])
        else:
            figure = new_figure(paper, 0.45 + 0.19 * rows)
            left, right = (
                max(measured(text, size) for text in side) / DOTS + 0.05 for side in (names.values(), labels)
            )
            flow = figure.add_axes((left / paper, 0, max(0.2, 1 - (left + right) / paper), 1))
        row = {(part.name, code): index for index, (part, code, _) in enumerate(units)}

        # Expressions from top to bottom by where their weight goes: bands cross no more than needed.
        centre = {name: sum(row[path] * weight for path, weight in vector.items()) for name, vector in weights.items()}
        order = sorted(weights, key=lambda name: centre[name])
        tops = _draw_flow(flow, parts, order, weights, row, size)
        for expression in expressions:
            if paper is None:
                _describe(flow, expression, tops[expression.name])
            else:
                middle, name = tops[expression.name], names[expression.name]
                flow.text(_X_EXPRESSION - 2 * _BAR, middle, name, ha="right", va="center", fontsize=size)
        flow.set_xlim(_X_EXPRESSION - (_BAR if paper else 0.98), _X_UNIT + _BAR + (0 if paper else 0.02))
        if not tables:
            for index, label in enumerate(labels):
                flow.text(_X_UNIT + 2 * _BAR, index, label, ha="left", va="center", fontsize=size)
        columns = order if classes is None else [name for name in classes if name in weights]
        for table in tables:
            _draw_table(table, columns, weights, row, labels, size, footnote=paper is None)
        for axes in (flow, *tables):
            axes.set_ylim(rows + 0.55, -2.1)
    return figure


def _draw_flow(
    axes: Axes,
    ordered: list[Part],
    order: list[str],
    weights: dict[str, dict[tuple[str, str], float]],
    row: dict[tuple[str, str], int],
    size: float,
) -> dict[str, float]:
    """Draw the flows with letters of ``size`` points; return the middle of each expression's node."""
    from matplotlib.patheffects import withStroke

    rows = len(row)
    parts = [part for part in ordered if any(part.name == name for name, _ in row)]
    carried = {
        part.name: sum(w for v in weights.values() for (p, _), w in v.items() if p == part.name) for part in parts
    }
    # One unit of weight has the same height in all three columns; action units have their rows to stay within.
    received = {path: sum(vector.get(path, 0.0) for vector in weights.values()) for path in row}
    height = min(
        (rows - _GAP * (len(order) + 1)) / len(order),
        (rows - _GAP * (len(parts) + 1)) / sum(carried.values()),
        0.8 / max(received.values()),
    )
    top = _stack([height] * len(order), rows)
    expression_at = dict(zip(order, top, strict=True))
    part_at = dict(zip(carried, _near_rows(row, carried, height, rows), strict=True))
    unit_at = {path: index - received[path] * height / 2 for path, index in row.items()}

    into_part, into_unit = dict(part_at), dict(unit_at)
    for name in order:
        colour = class_colour(name)
        leaving = expression_at[name]
        for part in parts:
            paths = [(path, w) for path, w in weights[name].items() if path[0] == part.name]
            weight = sum(w for _, w in paths)
            if weight == 0:
                continue
            thick = weight * height
            _band(axes, _X_EXPRESSION, leaving, _X_PART, into_part[part.name], thick, colour)
            within = into_part[part.name]
            for path, w in sorted(paths, key=lambda item: row[item[0]]):
                _band(axes, _X_PART, within, _X_UNIT, into_unit[path], w * height, colour)
                within += w * height
                into_unit[path] += w * height
            leaving += thick
            into_part[part.name] += thick
        _node(axes, _X_EXPRESSION, expression_at[name], height, colour)
    for part in parts:
        _node(axes, _X_PART, part_at[part.name], carried[part.name] * height, "#333333")
        axes.text(
            _X_PART,
            part_at[part.name] - 0.1,
            fitted(f"{part.name} ({part.code})", _PART, size),
            ha="center",
            va="bottom",
            fontsize=size,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    for path, start in unit_at.items():
        _node(axes, _X_UNIT, start, received[path] * height, "#333333")
    for x, title in ((_X_EXPRESSION, "expression"), (_X_PART, "part of the face"), (_X_UNIT, "action unit")):
        axes.text(x, -1.5, title, ha="center", va="center", fontsize=size, color="#555555", style="italic")
    axes.set_axis_off()
    return {name: at + height / 2 for name, at in expression_at.items()}


def _describe(axes: Axes, expression: Expression, middle: float) -> None:
    """Write an expression's name and, below it, its weights: of each part, then of the AUs within the part."""
    lines: list[str] = []
    for branch in expression.branches:
        several = len(branch.action_units) > 1
        units = "  ".join(
            f"{unit} {_digits(weight)}" if several else unit
            for unit, weight in zip(branch.action_units, branch.judgement.weights, strict=True)
        )
        part = f"{branch.part} {_digits(branch.weight)}" if len(expression.branches) > 1 else branch.part
        lines.append(f"{part}: {units}")
    line = 0.26  # the height of a small line, in rows
    top = middle - (0.38 + line * len(lines)) / 2
    x = _X_EXPRESSION - _BAR - 0.03
    axes.text(x, top, fitted(expression.name, _EXPRESSION, 11), ha="right", va="top", fontsize=11)
    for index, text in enumerate(lines):
        axes.text(
            x, top + 0.4 + line * index, fitted(text, _EXPRESSION, 8), ha="right", va="top", fontsize=8, color="#444444"
        )


def _draw_table(
    axes: Axes,
    columns: list[str],
    weights: dict[str, dict[tuple[str, str], float]],
    row: dict[tuple[str, str], int],
    labels: list[str],
    size: float,
    *,
    footnote: bool,
) -> None:
    values = np.zeros((len(row), len(columns)))
    for column, name in enumerate(columns):
        for path, weight in weights[name].items():
            values[row[path], column] = weight
    axes.imshow(np.ma.masked_equal(values, 0.0), cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if value > 0:
            shade = "white" if value > 0.55 else "black"
            axes.text(j, i, _digits(value), ha="center", va="center", fontsize=max(7.0, size - 1), color=shade)
    shared = (values > 0).sum(axis=1) > 1
    axes.set_yticks(range(len(row)), labels, fontsize=size)
    for label, bold in zip(axes.get_yticklabels(), shared, strict=True):
        label.set_fontweight("bold" if bold else "normal")
    axes.set_xticks([])
    axes.tick_params(length=0)
    for column, name in enumerate(columns):
        axes.text(
            column,
            -0.62,
            fitted(name, LONGEST, size),
            fontsize=size,
            rotation=40 if footnote else 90,
            ha="left" if footnote else "center",
            va="bottom",
            rotation_mode="anchor" if footnote else "default",
        )
    axes.hlines(np.arange(-0.5, len(row)), -0.5, len(columns) - 0.5, colors="#DDDDDD", linewidth=0.6)
    axes.vlines(np.arange(-0.5, len(columns)), -0.5, len(row) - 0.5, colors="#DDDDDD", linewidth=0.6)
    axes.set_xlim(-0.53, len(columns) - 0.47)
    if footnote:
        axes.text(
            (len(columns) - 1) / 2,
            len(row) - 0.3,
            "semantic vectors: weight of the part × weight of the AU;\nbold: shared by several expressions",
            ha="center",
            va="top",
            fontsize=9,
            color="#555555",
        )
    for side in axes.spines.values():
        side.set_visible(False)


def _stack(heights: list[float], rows: int) -> list[float]:
    """Return the tops of nodes of these heights, spread evenly over the rows."""
    gap = (rows - sum(heights)) / len(heights)
    starts: list[float] = []
    at = -0.5 + gap / 2
    for height in heights:
        starts.append(at)
        at += height + gap
    return starts


def _near_rows(row: dict[tuple[str, str], int], carried: dict[str, float], height: float, rows: int) -> list[float]:
    """Return the tops of the parts' nodes: next to their action units, moved apart where they would touch."""
    gap = 2.2 * _GAP  # room for the part's name
    heights = [weight * height for weight in carried.values()]
    starts: list[float] = []
    least = -np.inf
    for part, tall in zip(carried, heights, strict=True):
        middle = float(np.mean([index for (name, _), index in row.items() if name == part]))
        starts.append(max(middle - tall / 2, least))
        least = starts[-1] + tall + gap
    # What was pushed beyond the last row is pushed back up, from the bottom.
    limit = rows - 0.5
    for index in reversed(range(len(starts))):
        starts[index] = min(starts[index], limit - heights[index])
        limit = starts[index] - gap
    return starts


def _band(axes: Axes, x0: float, y0: float, x1: float, y1: float, thick: float, colour: str) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    x0, x1 = x0 + _BAR, x1 - _BAR
    middle = (x0 + x1) / 2
    corners: NDArray[np.float64] = np.array(
        [
            (x0, y0),
            (middle, y0),
            (middle, y1),
            (x1, y1),
            (x1, y1 + thick),
            (middle, y1 + thick),
            (middle, y0 + thick),
            (x0, y0 + thick),
            (x0, y0),
        ]
    )
    curve = [Outline.CURVE4] * 3
    codes = [Outline.MOVETO, *curve, Outline.LINETO, *curve, Outline.CLOSEPOLY]
    axes.add_patch(PathPatch(Outline(corners, codes), facecolor=colour, edgecolor=colour, linewidth=0.4, alpha=0.62))


def _node(axes: Axes, x: float, top: float, height: float, colour: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x - _BAR, top), 2 * _BAR, height, facecolor=colour, edgecolor="none"))


def _number(code: str) -> float:
    """Return the number of an action unit; what has none comes last."""
    digits = "".join(filter(str.isdecimal, code))
    return int(digits) if digits else np.inf


def _digits(weight: float) -> str:
    return "1" if weight > 0.995 else f"{weight:.2f}".lstrip("0")
