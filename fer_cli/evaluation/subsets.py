"""Which of the scored images get numbers of their own: the dataset's subgroups, and what was surely not trained on."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from fer_cli.core.format import estimate
from fer_cli.evaluation.copies import trained_on, trained_on_before
from fer_cli.evaluation.predictor import Predictor, Rows
from fer_cli.metrics import Metrics

UNSEEN: Final = "not equal to any training image"
ANSWERED: Final = "with an answer"


def subsets_of(predictor: Predictor, rows: Rows) -> dict[str, Rows]:
    """Return the subsets by name, in order; positions among ``rows``.

    One is there where it leaves something out and holds something. Subgroups are those that the source names
    (RAF-DB: gender, race, age), each by ``name=value``; an image whose value is not known is in none of them. Where a
    file of predictions has no answer for some images, the others are one.

    Args:
        predictor: what is scored.
        rows: (n,) of its dataset.
    """
    subsets: dict[str, Rows] = {}
    if predictor.training_record is not None:
        seen = [trained_on(predictor, rows).all]
        seen += [trained_on_before(predictor, rows, one.record).all for one in predictor.ancestors if one.record]
        subsets[UNSEEN] = np.setdiff1d(np.arange(len(rows)), np.concatenate(seen))
    if predictor.unanswered is not None:
        subsets[ANSWERED] = np.flatnonzero(~predictor.no_answer(rows))
    for name, of_all in predictor.dataset.subgroups.items():
        values = of_all[rows]
        known = sorted({str(value) for value in values if value}, key=_by_number)
        subsets |= {f"{name}={value}": np.flatnonzero(values == value) for value in known}
    return {name: positions for name, positions in subsets.items() if 0 < len(positions) < len(rows)}


def _by_number(value: str) -> tuple[int, str]:
    """Order ages as ages: 4-19 comes before 20-39."""
    number = re.match(r"\d+", value)
    return (int(number[0]) if number else 0), value


def unseen_caution(subsets: dict[str, Metrics], whole: Metrics) -> str | None:
    """Return what the number is without the images that were trained on, one sentence without a full stop."""
    if (rest := subsets.get(UNSEEN)) is None:
        return None
    shown = ", ".join(
        f"{metric} {estimate(one.value, one.low, one.high)}"
        for metric, one in (
            ("accuracy", rest.accuracy),
            ("balanced", rest.balanced_accuracy),
            ("macro F1", rest.macro_f1),
        )
    )
    return f"Without the {whole.n - rest.n:,} images equal to a training image ({rest.n:,} are left): {shown}"
