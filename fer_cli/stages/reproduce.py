"""Stage ``reproduce``: an entry of a paper in; its artifacts, made by the plain stages, and a table out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import EvaluationSummary
from fer_cli.core.errors import FerError, PreemptedError
from fer_cli.core.progress import note, warn
from fer_cli.datasets.folder import safe_name
from fer_cli.evaluation.metrics_file import EvaluationMetrics, read_metrics
from fer_cli.metrics.bootstrap import Estimate
from fer_cli.papers.catalogue import SCALES, Entry, Row
from fer_cli.papers.verdict import Judged, detectable, judge_gain, judge_value
from fer_cli.reporting.comparison import SIGNIFICANT
from fer_cli.reporting.reproduction import Gain, Interval, ReproducedRow, Reproduction
from fer_cli.stages.compare import compare
from fer_cli.stages.reproduce_facts import fact_rows
from fer_cli.stages.reproduce_plan import SEED, VIEWS, Fit, Index, Request, Training, ask, deviations, found
from fer_cli.systems import registry
from fer_cli.systems.recipe_sources import find_source
from fer_cli.training.study import models_of


@dataclass(frozen=True, slots=True)
class Made:
    """Evaluations by the row's name, and of rows that cannot be run what is in the way."""

    evaluations: dict[str, Artifact]
    faults: dict[str, str]


def make(store: Store, request: Request, *, device: str = "auto", workers: int | None = None) -> Made:
    """Make or find what every row needs, with the plain stages.

    A row that cannot be run does not stop the others.

    Raises:
        FerError: no row can be run.
        PreemptedError: a stop signal came; what was made is kept, and the same call goes on.
    """
    evaluations: dict[str, Artifact] = {}
    faults: dict[str, FerError] = {}
    done: dict[Training | Fit, Artifact | FerError] = {}
    for run in request.runs:
        if (job := run.job) is None:
            continue
        if job not in done:
            note(f"{request.entry.reference}: {run.name}")
            try:
                done[job] = _evaluation(store, request, job, device, workers)
            except PreemptedError:
                raise
            except FerError as error:
                warn(f"{run.name}: {error}")
                done[job] = error
        result = done[job]
        if isinstance(result, FerError):
            faults[run.name] = result
        else:
            evaluations[run.name] = result
    if faults and not evaluations:
        raise next(iter(faults.values()))
    return Made(evaluations, {name: error.what for name, error in faults.items()})


def _evaluation(store: Store, request: Request, job: Training | Fit, device: str, workers: int | None) -> Artifact:
    """Do what the plain commands do, and return the evaluation."""
    from fer_cli.stages.evaluate import evaluate_model
    from fer_cli.stages.extract import extract
    from fer_cli.stages.fit_ahm import fit_ahm
    from fer_cli.stages.train import train

    assert request.dataset is not None, "a job has data"
    dataset = request.dataset.reference
    if isinstance(job, Fit):
        network = job.model
        if job.training is not None:
            network = train(
                store=store,
                system=job.training.system,
                dataset=dataset,
                recipe=job.training.recipe,
                changes=job.training.changes,
                seeds=[SEED],
                device=device,
                workers=workers,
            ).whole.artifact.reference
        source: dict[str, Any] = {"dataset": dataset, "backbone": job.backbone, "weights": job.weights}
        if network is not None:
            source = {"dataset": network, "data": dataset}
        features = extract(store=store, **source, size=job.size, views=VIEWS, device=device).artifact
        model = fit_ahm(store=store, features=features.reference).artifact
        return evaluate_model(store=store, model=model.reference, device=device).artifact
    trained = train(
        store=store,
        system=job.system,
        dataset=dataset,
        recipe=job.recipe,
        changes=job.changes,
        seeds=request.seeds,
        masks=_masks(store, job, dataset, device),
        device=device,
        workers=workers,
    ).whole.artifact
    return evaluate_model(store=store, model=trained.reference, batching=job.batching, device=device).artifact


def _masks(store: Store, job: Training, dataset: str, device: str) -> str | None:
    trainer = registry.load(job.system)
    if job.parser is None or not trainer.uses_masks:
        return None
    recipe = find_source(job.recipe, store).read(job.system, job.changes)
    if not trainer.needs(recipe).masks:
        return None
    from fer_cli.stages.parse_masks import parse_masks

    return parse_masks(store=store, dataset=dataset, parser=job.parser, device=device).artifact.reference


