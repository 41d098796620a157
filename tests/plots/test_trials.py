"""Trials of a search as a picture: each where its value and its score are, those without a score at the edge."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.lines import Line2D

from fer_cli.artifacts.summaries import SelectedScores
from fer_cli.plots.trials import trials_figure
from fer_cli.training.trials import Trial, leaderboard


def trial(number: int, accuracy: float | None, *, round_: int = 0, **values: str) -> Trial:
    scores = None if accuracy is None else SelectedScores(**dict.fromkeys(SelectedScores.model_fields, accuracy))
    settings = {key.replace("__", "."): value for key, value in values.items()}
    ended = Trial(number=number, round=round_, epochs=1, values=settings, state="trained", scores=scores)
    return ended if scores else ended.model_copy(update={"state": "diverged"})


def point(line: Line2D) -> tuple[float, float]:
    x, y = np.asarray(line.get_xydata())[0]
    return float(x), round(float(y), 6)


TRIALS = [
    trial(0, 0.5, optim__lr="0.001", loss__name='"focal"', loss__gamma="2.0"),
    trial(1, 0.7, optim__lr="0.01", loss__name='"cross-entropy"'),
    trial(2, None, optim__lr="0.1", loss__name='"focal"', loss__gamma="1.0"),
    trial(3, 0.9, optim__lr="0.02", loss__name='"focal"', loss__gamma="3.0"),
]


def test_each_trial_is_where_its_value_and_its_score_are() -> None:
    rates, losses, gammas = trials_figure(leaderboard(TRIALS, "accuracy"), "accuracy", {"optim.lr"}).axes
    assert [axes.get_xlabel() for axes in (rates, losses, gammas)] == ["optim.lr", "loss.name", "loss.gamma"]
    assert (rates.get_xscale(), gammas.get_xscale()) == ("log", "linear")
    drawn = {point(line) for line in rates.lines}
    edge = round(rates.get_ylim()[0], 6)
    assert drawn == {(0.001, 50.0), (0.01, 70.0), (0.1, edge), (0.02, 90.0)}
    assert edge < 50
    [best] = [line for line in rates.lines if line.get_markersize() == 8]
    assert point(best) == (0.02, 90)
    assert len(gammas.lines) == 3, "cross-entropy has no gamma"
    assert [label.get_text() for label in losses.get_xticklabels()] == ["focal", "cross-entropy"]


def test_of_a_loss_less_is_better_and_short_trainings_are_hollow() -> None:
    ended = trial(1, 0.2, round_=1, optim__lr="0.01")
    figure = trials_figure(leaderboard([TRIALS[0], ended, TRIALS[2]], "loss"), "loss")
    rates = figure.axes[0]
    [worst] = [line for line in rates.lines if line.get_marker() == "x"]
    assert point(worst)[1] == round(rates.get_ylim()[1], 6) > 0.5
    [hollow] = [line for line in rates.lines if line.get_markerfacecolor() == "white"]
    assert point(hollow) == (0.001, 0.5)


def test_nothing_is_drawn_of_trials_without_a_score() -> None:
    with pytest.raises(ValueError, match="no trial has a score"):
        trials_figure([TRIALS[2]], "accuracy")


def test_equal_trials_lie_side_by_side_and_a_column_of_a_paper_has_one_panel_a_row() -> None:
    twins = [trial(number, 0.5, optim__lr="0.001", train__batch="8") for number in (0, 1)]
    rates, batches = trials_figure(leaderboard(twins, "accuracy"), "accuracy", {"optim.lr"}, paper=3.4).axes
    places = [line.get_transform().transform(np.asarray(line.get_xydata()))[0] for line in rates.lines]
    assert abs(places[0][0] - places[1][0]) > 3
    assert rates.get_position().x0 == batches.get_position().x0
    assert rates.get_position().y0 > batches.get_position().y1
    assert rates.get_xlim()[0] < 0.001 < rates.get_xlim()[1]
