"""Plot ``trials``: what the trials of a search scored on validation, by each of the keys that it varied."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import SearchConfig
from fer_cli.plots.registry import Picture
from fer_cli.reporting.lettering import DOTS, fitted
from fer_cli.reporting.style import GRID, HEADING, INK, LINES, MUTED, bare, heading, new_figure, styled
from fer_cli.training.trials import Trial, leaderboard, read_trials

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PER_ROW: Final = 3
_WIDE: Final = 2.5  # inches, a panel
_NARROW: Final = 1.5
"""Inches that a panel of a paper's figure has at least."""
_HIGH: Final = 2.1
_BESIDE: Final = 0.06
"""Inches between the middles of trials of equal value and score."""
_TICKS: Final = 4  # of an axis, at most


def draw(
    store: Store,
    search: Annotated[str | None, typer.Argument(help="The search. [default: the newest]")] = None,
) -> Picture:
    """What the trials of a search scored on validation, a panel for each key that it varied."""
    artifact = store.find(search, ["search"])
    config = SearchConfig.of(artifact)
    trials = leaderboard(read_trials(artifact), config.metric)
    diverged = sum(trial.state == "diverged" for trial in trials)
    subtitle = f"{config.method}, {len(trials)} {'trial' if len(trials) == 1 else 'trials'}"
    subtitle += f", {diverged} diverged (crosses at the edge)" if diverged else ""
    subtitle += "; hollow: fewer epochs" if len(config.epochs) > 1 else ""
    logarithmic = {
        key for key, values in config.space.items() if values.startswith("log:") or _spans_decades(trials, key)
    }
    figure = trials_figure(trials, config.metric, logarithmic, f"Trials of {artifact.name}", subtitle)

    def paper(inches: float) -> Figure:
        return trials_figure(trials, config.metric, logarithmic, paper=inches)

    return Picture(artifact.name, figure, artifact.version, paper)


def trials_figure(
    trials: Sequence[Trial],
    metric: str,
    logarithmic: Collection[str] = (),
    title: str = "",
    subtitle: str = "",
    paper: float | None = None,
) -> Figure:
    """Draw the validation score of trials by the value of each key; the best one is filled and named.

    A key that some trials do not have (that of another loss) has those out of its panel. Trials of earlier rounds of
    successive halving are drawn hollow and small: they were trained for fewer epochs.

    Args:
        trials: the last training of each of the settings, the best first.
        metric: what they were compared by: ``loss``, or a share of which more is better.
        logarithmic: the keys whose axis is.
        title: one line.
        subtitle: one line under it.
        paper: inches of a paper's width, in which there are as many panels side by side as have room.

    Raises:
        ValueError: no trial has a score.
    """
    if not trials or trials[0].score(metric) is None:
        raise ValueError("no trial has a score")
    keys = list(dict.fromkeys(key for trial in trials for key in trial.values))
    left, gap, top, between, bottom = 0.75, 0.3, 0.55 + (HEADING if title else 0), 0.85, 0.95 if paper is None else 0.55
    per_row = _PER_ROW if paper is None else max(1, int((paper - left) / (_NARROW + gap)))
    columns, rows = min(len(keys), per_row), math.ceil(len(keys) / per_row)
    wide = _WIDE if paper is None else (paper - left - 0.1) / columns - gap * (columns - 1) / columns
    with styled():
        figure = new_figure(
            max(left + columns * wide + (columns - 1) * gap + 0.25, 5.2) if paper is None else paper,
            top + rows * _HIGH + (rows - 1) * between + bottom,
        )
        width, height = figure.get_size_inches()
        for number, key in enumerate(keys):
            row, column = divmod(number, per_row)
            x, y = left + column * (wide + gap), top + (row + 1) * _HIGH + row * between
            axes = figure.add_axes((x / width, 1 - y / height, wide / width, _HIGH / height))
            _panel(axes, key, trials, metric, logarithmic=key in logarithmic)
            if column:
                axes.tick_params(labelleft=False)
        words = "Validation loss" if metric == "loss" else f"Validation {metric.replace('_', ' ')}, %"
        figure.text(0.28 / width, 1 - (top - 0.3) / height, words, fontweight="bold")
        if paper is None:  # there the caption says it
            told = "Best: " + ", ".join(f"{key} = {value}" for key, value in trials[0].values.items())
            figure.text(0.28 / width, 0.22 / height, fitted(told, DOTS * (width - 0.5), 8.5), fontsize=8.5)
        heading(figure, title, subtitle)
    return figure