def reproduce(index: Index, request: Request, made: Made, pictures: Sequence[Path] = ()) -> Reproduction:
    """Put a paper's entry beside what was measured, and judge it (:mod:`fer_cli.papers.verdict`).

    Args:
        index: of the store, read after the evaluations were made.
        request: what was asked for.
        made: the evaluations, from :func:`make` or of those that are there.
        pictures: that were drawn.
    """
    entry = request.entry
    differences = deviations(index, request)
    if entry.measure in {"train", "recall", "ahm"}:
        decisive = any(one.decisive for one in differences)
        rows = tuple(_measured_rows(index, request, made, comparable=not decisive))
    else:
        rows = tuple(fact_rows(index, request))
    return Reproduction(
        entry=entry,
        dataset=None if request.dataset is None else request.dataset.reference,
        stands_in=request.stands_in,
        scale=request.scale,
        seeds=request.seeds,
        rows=rows,
        deviations=differences,
        pictures=tuple(map(str, pictures)),
    )


def status(
    index: Index, entry: Entry, *, data: str | None, seeds: Sequence[int], changes: Sequence[str] = ()
) -> Reproduction:
    """Return what has been measured of an entry, at the scale of which most is there; nothing is made."""
    best: tuple[Request, dict[str, Artifact]] | None = None
    for scale in reversed(SCALES):
        try:
            request = ask(index, entry, data=data, scale=scale, seeds=seeds, changes=changes)
        except FerError as error:
            judged = Judged("not comparable", "not measured")
            rows = tuple(
                ReproducedRow(row.name, row, "" if row.value is None else str(row.value), None, judged, why=error.what)
                for row in entry.rows
            )
            return Reproduction(entry, None, False, scale, (), rows, ())
        there = found(index, request)
        if best is None or len(there) > len(best[1]):
            best = request, there
    assert best is not None, "there is a scale"
    return reproduce(index, best[0], Made(best[1], {}))


def _measured_rows(index: Index, request: Request, made: Made, *, comparable: bool) -> Iterator[ReproducedRow]:
    entry, evaluations = request.entry, made.evaluations
    one_seed = len(request.seeds) == 1
    first = next((run for run in request.runs if run.job is not None), None)
    over_first = {}
    if entry.measure == "train" and first is not None and first.name in evaluations:
        over_first = _gains(index.store, entry, evaluations, evaluations[first.name])
    for run in request.runs:
        if run.row not in entry.rows:  # a model that is drawn alone
            continue
        shown = "" if run.row.value is None else str(run.row.value)
        evaluation = evaluations.get(run.name)
        if evaluation is None:
            cited = run.row.kind == "cited"
            judged = Judged("not comparable", "of another work" if cited else "not measured")
            why = "cited, of another work" if cited else made.faults.get(run.name, "not measured yet")
            yield ReproducedRow(run.name, run.row, shown, None, judged, why=why)
            continue
        metrics = read_metrics(evaluation)
        value = _value(entry, run.row, metrics)
        is_gain = entry.measure == "ahm" and entry.kind == "figure"  # its figures are gains, of no known accuracy
        figure = None if is_gain else _percent(entry, run.row)
        gain = None
        if entry.measure == "ahm":
            trained = isinstance(run.job, Fit) and run.job.of_trained
            gain = _ahm_gain(run.row if is_gain else None, metrics, one_seed=trained)
        elif first is not None and run.name != first.name and evaluation.reference in over_first:
            claimed, base = _percent(entry, run.row), _percent(entry, first.row)
            difference = over_first[evaluation.reference]
            claim = None if claimed is None or base is None or run.row is first.row else claimed - base
            gain = _gain(claim, difference, one_seed=one_seed)
        yield ReproducedRow(
            name=run.name,
            row=run.row,
            figure="" if is_gain else shown,
            measured=value,
            judged=judge_value(figure, value.low, value.high, comparable=comparable, one_seed=one_seed),
            difference=math.nan if figure is None else value.value - figure,
            effect=detectable(value.low, value.high),
            gain=gain,
            seconds=index.seconds(evaluation),
            evaluation=evaluation.reference,
            unsound=EvaluationSummary.of(evaluation).unsound,
        )


def _percent(entry: Entry, row: Row) -> float | None:
    if not isinstance(row.value, int | float):
        return None
    return row.value * (100.0 if entry.unit == "share" else 1.0)


def _value(entry: Entry, row: Row, metrics: EvaluationMetrics) -> Interval:
    of = metrics.predictors[metrics.chosen]
    if entry.measure == "recall":
        recalls = {one.name: one.recall for one in of.per_class}
        return _interval(recalls.get(row.expression or "", Estimate(math.nan, math.nan, math.nan)))
    return _interval(of.macro_f1 if entry.metric == "macro_f1" else of.accuracy)


