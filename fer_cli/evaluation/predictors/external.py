"""Scoring anybody's predictions: a file of ids with labels or scores, on a dataset of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import DatasetProtocol, PredictionsFile, Tta
from fer_cli.artifacts.source_files import files_input
from fer_cli.artifacts.summaries import Measured, Output
from fer_cli.core.errors import UsageError
from fer_cli.core.findings import Check, Finding
from fer_cli.core.labels import EXPRESSIONS, in_order, name_reader
from fer_cli.datasets.dataset import Dataset, open_dataset, over_classes
from fer_cli.datasets.folder import safe_name
from fer_cli.evaluation.common_classes import in_common, over_common
from fer_cli.evaluation.cross_dataset import EvaluationTarget, classes_in_common, left_out
from fer_cli.evaluation.external_predictions import ExternalPredictions, in_order_of, read_predictions
from fer_cli.evaluation.predictor import NO_ANSWER, Origin, Predictor, ReportExtras, Rows, Tables

PREDICTIONS: Final = "predictions"


@dataclass(kw_only=True)
class ExternalPredictor(Predictor):
    """Predictions that are made already: ``shares`` (n, C), and at ``place`` (N,) the row of each image, or -1."""

    shares: NDArray[np.float64]
    place: NDArray[np.int64]

    def probabilities(self, rows: Rows, tta: Tta) -> tuple[Tables, Measured]:
        """Return what the file holds of these rows.

        Raises:
            UsageError: a test-time augmentation is asked for.
        """
        if tta != "none":
            raise UsageError("--tta is for models", hint="leave it out: these predictions are made")
        return {PREDICTIONS: self.shares[self.place[rows]]}, Measured()

    def report_extras(self, measured: Measured) -> ReportExtras:
        """Return the file's name and form: nothing else is known."""
        del measured
        assert self.predictions is not None
        subtitle = f"predictions of {self.predictions.file}, as {self.predictions.form}"
        return ReportExtras(subtitle=subtitle, notes={}, cost=None, figures=(), commands=())


def external_predictor(path: Path, data: Artifact, split: str, answer: str | None = None) -> ExternalPredictor:
    """Open a file of predictions on one split of a dataset.

    Labels are scored over the dataset's classes and those that the file names: an answer that no image has is wrong.
    Scores are scored over the classes in common: images of the others are left out. Where an image has no answer,
    :data:`NO_ANSWER` is one more class, which no image is of: such images are wrong.

    Args:
        path: a csv, Parquet or JSON file, see :mod:`fer_cli.evaluation.external_predictions`.
        data: the dataset.
        split: its split; the file must hold its ids, all of them and no others.
        answer: the column of the answers; found by its name where it is None.

    Raises:
        FerError: the file is at fault, with its line.
    """
    full = open_dataset(data)
    file = read_predictions(path, answer, full.classes)
    rows = full.rows(split)
    elsewhere = {str(name): str(of) for name, of in zip(full.ids, full.splits, strict=True) if of != split}
    ids = [str(name) for name in full.ids[rows]]
    place = np.full(len(full.ids), -1, dtype=np.int64)
    place[rows] = in_order_of(file, ids, f"the {split} split of {data.reference}", elsewhere)
    target, shares = _labels_target(full, file) if file.probabilities is None else _scores_target(full, file, path)
    unanswered = None
    if file.unanswered.any():
        target, shares = _with_no_answer(target, shares, file.unanswered)
        unanswered = np.zeros(len(full.ids), dtype=np.bool_)
        unanswered[rows] = file.unanswered[place[rows]]
    source = files_input(path.name, {PREDICTIONS: path})
    return ExternalPredictor(
        origin=Origin(
            artifact=None,
            source=source,
            name=f"{PREDICTIONS}-{safe_name(path.name.partition('.')[0])[:40].rstrip('._-') or 'file'}",
            title=PREDICTIONS,
            reference=str(path),
            command=("--predictions", str(path), *(() if answer is None else ("--answer", answer))),
        ),
        target=target,
        outputs={PREDICTIONS: Output(kind="file")},
        chosen=PREDICTIONS,
        calibrated=file.probabilities is not None,
        predictions=PredictionsFile(
            file=path.name,
            content=source.content,
            form=file.form,
            answer=file.answer,
            answer_by_default=file.by_default,
            rounded=file.rounded,
            ties=file.ties,
            unanswered=0 if unanswered is None else int(unanswered[target.dataset.rows(split)].sum()),
        ),
        cautions=(
            "Predictions from a file: what they were trained and selected on is unknown",
            *target.cautions,
            *_other_answers(full, file, rows, place[rows]),
        ),
        findings=(_truth(full, file, rows, place[rows]),),
        unanswered=unanswered,
        shares=shares,
        place=place,
    )


