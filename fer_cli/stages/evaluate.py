"""Stage ``eval``: an ahm, a model, a study or anybody's predictions in, an evaluation artifact out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.payload import json_bytes, table_bytes
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.store import Artifact, Plan, Store
from fer_cli.core.errors import CheckFailedError, FerError, UsageError
from fer_cli.core.progress import note, warn
from fer_cli.evaluation.findings import Finding, failed
from fer_cli.evaluation.leakage import IDS, PERSONS, SELECTION
from fer_cli.evaluation.predictor import EvaluationResult, Predictor
from fer_cli.evaluation.predictors.opening import default_split, open_predictor
from fer_cli.evaluation.protocol_warnings import ProtocolWarnings, judge
from fer_cli.evaluation.report import report_html
from fer_cli.evaluation.sanity_checks import ALONE, cheap_checks, is_amber
from fer_cli.evaluation.subsets import subsets_of, unseen_caution
from fer_cli.evaluation.test_set_usage import Scoring, items_hash, remember, times_scored
from fer_cli.metrics import cautions, evaluate, paired_difference
from fer_cli.metrics.bootstrap import RESAMPLES, Estimate

REVISION: Final = 4
TTA: Final = ("none", "flip")
BATCHINGS: Final = ("alone", "stored", "shuffled", "sorted")
COMPARED: Final = ("accuracy", "balanced_accuracy", "macro_f1")


def evaluate_model(
    *,
    store: Store,
    model: str | None = None,
    data: str | None = None,
    predictions: Path | None = None,
    split: str | None = None,
    predictor: str | None = None,
    tta: str = "none",
    report: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    strict: bool = False,
    batching: str | None = None,
    device: str = "auto",
    force: bool = False,
) -> Result:
    """Score a model, or predictions that are already made, on one split.

    Args:
        store: where artifacts are.
        model: reference of an ahm artifact, a model or a study; the newest where it is None.
        data: reference of the data set; where it is None the one that the model learned from, for predictions the
            newest. A model is scored on another one over the classes in common.
        predictions: a file of predictions (:mod:`fer_cli.evaluation.external_predictions`), in place of a model.
        split: the split; test where it is None, else validation.
        predictor: which of the model's predictors the numbers are of; the one it chose where it is None.
        tta: ``none``, or ``flip``: the mean of both views' probabilities.
        report: also write ``report.html``.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        strict: fail when the number is unsound.
        batching: what stands beside an image when a deep model scores it: ``alone``, ``stored`` (batches in the order
            of the data set), ``shuffled`` or ``sorted`` (batches of 32, shuffled or class by class). It matters to
            models that mix their batch alone: these are scored alone, the others as stored, where it is None.
        device: of a deep model: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: make it anew even when it is up to date.

    Raises:
        FerError: a reference, a split or a predictor is not there.
        CheckFailedError: ``strict``, and the number is unsound; the evaluation is kept.
    """
    if tta not in TTA:
        raise UsageError(f"--tta {tta!r} is not a test-time augmentation", hint=f"take {' or '.join(TTA)}")
    if not 100 <= resamples <= 1_000_000:
        raise UsageError(f"--resamples {resamples} is out of range", hint="take 100 to 1,000,000")
    if batching not in (None, *BATCHINGS):
        raise UsageError(f"--batching {batching!r} is not a choice", hint=f"take {', '.join(BATCHINGS)}")
    subject, split, by_default = _open(store, model, data, predictions, split, device, batching)
    dataset = subject.dataset
    rows = _rows(subject, split)
    chosen = predictor or subject.chosen
    if chosen not in subject.predictors:
        raise FerError(
            f"{subject.origin.reference} has no predictor {chosen!r}", hint=f"take {', '.join(subject.predictors)}"
        )
    plan = Plan(
        kind="evaluation",
        name=_name(subject, split),
        stage="eval",
        revision=REVISION,
        config={
            "split": split,
            "predictor": chosen,
            "tta": tta,
            **({} if subject.batching is None else {"batching": subject.batching}),
            "resamples": resamples,
            "seed": seed,
            "names": {} if subject.learned is None else {key: list(of) for key, of in subject.learned.named.items()},
        },
        inputs={
            "model" if subject.learned else "predictions": subject.origin.source,
            "dataset": dataset.artifact.as_input(),
        },
        seeds=[seed],
    )
    # The report is a view of the same evaluation: it is added where it is wanted and missing, and is no other version.
    lacks_report = report and not store.holds(plan, "report.html")
    with store.make(plan, force=force or lacks_report) as work:
        if work.committed is not None:
            _check_strict(work.committed, strict)
            return Result(work.committed, up_to_date=True)
        if by_default:
            note(f"scoring the {split} split")
        items = items_hash(dataset.ids[rows].tolist(), [dataset.classes[label] for label in dataset.labels[rows]])
        # Every predictor whose score is shown has been scored, not the chosen one alone.
        now = [Scoring(items, subject.origin.source.content, f"{name}, tta {tta}") for name in subject.predictors]
        scored = _score(subject, split, rows, chosen, tta, times_scored(store.root, now), resamples, seed)
        work.write("metrics.json", json_bytes(_metrics_json(scored)))
        work.write("predictions.parquet", _predictions(scored, [chosen]))
        work.write("all-predictors.parquet", _predictions(scored, list(subject.predictors)))
        if report:
            html = report_html(store, scored, plan)
            work.write("report.html", html.encode("utf-8"), view=True)
        remember(store.root, now)
        artifact = work.commit(
            summary=_summary(scored),
            protocol=scored.protocol,
            measured=scored.measured,
            warnings=[*scored.soundness.unsound],
        )
    for text in scored.soundness.unsound:
        warn(text)
    _check_strict(artifact, strict)
    return Result(artifact, up_to_date=False)


def _open(
    store: Store,
    model: str | None,
    data: str | None,
    predictions: Path | None,
    split: str | None,
    device: str,
    batching: str | None,
) -> tuple[Predictor, str, bool]:
    """Return what is scored, the split, and whether nobody asked for that one."""
    if predictions is None:
        artifact = store.find(model, ["ahm", "model", "study"])
        on = None if data is None else store.find(data, ["dataset"])
        subject = open_predictor(store, artifact, device, batching, on)
        return subject, split or default_split(subject.dataset.split_names), split is None
    for option, given in (("MODEL", model), ("--batching", batching)):
        if given is not None:
            raise UsageError(f"{option} and --predictions contradict each other", hint=f"leave {option} out")
    on = store.find(data, ["dataset"])
    found = split or default_split(tuple(on.manifest.summary["splits"]))
    from fer_cli.evaluation.predictors.external import external_predictor

    return external_predictor(predictions, on, found), found, split is None


def _rows(subject: Predictor, split: str) -> NDArray[np.int64]:
    """Return the rows of a split; where classes are left out it may have lost all of its images."""
    try:
        return subject.dataset.rows(split)
    except FerError as error:
        raise FerError(
            f"{error.what} of {', '.join(subject.dataset.classes)}", hint=error.hint, path=error.path
        ) from error


def _name(subject: Predictor, split: str) -> str:
    """Return the evaluation's name, short enough for a folder's."""
    elsewhere = "" if subject.is_own else f"-on-{subject.dataset.artifact.name}"
    return f"{subject.origin.name[: 118 - len(elsewhere) - len(split)]}{elsewhere}-{split}"


def _score(
    subject: Predictor,
    split: str,
    rows: NDArray[np.int64],
    chosen: str,
    tta: str,
    times_scored: int,
    resamples: int,
    seed: int,
) -> EvaluationResult:
    dataset = subject.dataset
    probabilities, measured = subject.probabilities(rows, tta)
    true = dataset.labels[rows]
    unit, units = dataset.units()
    groups = None if units is None else units[rows]
    metrics = {
        name: evaluate(
            true,
            table,
            dataset.classes,
            seed=seed,
            groups=groups,
            resamples=resamples,
            calibrated=subject.calibrated,
            unit=unit,
        )
        for name, table in probabilities.items()
    }
    subsets = {
        name: evaluate(
            true[some],
            probabilities[chosen][some],
            dataset.classes,
            seed=seed,
            groups=None if groups is None else groups[some],
            resamples=resamples,
            calibrated=subject.calibrated,
            unit=unit,
        )
        for name, some in subsets_of(subject, rows).items()
    }
    findings = cheap_checks(subject, rows, split, probabilities[chosen])
    mixes = subject.mixes_batch or any(one.check == ALONE for one in failed(findings))
    predicted = {name: table.argmax(axis=1) for name, table in probabilities.items()}
    gains = {
        name: {
            metric: paired_difference(true, guess, predicted[subject.reference], metric, groups, seed, resamples)
            for metric in COMPARED
        }
        for name, guess in predicted.items()
        if subject.reference is not None and name != subject.reference
    }
    protocol = {
        **subject.protocol,
        "split": split,
        "predictor": chosen,
        "tta": tta,
        **({} if subject.batching is None else {"batching": subject.batching, "mixes_batch": mixes}),
        "times_these_items_were_scored": times_scored,
        "intervals": f"95% bootstrap, {resamples} resamples of {metrics[chosen].unit}s, seed {seed}",
        "checks": [finding.to_json() for finding in findings],
    }
    judged = judge(
        protocol,
        split=split,
        accuracy=metrics[chosen].accuracy.value,
        own=subject.is_own,
        known=subject.learned is not None,
    )
    soundness = ProtocolWarnings(
        (*judged.unsound, *_unsound(findings, subject, split)),
        (
            *subject.cautions,
            *judged.cautions,
            *(f"{one.check.capitalize()}: {one.measured}" for one in findings if is_amber(one, subject)),
            *([] if (rest := unseen_caution(subsets, metrics[chosen])) is None else [rest]),
            *cautions(metrics[chosen]),
        ),
    )
    return EvaluationResult(
        subject, split, rows, probabilities, measured, metrics, gains, chosen, subsets, protocol, soundness, findings
    )


def _unsound(findings: Sequence[Finding], subject: Predictor, split: str) -> Iterator[str]:
    """Yield what the checks found, but for what the protocol alone has said already."""
    said = {ALONE}
    if subject.is_own:
        said |= {SELECTION, PERSONS, *([IDS] if split == "train" else [])}
    for finding in failed(findings):
        if finding.check not in said and not is_amber(finding, subject):
            yield f"{finding.check}: {finding.measured}"


def _metrics_json(scored: EvaluationResult) -> dict[str, Any]:
    def plain(estimate: Estimate) -> dict[str, float | None]:
        return {
            name: None if np.isnan(number) else number
            for name, number in (("value", estimate.value), ("low", estimate.low), ("high", estimate.high))
        }

    by_fold = scored.by_fold()
    return {
        "dataset": scored.dataset.artifact.name,
        "split": scored.split,
        "chosen": scored.chosen,
        "reference": scored.subject.reference,
        "predictors": {name: metrics.to_json() for name, metrics in scored.metrics.items()},
        "gain_over_reference": {
            name: {metric: plain(estimate) for metric, estimate in of.items()} for name, of in scored.gains.items()
        },
        "subsets": {name: metrics.to_json() for name, metrics in scored.subsets.items()},
        **({} if by_fold is None else {"by_fold": by_fold}),
        "unsound": list(scored.soundness.unsound),
        "cautions": list(scored.soundness.cautions),
    }


def _predictions(scored: EvaluationResult, names: list[str]) -> bytes:
    """Return the table of predictions: one row an item and predictor, a score (probability) a class."""
    classes = np.array(scored.dataset.classes)
    ids, label = scored.dataset.ids[scored.rows], classes[scored.dataset.labels[scored.rows]]
    tables = [scored.probabilities[name] for name in names]
    scores = np.concatenate(tables)
    columns: dict[str, Any] = {
        "id": np.tile(ids, len(names)).tolist(),
        "predictor": np.repeat(names, len(ids)).tolist(),
        "label": np.tile(label, len(names)).tolist(),
        "predicted": classes[scores.argmax(axis=1)].tolist(),
    }
    if not scored.subject.calibrated:
        scores = np.full(scores.shape, np.nan)  # labels alone
    if scored.subject.folds is not None:
        columns["fold"] = np.tile(scored.subject.folds[scored.rows], len(names))
    columns |= {f"score_{name}": scores[:, number] for number, name in enumerate(scored.dataset.classes)}
    return table_bytes(columns)


def _summary(scored: EvaluationResult) -> dict[str, Any]:
    chosen = scored.metrics[scored.chosen]
    return {
        "headline": f"{scored.chosen} on {scored.dataset.artifact.name} {scored.split}: accuracy "
        f"{chosen.accuracy.value:.1%}, balanced {chosen.balanced_accuracy.value:.1%}, F1 {chosen.macro_f1.value:.1%}",
        "split": scored.split,
        "images": chosen.n,
        "chosen": scored.chosen,
        "accuracy": {name: metrics.accuracy.value for name, metrics in scored.metrics.items()},
        "balanced_accuracy": {name: metrics.balanced_accuracy.value for name, metrics in scored.metrics.items()},
        "macro_f1": {name: metrics.macro_f1.value for name, metrics in scored.metrics.items()},
        "unsound": list(scored.soundness.unsound),
        "cautions": list(scored.soundness.cautions),
    }


def _check_strict(artifact: Artifact, strict: bool) -> None:
    if strict and (unsound := artifact.manifest.summary["unsound"]):
        raise CheckFailedError(
            f"{artifact.reference} is unsound: {'; '.join(unsound)}", hint="score the test split of a sound protocol"
        )
