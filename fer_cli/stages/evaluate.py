"""Stage ``eval``: an ahm, a model or a study in, an evaluation artifact out: metrics, predictions and the report."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.payload import json_bytes, table_bytes
from fer_cli.artifacts.store import Artifact, Plan, Store
from fer_cli.errors import CheckFailedError, FerError, UsageError
from fer_cli.evaluation import cautions, evaluate, paired_difference
from fer_cli.evaluation.bootstrap import RESAMPLES, Estimate
from fer_cli.evaluation.ledger import Scoring, items_hash, remember, times_scored
from fer_cli.evaluation.soundness import Soundness, judge
from fer_cli.progress import note, warn
from fer_cli.stages.evaluation_report import report_html
from fer_cli.stages.result import Result
from fer_cli.stages.scored import Scored, Subject

REVISION: Final = 1
TTA: Final = ("none", "flip")
BATCHINGS: Final = ("alone", "stored", "shuffled", "sorted")
COMPARED: Final = ("accuracy", "balanced_accuracy", "macro_f1")


def evaluate_model(
    *,
    store: Store,
    model: str | None = None,
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
    """Score a model on one split.

    Args:
        store: where artifacts are.
        model: reference of an ahm artifact, a model or a study; the newest where it is None.
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
    subject = open_subject(store, store.find(model, ["ahm", "model", "study"]), device, batching)
    source, dataset = subject.artifact, subject.dataset
    by_default = split is None
    split = split or ("test" if "test" in dataset.split_names else "validation")
    rows = dataset.rows(split)
    chosen = predictor or subject.chosen
    if chosen not in subject.predictors:
        raise FerError(f"{source.reference} has no predictor {chosen!r}", hint=f"take {', '.join(subject.predictors)}")
    plan = Plan(
        kind="evaluation",
        name=f"{source.kind}-{source.name}-{split}",
        stage="eval",
        revision=REVISION,
        config={
            "split": split,
            "predictor": chosen,
            "tta": tta,
            **({} if subject.batching is None else {"batching": subject.batching}),
            "resamples": resamples,
            "seed": seed,
        },
        inputs={"model": source.as_input(), "dataset": dataset.artifact.as_input()},
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
        now = [Scoring(items, source.manifest.content, f"{name}, tta {tta}") for name in subject.predictors]
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


def open_subject(store: Store, artifact: Artifact, device: str, batching: str | None) -> Subject:
    """Open whatever can be scored."""
    if artifact.kind == "ahm":
        if batching is not None:
            raise UsageError("--batching is for deep models", hint="leave it out: AHM has no batches")
        from fer_cli.stages.scored_ahm import ahm_subject

        return ahm_subject(store, artifact)
    from fer_cli.stages.scored_model import model_subject, study_subject

    return (study_subject if artifact.kind == "study" else model_subject)(store, artifact, device, batching)


def _score(
    subject: Subject,
    split: str,
    rows: NDArray[np.int64],
    chosen: str,
    tta: str,
    times_scored: int,
    resamples: int,
    seed: int,
) -> Scored:
    dataset = subject.dataset
    probabilities, measured = subject.probabilities(rows, tta)
    true = dataset.labels[rows]
    groups = None if dataset.subjects is None else dataset.subjects[rows]
    metrics = {
        name: evaluate(true, table, dataset.classes, seed=seed, groups=groups, resamples=resamples)
        for name, table in probabilities.items()
    }
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
        **subject.artifact.manifest.protocol,
        "split": split,
        "predictor": chosen,
        "tta": tta,
        **({} if subject.batching is None else {"batching": subject.batching, "mixes_batch": subject.mixes_batch}),
        "times_these_items_were_scored": times_scored,
        "intervals": f"95% bootstrap, {resamples} resamples of {metrics[chosen].unit}s, seed {seed}",
    }
    judged = judge(protocol, split=split, accuracy=metrics[chosen].accuracy.value)
    soundness = Soundness(judged.unsound, (*judged.cautions, *cautions(metrics[chosen])))
    return Scored(subject, split, rows, probabilities, measured, metrics, gains, chosen, protocol, soundness)


def _metrics_json(scored: Scored) -> dict[str, Any]:
    def plain(estimate: Estimate) -> dict[str, float | None]:
        return {
            name: None if np.isnan(number) else number
            for name, number in (("value", estimate.value), ("low", estimate.low), ("high", estimate.high))
        }

    return {
        "dataset": scored.dataset.artifact.name,
        "split": scored.split,
        "chosen": scored.chosen,
        "reference": scored.subject.reference,
        "predictors": {name: metrics.to_json() for name, metrics in scored.metrics.items()},
        "gain_over_reference": {
            name: {metric: plain(estimate) for metric, estimate in of.items()} for name, of in scored.gains.items()
        },
        "unsound": list(scored.soundness.unsound),
        "cautions": list(scored.soundness.cautions),
    }


def _predictions(scored: Scored, names: list[str]) -> bytes:
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
    columns |= {f"score_{name}": scores[:, number] for number, name in enumerate(scored.dataset.classes)}
    return table_bytes(columns)


def _summary(scored: Scored) -> dict[str, Any]:
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
