"""Stage ``eval``: an ahm, a model, a study, an ensemble or anybody's predictions in, an evaluation artifact out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.naming import composed_name
from fer_cli.artifacts.payload import json_bytes, table_bytes
from fer_cli.artifacts.protocol import Batching, EvaluationProtocol, Intervals, Tta
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.sections import SPLIT_NAMES, SplitName
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import DatasetSummary, EvaluationConfig, EvaluationSummary, FeaturesConfig
from fer_cli.artifacts.work import Plan
from fer_cli.core.errors import CheckFailedError, FerError, UsageError
from fer_cli.core.findings import Check, Finding, failed
from fer_cli.core.progress import note, warn
from fer_cli.evaluation.metrics_file import METRICS, EvaluationMetrics
from fer_cli.evaluation.predictor import EvaluationResult, Predictor
from fer_cli.evaluation.predictors.ahm import weights_option
from fer_cli.evaluation.predictors.opening import default_split, open_predictor
from fer_cli.evaluation.protocol_warnings import ProtocolWarnings, judge
from fer_cli.evaluation.report import report_html
from fer_cli.evaluation.sanity_checks import cheap_checks, is_amber
from fer_cli.evaluation.subsets import subsets_of, unseen_caution
from fer_cli.evaluation.test_set_usage import Scoring, items_hash, remember, times_scored
from fer_cli.metrics import Metrics, cautions, evaluate, evaluate_runs, paired_difference
from fer_cli.metrics.bootstrap import RESAMPLES
from fer_cli.stages.extract import extract

REVISION: Final = 7
SCORED: Final = ("ahm", "model", "study", "ensemble")
BATCHINGS: Final[tuple[Batching, ...]] = ("alone", "stored", "shuffled", "sorted")
COMPARED: Final = ("accuracy", "balanced_accuracy", "macro_f1")


def evaluate_model(
    *,
    store: Store,
    model: str | None = None,
    data: str | None = None,
    predictions: Path | None = None,
    answer: str | None = None,
    split: str | None = None,
    predictor: str | None = None,
    tta: Tta = "none",
    report: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    strict: bool = False,
    batching: str | None = None,
    device: str = "auto",
    force: bool = False,
    name: str | None = None,
) -> Result:
    """Score a model, or predictions that are already made, on one split.

    Args:
        store: where artifacts are.
        model: reference of an ahm artifact, a model, a study or an ensemble; the newest where it is None.
        data: reference of the dataset; where it is None the one that the model was trained on, for predictions the
            newest. A model is scored on another one over the classes in common.
        predictions: a file of predictions (:mod:`fer_cli.evaluation.external_predictions`), in place of a model.
        answer: the column of the answers in that file; found by its name where it is None.
        split: the split; test where it is None, else validation.
        predictor: which of the model's predictors the numbers are of; the one it chose where it is None.
        tta: ``none``, ``flip`` or ``ten-crop``: the mean of the views' probabilities (:mod:`fer_cli.inference.views`).
        report: also write ``report.html``.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        strict: fail when the number is unsound.
        batching: how images are batched when a deep model scores them: ``alone``, ``stored`` (batches in the order
            of the dataset), ``shuffled`` or ``sorted`` (batches of 32, shuffled or class by class). It matters to
            models that mix their batch alone: these are scored alone, the others as stored, where it is None.
        device: of a deep model: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: make it anew even when it is up to date.
        name: of what is made; from its inputs and settings where it is None.

    Raises:
        FerError: a reference, a split or a predictor is not there.
        CheckFailedError: ``strict``, and the number is unsound; the evaluation is kept.
    """
    if tta not in get_args(Tta):  # a caller's, who has no type checker
        raise UsageError(f"--tta {tta!r} is not a test-time augmentation", hint=f"take {' or '.join(get_args(Tta))}")
    if not 100 <= resamples <= 1_000_000:
        raise UsageError(f"--resamples {resamples} is out of range", hint="take 100 to 1,000,000")
    opened, chosen_split, by_default = _open(
        store, model, data, predictions, answer, split, device, _batching(batching)
    )
    dataset = opened.dataset
    rows = _rows(opened, chosen_split)
    chosen = predictor or opened.chosen
    if chosen not in opened.outputs:
        raise FerError(
            f"{opened.origin.reference} has no predictor {chosen!r}", hint=f"take {', '.join(opened.outputs)}"
        )
    record = opened.training_record
    config = EvaluationConfig(
        split=chosen_split,
        predictor=chosen,
        tta=tta,
        batching=opened.batching,
        resamples=resamples,
        seed=seed,
        names={} if record is None else dict(record.class_names),
        training_data="not in the store" if opened.lacks_training_data else None,
        answer=answer,
    )
    plan = Plan(
        kind="evaluation",
        name=name or _name(opened, config),
        stage="eval",
        revision=REVISION,
        config=config.record(),
        inputs={
            "model" if opened.predictions is None else "predictions": opened.origin.source,
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
            note(f"scoring the {chosen_split} split")
        items = items_hash(dataset.ids[rows].tolist(), [dataset.classes[label] for label in dataset.labels[rows]])
        # Every output whose score is shown has been scored, not the chosen one alone; a mean adds none.
        predicting = [name for name, output in opened.outputs.items() if output.kind != "mean"]
        now = [Scoring(items, opened.origin.source.content, f"{name}, tta {tta}") for name in predicting]
        result = _score(opened, config, rows, times_scored(store.root, now))
        work.write(METRICS, json_bytes(_metrics(result).to_json()))
        work.write("predictions.parquet", _predictions(result, opened.runs(chosen)))
        work.write("all-predictors.parquet", _predictions(result, predicting))
        if report:
            html = report_html(store, result, plan)
            work.write("report.html", html.encode("utf-8"), view=True)
        remember(store.root, now)
        artifact = work.commit(
            summary=_summary(result),
            protocol=result.protocol,
            measured=result.measured,
            warnings=[*result.warnings.unsound],
        )
    for text in result.warnings.unsound:
        warn(text)
    _check_strict(artifact, strict)
    return Result(artifact, up_to_date=False)


def open_for_scoring(
    store: Store, artifact: Artifact, device: str, batching: Batching | None, data: Artifact | None = None
) -> Predictor:
    """Open an ahm artifact, a model, a study or an ensemble; AHM's features of another dataset are extracted."""
    features = None
    if artifact.kind == "ahm" and data is not None:
        features = _same_features(store, open_parent(store, artifact, "features"), data, device)
    return open_predictor(store, artifact, device, batching, data, features)


