"""Stage ``audit`` of a model: every check of :mod:`fer_cli.evaluation.sanity_checks`, and those that cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.store import Store
from fer_cli.core import machine
from fer_cli.core.errors import CheckFailedError
from fer_cli.core.findings import Check, Finding, Verdict, failed
from fer_cli.core.progress import note
from fer_cli.evaluation.leakage import leaks, selection, shared, starting_weights
from fer_cli.evaluation.predictor import Predictor, Rows, TrainingRecord
from fer_cli.evaluation.sanity_checks import (
    class_names,
    measure_batch_invariance,
    preprocessing,
    training_mode,
    worst_of,
)
from fer_cli.stages.evaluate import open_for_scoring, split_of
from fer_cli.systems.ahm.network import ahm_network

if TYPE_CHECKING:
    from fer_cli.models.trained import TrainedModel

KINDS: Final = ("ahm", "model", "study", "ensemble")
IMAGES: Final = 256
"""Images that are run alone, shuffled and class by class."""
SIZES: Final = (8, 32, 128)
"""Of the batches that they are run in."""
_WORST_FIRST: Final[tuple[Verdict, ...]] = ("fail", "caution", "cannot be told", "not measured", "pass")
TOLERANCE: Final = 0.01
"""By how much an accuracy may differ from the recorded one: bfloat16 and kept float16 maps move a few images."""


@dataclass(frozen=True, slots=True)
class ModelAudit:
    """What an audit found. ``images`` are those of the split that is scored, ``run`` those that were run many times."""

    artifact: Artifact
    dataset: Artifact
    split: str
    images: int
    run: int
    findings: tuple[Finding, ...]

    @property
    def is_sound(self) -> bool:
        """Whether no check failed."""
        return not failed(self.findings)

    def check(self) -> None:
        """Raise what ends the command where a check failed.

        Raises:
            CheckFailedError: it names the checks that failed, and what to do about the first.
        """
        if bad := failed(self.findings):
            what = "; ".join(f"{one.check}: {one.measured}" for one in bad)
            raise CheckFailedError(f"{self.artifact.reference} is not sound: {what}", hint=bad[0].advice)

    def to_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints, beside the schema and the command."""
        return {
            "artifact": self.artifact.to_json(),
            "dataset": self.dataset.to_json(),
            "split": self.split,
            "images": self.images,
            "images_run_again": self.run,
            "sound": self.is_sound,
            "findings": [finding.to_json() for finding in self.findings],
        }


def audit_model(
    *,
    store: Store,
    model: str | None = None,
    data: str | None = None,
    split: str | None = None,
    device: str = "auto",
) -> ModelAudit:
    """Look for what makes the number of a model on a split unsound.

    Args:
        store: where artifacts are.
        model: reference of an ahm artifact, a model, a study or an ensemble; the newest where it is None.
        data: reference of the dataset that is scored; the one that the model was trained on where it is None.
        split: of that; test where it is None, else validation.
        device: of a deep model: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        FerError: a reference or a split is not there. What is found is no error here: see :meth:`ModelAudit.check`.
    """
    artifact = store.find(model, KINDS)
    on = None if data is None else store.find(data, ["dataset"])
    own = open_for_scoring(store, artifact, device, None)
    predictor = own if on is None else open_for_scoring(store, artifact, device, None, on)
    scored_split = split_of(split, predictor.dataset.artifact, predictor.dataset.split_names)
    rows = predictor.dataset.rows(scored_split)
    note(f"auditing {artifact.reference} on the {scored_split} split of {predictor.dataset.artifact.reference}")
    by_fold, run = [], 0
    for part, (scoring, places) in zip(own.parts or (own,), predictor.by_part(rows), strict=True):
        networks = _networks(store, part, artifact, device)
        by_fold.append(
            (
                *_answers(part, networks),
                preprocessing(scoring, _training_record(part)),
                *_batch_invariance(scoring, rows[places], networks),
            )
        )
        run += min(IMAGES, len(places)) if networks else 0
    of_networks = _of_all(by_fold)
    of_images = (
        *leaks(predictor, rows),
        *shared(predictor, rows),
        selection(predictor, rows, scored_split),
        *starting_weights(predictor, rows),
    )
    first = [one for one in of_networks if one.check not in {Check.BATCH_INVARIANCE, Check.REPEATABILITY}]
    findings = (*first, *of_images, *of_networks[len(first) :])
    return ModelAudit(artifact, predictor.dataset.artifact, scored_split, len(rows), run, findings)


