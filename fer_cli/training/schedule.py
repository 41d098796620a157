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

    def saw(self, loss: float, how: Schedule) -> None:
        """Lower the rate when the loss has not fallen for ``patience`` epochs."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited >= how.patience:
            self.factor, self.waited = max(self.factor * how.factor, how.min_lr_ratio), 0


def rate_factor(how: Schedule, *, step: int, steps: int, epochs: int, plateau: Plateau) -> float:
    """Return what ``optim.lr`` is multiplied by.

    Args:
        how: the schedule.
        step: counted from 0 over the whole training.
        steps: in an epoch.
        epochs: of the training.
        plateau: its state.
    """
    warm = how.warmup * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    if how.name == "cosine":
        done = (step - warm) / max(1.0, epochs * steps - warm)
        return how.min_lr_ratio + (1 - how.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if how.name == "steps":
        epoch = step // steps  # whole epochs that are over
        return float(how.factor ** sum(epoch >= fall for fall in how.epochs))
    return plateau.factor if how.name == "plateau" else 1.0