def _same_features(store: Store, features: Artifact, data: Artifact, device: str) -> Artifact:
    """Return the features of a dataset, made by the same network as given ones were.

    Raises:
        FerError: the network or its weights are not what they were.
    """
    if features.manifest.inputs["dataset"].content == data.manifest.content:
        return features
    config = FeaturesConfig.of(features)
    source: dict[str, Any] = {
        "dataset": data.reference,
        "backbone": config.backbone,
        "weights": weights_option(features),
    }
    if "model" in features.manifest.inputs:
        source = {"dataset": open_parent(store, features, "model").reference, "data": data.reference}
    extracted = extract(
        store=store,
        **source,
        level=config.level,
        size=config.size,
        views=config.views,
        dtype=config.dtype,
        device=device,
    ).artifact
    other = FeaturesConfig.of(extracted)
    if key := next((key for key in FeaturesConfig.model_fields if getattr(config, key) != getattr(other, key)), None):
        raise FerError(
            f"{extracted.reference} was not made as {features.reference} was: {key} differs",
            hint="bring back the weights that those features were made with ('fer weights ls')",
        )
    note(f"features: {extracted.reference}")
    return extracted


def _open(
    store: Store,
    model: str | None,
    data: str | None,
    predictions: Path | None,
    answer: str | None,
    split: str | None,
    device: str,
    batching: Batching | None,
) -> tuple[Predictor, SplitName, bool]:
    """Return what is scored, the split, and whether nobody asked for that one."""
    if predictions is None:
        if answer is not None:
            raise UsageError("--answer is for --predictions", hint="give the file too, or leave --answer out")
        artifact = store.find(model, SCORED)
        on = None if data is None else store.find(data, ["dataset"])
        opened = open_for_scoring(store, artifact, device, batching, on)
        return opened, split_of(split, opened.dataset.artifact, opened.dataset.split_names), split is None
    for option, given in (("MODEL", model), ("--batching", batching)):
        if given is not None:
            raise UsageError(f"{option} and --predictions contradict each other", hint=f"leave {option} out")
    on = store.find(data, ["dataset"])
    chosen = split_of(split, on, tuple(DatasetSummary.of(on).splits))
    from fer_cli.evaluation.predictors.external import external_predictor

    return external_predictor(predictions, on, chosen, answer), chosen, split is None