def _networks(store: Store, own: Predictor, artifact: Artifact, device: str) -> dict[str, TrainedModel]:
    if networks := own.networks():
        return dict(networks)
    machine.tune_allocator()
    network = ahm_network(store, artifact, machine.device_name(device))
    return {} if network is None else {own.chosen: network}


def _training_record(own: Predictor) -> TrainingRecord:
    assert own.training_record is not None
    return own.training_record


def _answers(own: Predictor, opened: dict[str, TrainedModel]) -> Iterator[Finding]:
    """Yield what the answers to the images say that selected a model."""
    if any(training_mode(model) for model in opened.values()):
        return  # what it answers now is nothing to compare with
    record = _training_record(own)
    rows = own.dataset.rows(record.select_on)
    probabilities, _ = own.probabilities(rows, "none")
    yield class_names(own, record, rows, [probabilities[name] for name in own.runs(own.chosen)])
    yield _recorded(own, record, rows, probabilities)


def _batch_invariance(predictor: Predictor, rows: Rows, opened: dict[str, TrainedModel]) -> tuple[Finding, ...]:
    if opened:
        return worst_of(
            measure_batch_invariance(opened, predictor.dataset, rows, number=IMAGES, sizes=SIZES, sort=True)
        )
    why = "the backbone's weights are not on this machine"
    advice = "bring them back and audit again ('fer weights ls' says what is here)"
    return tuple(Finding(check, "not measured", why, advice) for check in (Check.BATCH_INVARIANCE, Check.REPEATABILITY))


def _of_all(each: Sequence[tuple[Finding, ...]]) -> list[Finding]:
    """Return of each check the worst over the folds, which it names; where there are none, what was found."""
    if len(each) == 1:
        return list(each[0])
    found: dict[str, list[tuple[int, Finding]]] = {}
    for fold, findings in enumerate(each):
        for one in findings:
            found.setdefault(one.check, []).append((fold, one))
    told = []
    for of in found.values():
        fold, worst = min(of, key=lambda pair: _WORST_FIRST.index(pair[1].verdict))
        alike = sum(one.verdict == worst.verdict for _, one in of)
        where = f"{alike} of {len(each)} folds, the first is {fold}"
        if alike == len(each):
            where = f"all {alike} folds alike; fold {fold}"
        told.append(replace(worst, measured=f"{where}: {worst.measured}"))
    return told


def _recorded(
    own: Predictor, record: TrainingRecord, rows: Rows, probabilities: dict[str, NDArray[np.float64]]
) -> Finding:
    """Compare the accuracy on the split that the model was selected on with the one that it recorded."""
    if not record.accuracy:
        what = f"of the {record.select_on} split, on which a network was selected, no score is recorded"
        return Finding(Check.RECORDED_SCORE, "not measured", what, "take members that were selected on validation")
    true = own.dataset.labels[rows]
    now = {name: float((probabilities[name].argmax(axis=1) == true).mean()) for name in record.accuracy}
    name = max(now, key=lambda one: abs(now[one] - record.accuracy[one]))
    then, what = record.accuracy[name], f"{name}: accuracy on {record.select_on}"
    if abs(now[name] - then) <= max(TOLERANCE, 2 / len(rows)):
        return Finding(Check.RECORDED_SCORE, "pass", f"{what} {now[name]:.1%}, recorded {then:.1%}")
    return Finding(
        Check.RECORDED_SCORE,
        "fail",
        f"{what} {now[name]:.1%}, recorded {then:.1%}: weights, class names or preprocessing are not what was selected",
        "bring back the artifact as it was made, or train it again",
    )
