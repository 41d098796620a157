"""Scores of somebody's predictions, as people write them: probabilities, percentages or logits, rounded or not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import scipy.special
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.evaluation.prediction_columns import ColumnValues, Form, is_no_answer, text_of
from fer_cli.metrics.values import SUM_TOLERANCE

_THOUSANDS: Final = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
"""A number whose comma may stand between thousands."""


class Scores:
    """Scores (n, C), all NaN in rows without an answer, as probabilities by the rule in this module's docstring.

    ``form`` is what they were; ``rounded``: they sum to 1 no more closely than their rounding lets them.

    Raises:
        FerError: they are neither probabilities nor logits.
    """

    def __init__(
        self,
        path: Path,
        lines: Sequence[int],
        table: NDArray[np.float64],
        declared: Form | None,
        unknown: Sequence[ColumnValues],
    ) -> None:
        self.path, self.lines = path, lines
        self.rounded = False
        empty = np.isnan(table).all(axis=1)
        # Of scores that are not logits, a row of zeros says that there is none.
        zero = ~empty & (table == 0).all(axis=1) & (declared != "logits") & (not (table < 0).any())
        self.unanswered: NDArray[np.bool_] = empty | zero
        answered = table[~self.unanswered]
        if not len(answered):
            raise FerError("no row has scores", hint="check the columns", path=path)
        self.form, scale = self._form(answered, declared, unknown)
        self.probabilities = np.full(table.shape, 1 / table.shape[1])
        if self.form == "logits":
            self.probabilities[~self.unanswered] = scipy.special.softmax(answered, axis=1)
        elif not self.rounded:
            self.probabilities[~self.unanswered] = answered / scale
        else:
            self.probabilities[~self.unanswered] = answered / answered.sum(axis=1, keepdims=True)

    def _form(
        self, answered: NDArray[np.float64], declared: Form | None, unknown: Sequence[ColumnValues]
    ) -> tuple[Form, float]:
        """Return what the scores of the answered rows are, and what each row of them sums to."""
        rows = np.flatnonzero(~self.unanswered)
        sums, positive = answered.sum(axis=1), (answered >= 0).all(axis=1)
        forms: list[tuple[Form, float]] = [("probabilities", 1.0), ("percentages", 100.0)]
        rounding = _rounding(answered)
        for form, scale in forms:
            near = positive & (np.abs(sums / scale - 1) <= np.maximum(SUM_TOLERANCE, np.minimum(rounding / scale, 0.5)))
            if declared != "logits" and near.mean() >= 0.5:
                if not near.all():
                    raise self._no_probabilities(answered, rows, near, scale, unknown)
                self.rounded = bool((np.abs(sums / scale - 1) > SUM_TOLERANCE).any())
                return form, scale
        sound = positive & (np.abs(sums - 1) <= SUM_TOLERANCE)
        if declared == "probabilities":
            raise self._no_probabilities(answered, rows, sound, 1.0, unknown)
        if declared is None and not (answered < 0).any():
            row = int(np.argmin(sound))
            raise FerError(
                f"scores are neither probabilities (they sum to {sums[row]:.4g}) nor, none being negative, logits",
                hint=_class_left_out(unknown)
                or "give probabilities that sum to 1, or name the columns logit_happy, logit_sad ... if they are so",
                path=self.path,
                line=self.lines[int(rows[row])],
            )
        if declared is None and (hint := _class_left_out(unknown)):
            raise FerError("not every column of scores may be known", hint=hint, path=self.path, line=1)
        return "logits", 1.0

    def _no_probabilities(
        self,
        answered: NDArray[np.float64],
        rows: NDArray[np.intp],
        sound: NDArray[np.bool_],
        scale: float,
        unknown: Sequence[ColumnValues],
    ) -> FerError:
        row, count = int(np.argmin(sound)), int((~sound).sum())
        more = f" (and {count - 1:,} more such rows)" if count > 1 else ""
        return FerError(
            f"scores that sum to {answered[row].sum():.4g}, the smallest {answered[row].min():.4g}, are no "
            f"probabilities{more}",
            hint=_class_left_out(unknown)
            or f"they must be non-negative and sum to {scale:g}; name the columns logit_ if they are logits",
            path=self.path,
            line=self.lines[int(rows[row])],
        )

    def decided(self, classes: tuple[str, ...], names: Sequence[str]) -> tuple[tuple[str, ...], int]:
        """Return each row's class, and how many rows have several largest scores and no name to decide.

        Args:
            classes: C of them.
            names: (n,) the answers of the file; none where it has scores alone.

        Raises:
            FerError: an answer is not that of the largest score.
        """
        table = self.probabilities
        largest = table.max(axis=1)
        several = ((table == largest[:, None]).sum(axis=1) > 1) & ~self.unanswered
        for row, name in enumerate(names):
            index = classes.index(name) if name in classes else None
            if self.unanswered[row]:
                if not name:
                    continue
                other = "there are no scores"
            elif index is not None and table[row, index] == largest[row]:
                # One of several largest: the answer says which of them is meant.
                table[row, index] = np.nextafter(largest[row], np.inf)
                several[row] = False
                continue
            else:
                other = f"the largest score is that of {classes[int(table[row].argmax())]}"
            raise FerError(
                f"predicted is {name or 'none'}, but {other}",
                hint="leave out the column or the scores: which of them is meant, fer cannot know; --answer COLUMN "
                "scores that column alone",
                path=self.path,
                line=self.lines[row],
            )
        best = table.argmax(axis=1)
        predicted = tuple(
            "" if none else classes[index] for none, index in zip(self.unanswered, best.tolist(), strict=True)
        )
        return predicted, int(several.sum())


class ScoreCells:
    """The numbers in the cells of scores, with a point or a comma before their decimals.

    Args:
        path: the file.
        wanted: each class with the place of its column.
    """

    def __init__(self, path: Path, wanted: Sequence[tuple[str, int]]) -> None:
        self._path, self._wanted = path, wanted
        self._unclear: tuple[int, str] | None = None  # the first line and cell such as 1,234
        self._decimals = False  # a comma stands before decimals for certain

    def row(self, line: int, cells: Sequence[object]) -> list[float]:
        """Return the scores of a row, all NaN where it has none of them.

        Raises:
            FerError: one of them is no finite number.
        """
        if all(is_no_answer(text_of(cells[place])) for _, place in self._wanted):
            return [np.nan] * len(self._wanted)
        return [self._number(line, name, cells[place]) for name, place in self._wanted]

    def check(self) -> None:
        """Refuse commas that may stand before decimals or between thousands: in the whole file nothing tells.

        Raises:
            FerError: there are such.
        """
        if self._unclear is not None and not self._decimals:
            line, cell = self._unclear
            raise FerError(
                f"the score {cell!r} may be {cell.replace(',', '.')} or {cell.replace(',', '')}",
                hint="write decimals with a point, and thousands without a comma",
                path=self._path,
                line=line,
            )

    def _number(self, line: int, name: str, cell: object) -> float:
        if isinstance(cell, str):
            cell = cell.removesuffix("%").strip()
            if "," in cell and "." not in cell:  # 0,25, as spreadsheets write it in many countries
                if _THOUSANDS.fullmatch(cell) is None:
                    self._decimals = True
                elif self._unclear is None:
                    self._unclear = line, cell
                cell = cell.replace(",", ".")
        try:
            number = float(cell) if isinstance(cell, str | float | int) and not isinstance(cell, bool) else float("nan")
        except (ValueError, OverflowError):
            number = float("nan")
        if not np.isfinite(number):
            raise FerError(
                f"the score of {name} is {str(cell)[:40]!r}, no finite number",
                hint="correct the row, or leave all its scores empty where there is no answer",
                path=self._path,
                line=line,
            )
        return number


def _class_left_out(unknown: Sequence[ColumnValues]) -> str:
    """Return what to do about columns that may be scores of a class; empty where there is none."""
    titles = [values.title for values in unknown if values.may_be_score]
    if not titles:
        return ""
    return f"is {', '.join(titles)[:120]} the score of a class? Name it by its expression, else remove the column"


def _rounding(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the sum of each row of scores (n, C) may be off because the scores were rounded.

    They were where all of the file have at most four decimals, or two or three significant digits.
    """
    for digits in range(5):
        if np.allclose(np.round(table, digits), table, rtol=0, atol=1e-9):
            return np.full(len(table), table.shape[1] * 0.5 * 10.0**-digits + 1e-9)
    magnitude = np.floor(np.log10(np.abs(table), out=np.zeros_like(table), where=table != 0))
    for digits in (2, 3):
        unit = 10.0 ** (magnitude - digits + 1)
        if np.allclose(np.round(table / unit) * unit, table, rtol=1e-9, atol=0):
            rounding: NDArray[np.float64] = np.where(table == 0, 0, 0.5 * unit).sum(axis=1) + 1e-9
            return rounding
    return np.zeros(len(table))
