"""The learning rate at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fer_cli.training.recipe import Schedule


@dataclass(slots=True)
class Plateau:
    """The state of a schedule that looks at the validation loss; the others need none."""

    best: float = math.inf
    waited: int = 0
    factor: float = 1.0

    def update(self, loss: float, schedule: Schedule) -> None:
        """Lower the rate when the loss has not fallen for ``patience`` epochs."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited >= schedule.patience:
            self.factor, self.waited = max(self.factor * schedule.factor, schedule.min_lr_ratio), 0


def rate_factor(schedule: Schedule, *, step: int, steps: int, epochs: int, plateau: Plateau) -> float:
    """Return what ``optim.lr`` is multiplied by.

    Args:
        schedule: of the recipe.
        step: counted from 0 over the whole training.
        steps: in an epoch.
        epochs: of the training.
        plateau: its state.
    """
    warmup = schedule.warmup * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule.name == "cosine":
        done = (step - warmup) / max(1.0, epochs * steps - warmup)
        return schedule.min_lr_ratio + (1 - schedule.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if schedule.name == "steps":
        epoch = step // steps  # whole epochs that are over
        return float(schedule.factor ** sum(epoch >= fall for fall in schedule.epochs))
    return plateau.factor if schedule.name == "plateau" else 1.0
