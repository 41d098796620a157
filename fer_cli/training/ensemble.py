"""Ensembles: which models answer together, by which weights, and how sure their mean is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.sections import Record
from fer_cli.core.errors import FerError

ENSEMBLE: Final = "ensemble.json"
_STEPS: Final = 2000
_SMALLEST: Final = 1e-12
"""Change of the weights below which they are found."""


class Member(Record):
    """A model or a study of an ensemble: its name as an output, and the temperatures of its networks in their order."""

    kind: Literal["model", "study"]
    name: str
    version: str
    content: str
    output: str
    weight: float = Field(ge=0, le=1)
    temperatures: tuple[float, ...] = Field(min_length=1)


class Ensemble(Record):
    """The whole of ``ensemble.json``. ``temperature`` is what the logarithms of the members' mean are divided by."""

    members: tuple[Member, ...] = Field(min_length=2)
    temperature: float = Field(gt=0)


def read_ensemble(artifact: Artifact) -> Ensemble:
    """Return which models an ensemble is of.

    Raises:
        FerError: the file does not have this form.
    """
    path = artifact.file(ENSEMBLE)
    try:
        return Ensemble.model_validate_json(path.read_bytes())
    except ValidationError as error:
        hint = "check it with 'fer verify', make the ensemble again with --force"
        raise FerError("not the members of an ensemble", hint=hint, path=path) from error


def mixed(tables: Sequence[NDArray[np.float64]], weights: Sequence[float], temperature: float) -> NDArray[np.float64]:
    """Return the weighted mean of probabilities, each (n, C), made as sure as the temperature says.

    Args:
        tables: of the members, calibrated.
        weights: theirs, which sum to 1.
        temperature: p becomes proportional to p ** (1 / temperature): the order of the classes stays.
    """
    logits = log_mean(tables, weights) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares


def log_mean(tables: Sequence[NDArray[np.float64]], weights: Sequence[float]) -> NDArray[np.float64]:
    """Return the logarithms (n, C) of the weighted mean of probabilities, each (n, C)."""
    mean = np.tensordot(np.asarray(weights), np.asarray(tables), axes=1)
    logits: NDArray[np.float64] = np.log(np.maximum(mean, np.finfo(np.float64).tiny))
    return logits


def fitted_weights(tables: Sequence[NDArray[np.float64]], true: NDArray[np.int64]) -> tuple[float, ...]:
    """Return the weights of the mean with the least cross-entropy: they are not negative and sum to 1.

    The loss is convex in the weights, and the steps of expectation maximisation for a mixture of known parts (Dempster,
    Laird & Rubin 1977, section 4.3) lower it from equal weights on.

    Args:
        tables: probabilities of each member, (n, C).
        true: (n,) the classes.
    """
    likelihood = np.maximum([table[np.arange(len(true)), true] for table in tables], np.finfo(np.float64).tiny)
    weights = np.full(len(tables), 1 / len(tables))
    for _ in range(_STEPS):
        shares = weights[:, None] * likelihood
        better = (shares / shares.sum(0)).mean(1)
        moved = np.abs(better - weights).max()
        weights = better / better.sum()
        if moved < _SMALLEST:
            break
    return tuple(weights.tolist())