def _interval(estimate: Estimate) -> Interval:
    return Interval(100 * estimate.value, 100 * estimate.low, 100 * estimate.high)


@dataclass(frozen=True, slots=True)
class _Difference:
    """Of two rows, in points: the interval, the minimum detectable effect, and whether the test tells them apart."""

    interval: Interval
    effect: float
    differs: bool


def _gain(claim: float | None, difference: _Difference, *, one_seed: bool, comparable: bool = True) -> Gain:
    interval = difference.interval
    judged = judge_gain(
        claim,
        interval.low,
        interval.high,
        differs=difference.differs,
        effect=difference.effect,
        one_seed=one_seed,
        comparable=comparable,
    )
    return Gain(claim, interval, difference.effect, judged)


def _ahm_gain(row: Row | None, metrics: EvaluationMetrics, *, one_seed: bool) -> Gain:
    """Return the gain of AHM's better direction over the network's own softmax, of a network that was trained.

    Over logistic regression on the same features else, which is not the paper's gain. No seed is in the fit itself.
    """
    from fer_cli.systems.ahm.predictors import SOFTMAX

    claim = float(row.value) if row is not None and isinstance(row.value, int | float) else None
    difference = _without_test(_interval(metrics.gains[metrics.chosen]["accuracy"]))
    return _gain(claim, difference, one_seed=one_seed, comparable=metrics.reference == SOFTMAX)


def _without_test(interval: Interval) -> _Difference:
    return _Difference(interval, detectable(interval.low, interval.high), interval.low > 0 or interval.high < 0)


def _gains(store: Store, entry: Entry, evaluations: Mapping[str, Artifact], first: Artifact) -> dict[str, _Difference]:
    """Return each evaluation's difference from the first one's, by reference: paired, over items and seeds."""
    others = dict.fromkeys(one.reference for one in evaluations.values() if one.reference != first.reference)
    if not others:
        return {}
    comparison = compare(store=store, references=[first.reference, *others], allow_unsound=True).comparison
    metric = entry.metric or "accuracy"
    found_ = {}
    for pair in comparison.pairs:
        difference = _without_test(_interval(pair.differences[metric]))
        if metric == "accuracy":
            effect = 100 * pair.minimum_detectable_effect
            difference = _Difference(difference.interval, effect, pair.adjusted < SIGNIFICANT)
        found_[pair.system.evaluation] = difference
    return found_


def draw(store: Store, request: Request, evaluations: Mapping[str, Artifact], folder: Path, device: str) -> list[Path]:
    """Draw an entry's pictures, one a model, into a folder; confusion matrices of what was scored by class.

    Raises:
        FerError: a picture cannot be drawn.
    """
    from fer_cli.stages.parse_masks import parse_masks
    from fer_cli.stages.plot import plot

    entry = request.entry
    stem = f"fer-{entry.paper}-{entry.id}"
    if entry.picture == "masks":
        assert request.dataset is not None, "masks are of a data set"
        parser = request.form.parser or "auto"
        masks = parse_masks(store=store, dataset=request.dataset.reference, parser=parser, device=device).artifact
        return [plot(store=store, what="masks", out=folder / f"{stem}.png", masks=masks.reference)]
    if entry.measure == "recall" and evaluations:
        evaluation = next(iter(evaluations.values()))
        out = folder / f"{stem}.png"
        return [plot(store=store, what="confusion", out=out, evaluation=evaluation.reference)]
    paths = []
    for name, evaluation in evaluations.items() if entry.picture is not None else ():
        model = _first_model(store, evaluation)
        out = folder / f"{stem}-{safe_name(name.lower().replace(' ', '-'))}.png"
        match entry.picture:
            case "tsne":
                paths.append(plot(store=store, what="tsne", out=out, source=model, device=device))
            case "gradcam":
                paths.append(plot(store=store, what="gradcam", out=out, model=model, device=device))
            case "confusion":
                paths.append(plot(store=store, what="confusion", out=out, evaluation=evaluation.reference))
            case _:
                paths.append(plot(store=store, what="curves", out=out, model=model))
    return paths


def _first_model(store: Store, evaluation: Artifact) -> str:
    """Return the reference of what was scored; of a study, of its first model."""
    source = open_parent(store, evaluation, "model")
    return source.reference if source.kind != "study" else next(iter(models_of(store, source).values())).reference