def split_of(split: str | None, dataset: Artifact, there: Sequence[str]) -> SplitName:
    """Return the split to score: the one that was asked for, or test where there is one, else validation."""
    if split is None:
        return default_split(there)
    for name in SPLIT_NAMES:
        if name == split:
            return name
    raise FerError(f"{dataset.reference} has no {split} split", hint=f"it has {', '.join(there)}")


def _batching(batching: str | None) -> Batching | None:
    for name in BATCHINGS:
        if batching == name:
            return name
    if batching is None:
        return None
    raise UsageError(f"--batching {batching!r} is not a choice", hint=f"take {', '.join(BATCHINGS)}")


def _rows(predictor: Predictor, split: SplitName) -> NDArray[np.int64]:
    """Return the rows of a split; where classes are left out it may have lost all of its images."""
    try:
        return predictor.dataset.rows(split)
    except FerError as error:
        raise FerError(
            f"{error.what} of {', '.join(predictor.dataset.classes)}", hint=error.hint, path=error.path
        ) from error


def _name(predictor: Predictor, config: EvaluationConfig) -> str:
    """Return what was scored, on what where that is not its own, what is other than usual, and the split."""
    elsewhere = "" if predictor.is_own else f"-on-{predictor.dataset.artifact.name}"
    usual = None if config.batching is None else "alone" if predictor.mixes_batch else "stored"
    words = [
        *([] if config.predictor == predictor.chosen else [config.predictor]),
        *([] if config.tta == "none" else [config.tta]),
        *([] if config.batching == usual else [str(config.batching)]),
        *([] if config.resamples == RESAMPLES else [f"resamples{config.resamples}"]),
        *([] if config.seed == 0 else [f"bootstrap-seed{config.seed}"]),
        *([] if config.answer is None else [f"answer-{config.answer}"]),
    ]
    return composed_name(f"{predictor.origin.name}{elsewhere}", words, [config.split])


def _score(
    predictor: Predictor, config: EvaluationConfig, rows: NDArray[np.int64], times_scored: int
) -> EvaluationResult:
    dataset, chosen = predictor.dataset, config.predictor
    probabilities, measured = predictor.probabilities(rows, config.tta)
    true, unanswered = dataset.labels[rows], predictor.no_answer(rows)
    unit, units = dataset.units()
    groups = None if units is None else units[rows]

    def metrics_of(output: str, items: NDArray[np.int64] | slice = slice(None)) -> Metrics:
        tables = {run: probabilities[run][items] for run in predictor.runs(output)}
        drawn = None if groups is None else groups[items]
        common: dict[str, Any] = {"seed": config.seed, "groups": drawn, "resamples": config.resamples, "unit": unit}
        if len(tables) > 1:
            return evaluate_runs(true[items], tables, dataset.classes, **common)
        calibrated = predictor.calibrated and not unanswered[items].any()
        return evaluate(true[items], tables[output], dataset.classes, **common, calibrated=calibrated)

    metrics = {name: metrics_of(name) for name in predictor.outputs}
    subsets = {name: metrics_of(chosen, items) for name, items in subsets_of(predictor, rows).items()}
    findings = cheap_checks(predictor, rows, config.split, [probabilities[run] for run in predictor.runs(chosen)])
    mixes = predictor.mixes_batch or any(one.check == Check.BATCH_INVARIANCE for one in failed(findings))
    predicted = {name: table.argmax(axis=1) for name, table in probabilities.items()}
    reference = predictor.reference
    gains = {
        name: {
            metric: paired_difference(true, guess, predicted[reference], metric, groups, config.seed, config.resamples)
            for metric in COMPARED
        }
        for name, guess in predicted.items()
        if reference is not None and name != reference
    }
    protocol = EvaluationProtocol(
        data=predictor.target.data,
        training=predictor.training,
        trained_on=predictor.target.trained_on,
        predictions=predictor.predictions,
        classes_in_common=predictor.target.classes_in_common,
        split=config.split,
        predictor=chosen,
        tta=config.tta,
        batching=config.batching,
        mixes_batch=mixes,
        times_these_items_were_scored=times_scored,
        intervals=Intervals(unit=metrics[chosen].unit, resamples=config.resamples, seed=config.seed),
        checks=findings,
    )
    judged = judge(protocol, metrics[chosen].accuracy.value)
    warnings = ProtocolWarnings(
        (*judged.unsound, *_unsound(findings, predictor, config.split)),
        (
            *predictor.cautions,
            *judged.cautions,
            *(f"{one.check.capitalize()}: {_amber(one)}" for one in findings if is_amber(one, predictor)),
            *([] if (rest := unseen_caution(subsets, metrics[chosen])) is None else [rest]),
            *cautions(metrics[chosen]),
        ),
    )
    return EvaluationResult(
        predictor=predictor,
        split=config.split,
        rows=rows,
        probabilities=probabilities,
        measured=measured,
        metrics=metrics,
        gains=gains,
        chosen=chosen,
        subsets=subsets,
        protocol=protocol,
        warnings=warnings,
    )


