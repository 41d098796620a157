"""Stage ``audit`` of a model: every check of :mod:`fer_cli.evaluation.sanity_checks`, and those that cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.store import Artifact, Store
from fer_cli.core import machine
from fer_cli.core.errors import CheckFailedError
from fer_cli.core.progress import note
from fer_cli.evaluation.findings import Finding, Verdict, failed
from fer_cli.evaluation.leakage import leaks, persons, selection
from fer_cli.evaluation.predictor import Predictor, Rows, TrainingRecord
from fer_cli.evaluation.predictors.opening import default_split, open_predictor
from fer_cli.evaluation.sanity_checks import (
    ALONE,
    TWICE,
    measure_batch_invariance,
    names,
    preprocessing,
    training_mode,
    worst_of,
)
from fer_cli.systems.ahm.network import ahm_network

if TYPE_CHECKING:
    from fer_cli.models.trained import TrainedModel

KINDS: Final = ("ahm", "model", "study")
RECORDED: Final = "recorded score"
IMAGES: Final = 256
"""Images that are run alone, shuffled and class by class."""
SIZES: Final = (8, 32, 128)
"""Of the batches that they are run in."""
_WORST_FIRST: Final[tuple[Verdict, ...]] = ("fail", "caution", "not measured", "pass")
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
        model: reference of an ahm artifact, a model or a study; the newest where it is None.
        data: reference of the data set that is scored; the one that the model learned from where it is None.
        split: of that; test where it is None, else validation.
        device: of a deep model: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        FerError: a reference or a split is not there. What is found is no error here: see :meth:`ModelAudit.check`.
    """
    artifact = store.find(model, KINDS)
    on = None if data is None else store.find(data, ["dataset"])
    own = open_predictor(store, artifact, device, None)
    subject = own if on is None else open_predictor(store, artifact, device, None, on)
    split = split or default_split(subject.dataset.split_names)
    rows = subject.dataset.rows(split)
    note(f"auditing {artifact.reference} on the {split} split of {subject.dataset.artifact.reference}")
    each, run = [], 0
    for one, (scoring, places) in zip(own.parts or (own,), subject.parted(rows), strict=True):
        opened = _networks(store, one, artifact, device)
        each.append(
            (*_answers(one, opened), preprocessing(scoring, _learned(one)), *_steadiness(scoring, rows[places], opened))
        )
        run += min(IMAGES, len(places)) if opened else 0
    found = _of_all(each)
    told = (*leaks(subject, rows), *persons(subject, rows), selection(subject, rows, split))
    order = [one for one in found if one.check not in {ALONE, TWICE}]
    return ModelAudit(artifact, subject.dataset.artifact, split, len(rows), run, (*order, *told, *found[len(order) :]))


def _networks(store: Store, own: Predictor, artifact: Artifact, device: str) -> dict[str, TrainedModel]:
    if own.networks is not None:
        return dict(own.networks())
    machine.tune_allocator()
    network = ahm_network(store, artifact, machine.device_name(device))
    return {} if network is None else {own.chosen: network}


def _learned(own: Predictor) -> TrainingRecord:
    assert own.learned is not None
    return own.learned


def _answers(own: Predictor, opened: dict[str, TrainedModel]) -> Iterator[Finding]:
    """Yield what the answers to the images say that chose a model."""
    if any(training_mode(model) for model in opened.values()):
        return  # what it answers now is nothing to compare with
    learned = _learned(own)
    rows = own.dataset.rows(learned.select_on)
    probabilities, _ = own.probabilities(rows, "none")
    yield names(own, learned, rows, probabilities[own.chosen])
    yield _recorded(own, learned, rows, probabilities)


def _steadiness(subject: Predictor, rows: Rows, opened: dict[str, TrainedModel]) -> tuple[Finding, ...]:
    if opened:
        return worst_of(measure_batch_invariance(opened, subject.dataset, rows, number=IMAGES, sizes=SIZES, sort=True))
    why = "the backbone's weights are not on this machine"
    advice = "bring them back and audit again ('fer weights ls' says what is here)"
    return tuple(Finding(check, "not measured", why, advice) for check in (ALONE, TWICE))


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
    own: Predictor, learned: TrainingRecord, rows: Rows, probabilities: dict[str, NDArray[np.float64]]
) -> Finding:
    """Compare the accuracy on the split that the model was selected on with the one that it recorded."""
    true = own.dataset.labels[rows]
    now = {name: float((probabilities[name].argmax(axis=1) == true).mean()) for name in learned.recorded}
    name = max(now, key=lambda one: abs(now[one] - learned.recorded[one]))
    then, what = learned.recorded[name], f"{name}: accuracy on {learned.select_on}"
    if abs(now[name] - then) <= max(TOLERANCE, 2 / len(rows)):
        return Finding(RECORDED, "pass", f"{what} {now[name]:.1%}, recorded {then:.1%}")
    return Finding(
        RECORDED,
        "fail",
        f"{what} {now[name]:.1%}, recorded {then:.1%}: weights, class names or preprocessing are not what was selected",
        "bring back the artifact as it was made, or train it again",
    )