def _labels_target(full: Dataset, file: ExternalPredictions) -> tuple[EvaluationTarget, NDArray[np.float64]]:
    """Return the dataset over its own classes and those that only the file names, and a 1 for each label (n, C)."""
    extra = [name for name in file.classes if name not in full.classes]
    dataset = over_classes(full, _with_extra(full.classes, extra))
    index = {name: number for number, name in enumerate(dataset.classes)}
    cautions = (f"Answers of {', '.join(extra)}, which {full.artifact.name} lacks, count as wrong",) if extra else ()
    data = DatasetProtocol.of(full.artifact).model_copy(update={"classes": dataset.classes})
    shares = np.full((len(file.ids), len(index)), 1 / len(index))
    shares[~file.unanswered] = np.eye(len(index))[[index[name] for name in file.predicted if name]]
    return EvaluationTarget(dataset, data, cautions=cautions), shares


def _with_extra(classes: tuple[str, ...], extra: Sequence[str]) -> tuple[str, ...]:
    """Return classes and others: canonical names in their order, and own names as they are, the others behind."""
    every_known = all(name in EXPRESSIONS for name in classes)
    return (in_order([*classes, *extra]) if every_known else (*classes, *in_order(extra))) if extra else classes


def _scores_target(
    full: Dataset, file: ExternalPredictions, path: Path
) -> tuple[EvaluationTarget, NDArray[np.float64]]:
    """Return the dataset over the classes in common, and the probabilities over these (n, C)."""
    assert file.probabilities is not None
    common = in_common(file.classes, full.classes, path.name)
    dataset = over_classes(full, common.classes)
    shares, silent = over_common(file.probabilities, file.classes, dataset.classes)
    cautions = left_out(common, full)
    if silent:
        cautions = (*cautions, f"{silent:,} rows give nothing to the classes in common: taken as equal over them")
    data = DatasetProtocol.of(full.artifact).model_copy(update={"classes": dataset.classes})
    return EvaluationTarget(dataset, data, None, classes_in_common(common, full), cautions), shares


def _with_no_answer(
    target: EvaluationTarget, shares: NDArray[np.float64], unanswered: NDArray[np.bool_]
) -> tuple[EvaluationTarget, NDArray[np.float64]]:
    """Return the target and the shares (n, C + 1) with one more class, which has all of the rows without an answer."""
    classes = (*target.dataset.classes, NO_ANSWER)
    wide = np.column_stack([np.where(unanswered[:, None], 0.0, shares), unanswered.astype(np.float64)])
    dataset = over_classes(target.dataset, classes)
    return replace(target, dataset=dataset, data=target.data.model_copy(update={"classes": classes})), wide


