"""Scores over the classes that a predictor and a dataset have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.errors import FerError

RULE: Final = "probabilities of the classes in common, divided by their sum; images of other classes are left out"


@dataclass(frozen=True, slots=True)
class InCommon:
    """The classes in common, in the dataset's order, and those of either side that are left out."""

    classes: tuple[str, ...]
    of_predictor: tuple[str, ...]  # the dataset lacks them
    of_dataset: tuple[str, ...]  # the predictor does not know them


def in_common(known: Sequence[str], wanted: Sequence[str], reference: str) -> InCommon:
    """Compare the classes of a predictor with those of a dataset.

    Args:
        known: the predictor's.
        wanted: the dataset's.
        reference: of the predictor, for the error.

    Raises:
        FerError: fewer than two are in common: there is nothing to tell apart.
    """
    classes = tuple(name for name in wanted if name in known)
    if len(classes) < 2:
        raise FerError(
            f"{reference} knows {', '.join(known)} and the dataset has {', '.join(wanted)}: "
            f"{'no class' if not classes else 'only one class'} is in common",
            hint="two classes in common are needed to tell anything apart",
        )
    return InCommon(
        classes,
        tuple(name for name in known if name not in wanted),
        tuple(name for name in wanted if name not in known),
    )


def over_common(
    probabilities: NDArray[np.float64], known: Sequence[str], classes: Sequence[str]
) -> tuple[NDArray[np.float64], int]:
    """Return probabilities over the classes in common, by name, and how many rows had none of theirs there.

    Such a row says nothing of these classes and becomes equal over them.

    Args:
        probabilities: (n, K), columns in the order of ``known``.
        known: K names.
        classes: C of them.

    Returns:
        (n, C), rows that sum to 1, and the number of rows that had summed to 0.
    """
    if tuple(known) == tuple(classes):
        return probabilities, 0
    taken = probabilities[:, [list(known).index(name) for name in classes]]
    if len(known) == len(classes):  # the same classes in another order: nothing is left out
        return taken, 0
    sums = taken.sum(axis=1, keepdims=True)
    silent = sums[:, 0] <= 0
    shares = np.divide(taken, sums, out=np.full_like(taken, 1 / len(classes)), where=~silent[:, None])
    return shares, int(silent.sum())