def _unsound(findings: Sequence[Finding], predictor: Predictor, split: SplitName) -> Iterator[str]:
    """Yield what the checks found, but for what the protocol alone has said already."""
    covered = {Check.BATCH_INVARIANCE}
    if predictor.is_own:
        covered |= {Check.SELECTION, Check.SHARED_SUBJECTS, *([Check.TRAINING_IDS] if split == "train" else [])}
    for finding in failed(findings):
        if finding.check not in covered and not is_amber(finding, predictor):
            yield f"{finding.check}: {finding.measured}"


def _amber(finding: Finding) -> str:
    return f"cannot be told {finding.measured}" if finding.verdict == "cannot be told" else finding.measured


def _metrics(result: EvaluationResult) -> EvaluationMetrics:
    return EvaluationMetrics(
        dataset=result.dataset.artifact.name,
        split=result.split,
        chosen=result.chosen,
        reference=result.predictor.reference,
        predictors=dict(result.metrics),
        gains={name: dict(gain) for name, gain in result.gains.items()},
        subsets=dict(result.subsets),
        by_fold=result.by_fold(),
        unsound=result.warnings.unsound,
        cautions=result.warnings.cautions,
    )


def _predictions(result: EvaluationResult, names: Sequence[str]) -> bytes:
    """Return the table of predictions: one row an item and predictor, a score (probability) a class."""
    classes = np.array(result.dataset.classes)
    ids, label = result.dataset.ids[result.rows], classes[result.dataset.labels[result.rows]]
    tables = [result.probabilities[name] for name in names]
    scores = np.concatenate(tables)
    columns: dict[str, Any] = {
        "id": np.tile(ids, len(names)).tolist(),
        "predictor": np.repeat(names, len(ids)).tolist(),
        "label": np.tile(label, len(names)).tolist(),
        "predicted": classes[scores.argmax(axis=1)].tolist(),
    }
    if not result.predictor.calibrated:
        scores = np.full(scores.shape, np.nan)  # labels alone
    elif (unanswered := result.predictor.no_answer(result.rows)).any():
        scores = np.where(np.tile(unanswered, len(names))[:, None], np.nan, scores)
    if result.predictor.folds is not None:
        columns["fold"] = np.tile(result.predictor.folds[result.rows], len(names))
    columns |= {f"score_{name}": scores[:, number] for number, name in enumerate(result.dataset.classes)}
    return table_bytes(columns)


def _summary(result: EvaluationResult) -> EvaluationSummary:
    chosen = result.metrics[result.chosen]
    scores = {
        name: getattr(chosen, name) for name in ("accuracy", "balanced_accuracy", "macro_f1", "ece", "nll", "brier")
    }
    headline = [
        f"{word} {one.value:.1%}" + ("" if one.sd is None else f" ± {one.sd:.1%}")
        for word, one in (
            ("accuracy", chosen.accuracy),
            ("balanced", chosen.balanced_accuracy),
            ("F1", chosen.macro_f1),
        )
    ]
    shown = f"mean of {len(chosen.runs)} seeds (± SD)" if chosen.runs else result.chosen
    return EvaluationSummary(
        headline=f"{shown} on {result.dataset.artifact.name} {result.split}: {', '.join(headline)}",
        dataset=result.dataset.artifact.name,
        split=result.split,
        images=chosen.n,
        chosen=result.chosen,
        outputs=dict(result.predictor.outputs),
        accuracy={name: metrics.accuracy.value for name, metrics in result.metrics.items()},
        balanced_accuracy={name: metrics.balanced_accuracy.value for name, metrics in result.metrics.items()},
        macro_f1={name: metrics.macro_f1.value for name, metrics in result.metrics.items()},
        sd={name: one.sd for name, one in scores.items()} if chosen.runs else None,
        unsound=result.warnings.unsound,
        cautions=result.warnings.cautions,
    )


def _check_strict(artifact: Artifact, strict: bool) -> None:
    if strict and (unsound := EvaluationSummary.of(artifact).unsound):
        raise CheckFailedError(
            f"{artifact.reference} is unsound: {'; '.join(unsound)}", hint="score the test split of a sound protocol"
        )