def _panel(axes: Axes, key: str, trials: Sequence[Trial], metric: str, *, logarithmic: bool) -> None:
    """Draw one key; all panels have the same height axis."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
    from matplotlib.transforms import ScaledTranslation

    factor = 1 if metric == "loss" else 100
    scores = [factor * score for trial in trials if (score := trial.score(metric)) is not None]
    margin = 0.08 * (max(scores) - min(scores)) or 0.5
    bottom, top = min(scores) - margin, max(scores) + margin
    worst = top if metric == "loss" else bottom
    held = [(trial, tomllib.loads(f"value = {trial.values[key]}")["value"]) for trial in trials if key in trial.values]
    values = [value for _, value in held]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    names = [] if numbers else list(dict.fromkeys(trial.values[key].strip('"') for trial, _ in held))
    if numbers and logarithmic:
        axes.set_xscale("log")
        ticks = _log_ticks(min(values), max(values))
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(min(values) / 1.25, max(values) * 1.25)
    elif numbers:
        room = 0.08 * (max(values) - min(values)) or 0.5
        axes.set_xlim(min(values) - room, max(values) + room)
        axes.xaxis.set_major_locator(MaxNLocator(_TICKS, steps=[1, 2, 5, 10]))
    last = max(trial.round for trial in trials)
    taken: Counter[tuple[float, float]] = Counter()
    axes.grid(visible=True, color=GRID, linewidth=0.6, zorder=0)
    for trial, value in reversed(held):  # the best on top
        at = value if numbers else names.index(trial.values[key].strip('"')) + _aside(trial.number)
        score = trial.score(metric)
        place = (at, worst if score is None else score)
        beside = ScaledTranslation(_BESIDE * taken[place], 0, axes.figure.dpi_scale_trans)
        taken[place] += 1
        move: dict[str, Any] = {"transform": axes.transData + beside}
        if score is None:
            axes.plot(at, worst, "x", color=MUTED, markersize=6, clip_on=False, zorder=3, **move)
        elif trial is trials[0]:
            axes.plot(at, factor * score, "o", color=LINES[1], markersize=8, markeredgecolor=INK, zorder=5, **move)
        else:
            full = trial.round == last
            look: dict[str, Any] = {"markersize": 5.5} if full else {"markersize": 4, "markerfacecolor": "white"}
            axes.plot(at, factor * score, "o", color=LINES[0], zorder=4, **look, **move)
    axes.set_ylim(bottom, top)
    if names:
        room = DOTS * _WIDE / len(names)
        axes.set_xticks(range(len(names)), [fitted(name, room, 8) for name in names], fontsize=8)
        axes.set_xlim(-0.5, len(names) - 0.5)
    axes.tick_params(labelsize=8, pad=6)
    axes.set_xlabel(fitted(key, DOTS * _WIDE, 9), fontsize=9)
    bare(axes)


def _log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers from low to high: 1, 2 and 5 of each decade, or fewer where there are too many."""
    for steps in ((1, 2, 5), (1, 3), (1,)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        held = [tick for tick in ticks if low * 0.9 <= tick <= high * 1.1]
        if len(held) <= _TICKS:
            return held
    return held[:: math.ceil(len(held) / _TICKS)]


def _aside(number: int) -> float:
    """Return how far beside the middle of its column a trial stands: equal scores do not hide each other."""
    return ((number * 0.618) % 1 - 0.5) * 0.3


def _spans_decades(trials: Sequence[Trial], key: str) -> bool:
    """Tell whether a key's values are numbers above 0 of which the greatest is ten times the least, or more."""
    values = [tomllib.loads(f"value = {trial.values[key]}")["value"] for trial in trials if key in trial.values]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == len(values) > 0 and min(numbers) > 0 and max(numbers) >= 10 * min(numbers)
