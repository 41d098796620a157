"""The trials of a search: what was tried, what it gave, and the schedule of a shorter training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import ValidationError

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.sections import Record
from fer_cli.artifacts.summaries import SelectedScores
from fer_cli.core.errors import FerError

if TYPE_CHECKING:
    from fer_cli.training.recipe import Recipe

TRIALS: Final = "trials.json"
ETA: Final = 3
"""Of so many trials of a round of successive halving one goes on to the next, of as many times the epochs."""


class Trial(Record):
    """A training of a search.

    ``number`` is that of its settings, from 0, and ``round`` that of the trainings of equal length, from 0. ``values``
    are the settings as TOML. A trial that ``diverged`` has no scores and no model, and ``fault`` says why.
    """

    number: int
    round: int
    epochs: int
    values: dict[str, str]
    state: Literal["trained", "diverged"]
    scores: SelectedScores | None = None
    epoch: int | None = None
    model: str | None = None
    fault: str | None = None

    def score(self, metric: str) -> float | None:
        """Return what trials are compared by; None where it diverged."""
        if self.scores is None:
            return None
        return float(getattr(self.scores, "validation_loss" if metric == "loss" else metric))

    def rank(self, metric: str) -> tuple[float, ...]:
        """Return what the best trial has least of: that of the longest round first, then the score, then the number."""
        score = self.score(metric)
        if score is None:
            return (math.inf, math.inf, self.number)
        return (-self.round, score if metric == "loss" else -score, self.number)


class Trials(Record):
    """The whole of ``trials.json``: in the order in which they were trained."""

    trials: tuple[Trial, ...]


def read_trials(artifact: Artifact) -> tuple[Trial, ...]:
    """Return the trials of a search.

    Raises:
        FerError: the file does not have this form.
    """
    path = artifact.file(TRIALS)
    try:
        return Trials.model_validate_json(path.read_bytes()).trials
    except ValidationError as error:
        hint = "check it with 'fer verify', make the search again with --force"
        raise FerError("not the trials of a search", hint=hint, path=path) from error


def leaderboard(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """Return the last training of each of the settings, the best first."""
    last = {trial.number: trial for trial in sorted(trials, key=lambda trial: trial.round)}
    return sorted(last.values(), key=lambda trial: trial.rank(metric))


@dataclass(frozen=True, slots=True)
class Tie:
    """Trials of a round with one score, of which only some could be taken: those with the lowest numbers were."""

    round: int
    is_last_round: bool
    score: float
    trials: tuple[int, ...]
    taken: tuple[int, ...]


def ties(trials: Sequence[Trial], metric: str) -> list[Tie]:
    """Return where a search had to choose among equals: the best of its last round, or who goes on to the next."""
    last = max(trial.round for trial in trials)
    found = []
    for number in range(last + 1):
        ranked = sorted((one for one in trials if one.round == number), key=lambda one: one.rank(metric))
        kept = 1 if number == last else sum(one.round == number + 1 for one in trials)
        edge = ranked[kept - 1].score(metric)
        equal = tuple(one.number for one in ranked if one.score(metric) == edge)
        taken = tuple(one.number for one in ranked[:kept] if one.number in equal)
        if edge is not None and len(taken) < len(equal):
            found.append(Tie(number, number == last, edge, equal, taken))
    return found


def metric_of(monitor: str) -> str:
    """Return what trials are compared by: the recipe's monitor, and accuracy where the last epoch is kept."""
    return "accuracy" if monitor == "last" else monitor


def rounds(trials: int, epochs: int) -> tuple[int, ...]:
    """Return the epochs of each round of successive halving (Jamieson & Talwalkar 2016), the last one in full.

    As many rounds as trials and epochs allow, each with a third of the trials and three times the epochs.
    """
    number = 0
    while ETA ** (number + 1) <= min(trials, epochs):
        number += 1
    return tuple(max(1, round(epochs / ETA**left)) for left in range(number, -1, -1))


def shortened(recipe: Recipe, epochs: int) -> Recipe:
    """Return a recipe whose whole schedule takes so many epochs: all that is counted in epochs keeps its share."""
    share = epochs / recipe.train.epochs
    if share == 1:
        return recipe

    def scaled(number: int) -> int:
        return max(1, round(number * share))

    waits = recipe.train.early_stopping
    train: dict[str, Any] = {"epochs": epochs, "early_stopping": None if waits is None else scaled(waits)}
    schedule: dict[str, Any] = {
        "warmup": recipe.schedule.warmup * share,
        "epochs": tuple(sorted({scaled(epoch) for epoch in recipe.schedule.epochs})),
        "patience": scaled(recipe.schedule.patience),
    }
    return recipe.model_copy(
        update={
            "train": recipe.train.model_copy(update=train),
            "schedule": recipe.schedule.model_copy(update=schedule),
            "about": recipe.about.model_copy(update={"measured": None}),
        }
    )