def _truth(full: Dataset, file: ExternalPredictions, rows: Rows, place: NDArray[np.int64]) -> Finding:
    """Hold the labels that stand in the file against the dataset's.

    Codes are taken for the class that most of their images have: what is left then contradicts whatever they stand for.

    Args:
        full: the dataset.
        file: the predictions.
        rows: (n,) of the split.
        place: (n,) the row of the file of each.
    """
    labels = [full.classes[label] for label in full.labels[rows]]
    unlike, compared, unclear = dict[str, list[int]](), dict[str, int](), list[str]()
    for title, cells in file.truths.items():
        given = [cells[at] for at in place]
        names = _meanings(given, labels, name_reader(full.classes))
        if names is None:
            unclear.append(title)
            continue
        there = [at for at, text in enumerate(given) if text]
        compared[title] = len(there)
        unlike[title] = [at for at in there if names[given[at]] != labels[at]]
        if title in file.either and unlike[title] and _are_answers(file, given, place, names):
            del compared[title], unlike[title]  # the classes of the largest scores, no labels
    for title, faults in unlike.items():
        if faults:
            first = faults[0]
            return Finding(
                Check.FILE_LABELS,
                "fail",
                f"column {title!r} contradicts the labels of {full.artifact.name} for {len(faults):,} of "
                f"{compared[title]:,} images, the first in {file.line_word} {file.lines[place[first]]:,}: "
                f"{file.truths[title][place[first]][:40]!r}, in the dataset {labels[first]!r}",
                "the ids were joined to the wrong rows, or the file is of another labelling: join them again by id",
                count=len(faults),
            )
    if unclear:
        return Finding(
            Check.FILE_LABELS,
            "caution",
            f"column {', '.join(unclear)} holds no labels that can be compared with the dataset's",
            "write the labels as names of expressions, or remove the column",
        )
    answers = [(name, labels[at]) for at, name in enumerate(file.predicted[row] for row in place) if name]
    if file.by_default and all(name == label for name, label in answers):
        return Finding(
            Check.FILE_LABELS,
            "caution",
            f"column {file.answer!r}, taken for the answer as no other can be, is the label of every image",
            "if it is the truth, add the predictions; if it is the answer, say so with --answer",
        )
    if not compared:
        return Finding(Check.FILE_LABELS, "not measured", "the file holds no labels to compare with the dataset's")
    counts = ", ".join(f"{title!r} of {count:,} images" for title, count in compared.items())
    return Finding(Check.FILE_LABELS, "pass", f"as in the dataset: {counts}")


def _are_answers(
    file: ExternalPredictions, given: Sequence[str], place: NDArray[np.int64], names: dict[str, str]
) -> bool:
    """Tell whether the cells of a column are what the scores of the file say, in each row that has both."""
    return all(names[text] == file.predicted[row] for text, row in zip(given, place, strict=True) if text)


def _other_answers(full: Dataset, file: ExternalPredictions, rows: Rows, place: NDArray[np.int64]) -> list[str]:
    """Return a caution for each column of classes beside the scores that is neither their answer nor the truth."""
    cautions = []
    read = name_reader(full.classes)
    for title, cells in file.unread.items():
        pairs = [(read(cells[at]), row, at) for row, at in zip(rows, place, strict=True) if cells[at]]
        named = [(name, row, at) for name, row, at in pairs if name is not None]
        is_truth = all(name == full.classes[full.labels[row]] for name, row, _ in named)
        if not is_truth and any(name != file.predicted[at] for name, _, at in named):
            cautions.append(
                f"Column {title!r} holds other answers than the scores, which alone are scored; if they are the "
                f"answers, give --answer {title!r}"
            )
    return cautions


def _meanings(given: Sequence[str], labels: Sequence[str], read: Callable[[str], str | None]) -> dict[str, str] | None:
    """Return what each label of a file stands for; None where they are neither names nor a number for each class."""
    values = {text for text in given if text}
    names = {text: name for text in values if (name := read(text)) is not None}
    if len(names) == len(values) and names:
        return names
    if names or not all(text.isdecimal() for text in values) or not 1 < len(values) <= len(set(labels)):
        return None
    votes = {text: Counter[str]() for text in values}
    for text, label in zip(given, labels, strict=True):
        if text:
            votes[text][label] += 1
    return {text: count.most_common(1)[0][0] for text, count in votes.items()}
