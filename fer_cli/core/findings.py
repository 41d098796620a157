"""Findings: what a check looked at, what it measured, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

Verdict = Literal["pass", "caution", "fail", "cannot be told", "not measured"]
"""``cannot be told``: it was looked for, and what is known of the images does not decide. ``not measured``: it was not.
"""


class Check(StrEnum):
    """The checks of a model, of an evaluation and of a dataset; the value is what a person reads."""

    CLASS_NAMES = "class names"
    PREPROCESSING = "preprocessing"
    TRAINING_IDS = "training ids"
    TRAINING_IMAGES = "training images"
    STARTING_WEIGHTS = "starting weights"
    FILE_LABELS = "labels in the file"
    SHARED_SUBJECTS = "shared subjects"
    SELECTION = "selection"
    BATCH_INVARIANCE = "batch invariance"
    REPEATABILITY = "repeatability"
    RECORDED_SCORE = "recorded score"
    EXACT_COPIES = "exact copies"
    EXACT_COPIES_ACROSS_SPLITS = "exact copies across splits"
    EXACT_COPIES_ACROSS_FOLDS = "exact copies across folds"
    LABELS_OF_EXACT_COPIES = "labels of exact copies"
    NEAR_COPIES = "near copies"
    NEAR_COPIES_ACROSS_SPLITS = "near copies across splits"
    NEAR_COPIES_ACROSS_FOLDS = "near copies across folds"
    LABELS_OF_NEAR_COPIES = "labels of near copies"
    SUBJECTS = "subjects"
    SUBJECTS_ACROSS_FOLDS = "subjects across folds"
    SEQUENCES = "sequences"
    SEQUENCES_ACROSS_FOLDS = "sequences across folds"
    NON_FACES = "non-faces"
    CLASS_BALANCE = "class balance"
    OFFICIAL_COUNTS = "official counts"


@dataclass(frozen=True, slots=True)
class Case:
    """Images, as rows of the dataset's index, that are a fault together. ``likeness`` is 1 for equal pixels."""

    rows: tuple[int, ...]
    likeness: float | None = None
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. ``measured`` and ``advice`` are phrases without a full stop; what passed needs no advice.

    ``check`` is a :class:`Check`, or, where the machine is examined, the name of what was looked for. ``count`` is the
    number of faults, and ``cases`` are these, the worst first, where they are things to count.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    check: str
    verdict: Verdict
    measured: str
    advice: str = ""
    count: int | None = None
    cases: tuple[Case, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, without what is not set and without the cases."""
        value: dict[str, Any] = _ADAPTER.dump_python(self, mode="json", exclude_none=True, exclude={"cases"})
        return value


_ADAPTER = TypeAdapter(Finding)


def failed(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that fail."""
    return [finding for finding in findings if finding.verdict == "fail"]
