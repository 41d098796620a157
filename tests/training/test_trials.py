"""Trials of a search: where it had to choose among equals."""

from __future__ import annotations

from typing import Literal

import pytest

from fer_cli.artifacts.summaries import SelectedScores
from fer_cli.training.trials import Tie, Trial, ties


def trial(number: int, accuracy: float | None, round: int = 0) -> Trial:
    values = dict.fromkeys(SelectedScores.model_fields, accuracy or 0.0)
    scores = None if accuracy is None else SelectedScores(**values)
    state: Literal["trained", "diverged"] = "diverged" if accuracy is None else "trained"
    return Trial(number=number, round=round, epochs=1, values={}, state=state, scores=scores)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.5, 0.7, 0.6], []),
        ([0.5, 0.7, 0.7], [Tie(0, True, 0.7, (1, 2), (1,))]),
        ([0.5, 0.5, 0.7], []),  # equals that nobody had to choose among
        ([None, 0.7, 0.7], [Tie(0, True, 0.7, (1, 2), (1,))]),
        ([None, None], []),
    ],
)
def test_the_best_of_equals_is_told(scores: list[float | None], expected: list[Tie]) -> None:
    assert ties([trial(number, score) for number, score in enumerate(scores)], "accuracy") == expected


def test_who_goes_on_among_equals_is_told() -> None:
    first = [trial(number, score) for number, score in enumerate([0.5, 0.6, 0.9, 0.6, 0.6, 0.1])]
    last = [trial(number, score, round=1) for number, score in ((2, 0.8), (1, 0.7))]
    assert ties([*first, *last], "accuracy") == [Tie(0, False, 0.6, (1, 3, 4), (1,))]
    assert ties([*first, *last[:1]], "accuracy") == []
