"""``fer eval``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fer_cli.cli.common import Output, plain, print_line, print_pairs, print_table
from fer_cli.cli.options import DeviceOption, ForceOption, ModelArgument, SeedOption, SplitOption, command
from fer_cli.core.format import estimate, percent, signed_percent

if TYPE_CHECKING:
    from fer_cli.artifacts.result import Result
    from fer_cli.artifacts.store import Store
    from fer_cli.evaluation.metrics_file import EvaluationMetrics
    from fer_cli.metrics import Metrics
    from fer_cli.metrics.bootstrap import Estimate


@command("eval")
def evaluate(
    store: Store,
    model: ModelArgument = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Score on another dataset, over the classes in common. [default: the model's own; for --predictions "
            "the newest]"
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Score a file of predictions (csv, Parquet, JSON) instead of a model."),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option("--answer", metavar="COLUMN", help="Column of the answers in that file. [default: by its name]"),
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Also write a self-contained HTML report.")] = False,
    split: SplitOption = None,
    predictor: Annotated[
        str | None,
        typer.Option(
            help="AHM: nearest-mean, logistic, ahm-semantic or ahm-visual; study: 'mean of seeds', 'seed 0' ... or "
            "ensemble (the mean of the seeds' probabilities); ensemble: ensemble or a member's name. "
            "[default: AHM's better direction on validation; the mean of seeds; ensemble]"
        ),
    ] = None,
    tta: Annotated[
        Literal["none", "flip", "ten-crop"],
        typer.Option(help="Test-time augmentation: flip (AHM needs that view of its features), or ten-crop."),
    ] = "none",
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.")] = 2000,
    seed: SeedOption = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 3 if the number is unsound.")] = False,
    batching: Annotated[
        str | None,
        typer.Option(
            help="Batches of a deep model: alone (one image), stored, shuffled or sorted (class by class). "
            "[default: alone for models whose output depends on the batch, else stored]"
        ),
    ] = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    name: str | None = None,
) -> Output:
    """Score a model or a file of predictions, with intervals.

    A file of predictions has a column id with the ids of the split's images, and either a column predicted with class
    names, or a column per class: prob_happy, logit_happy, or score_happy or happy, where the numbers decide whether
    they are probabilities, percentages or logits. An image without an answer (an empty cell, none, no face) counts as
    wrong. A column label is compared with the data set's labels.
    """
    from fer_cli.cli.requests import answer

    options: dict[str, Any] = {
        "name": name,
        "predictions": predictions,
        "answer": column,
        "split": split,
        "predictor": predictor,
        "tta": tta,
        "report": report,
        "resamples": resamples,
        "seed": seed,
        "strict": strict,
        "batching": batching,
        "device": device,
    }
    references: dict[str, tuple[str | None, Sequence[str]]] = {}
    if predictions is None:
        references["model"] = (model, ("ahm", "model", "study", "ensemble"))
    elif model is not None:
        options["model"] = model  # refused beside predictions, whatever it names
    if predictions is not None or data is not None:
        references["data"] = (data, ["dataset"])

    def build(references: Mapping[str, Any]) -> Sequence[Result]:
        from fer_cli.stages.evaluate import evaluate_model

        return [evaluate_model(store=store, **references, **options, force=force)]

    [result] = answer(store, "eval", options, references, build, force=force)
    return evaluation_output(result)


def evaluation_output(result: Result) -> Output:
    """Return what is printed of an evaluation: a table of its predictors, its warnings, and where the report is."""
    from fer_cli.evaluation.metrics_file import read_metrics

    artifact = result.artifact
    metrics = read_metrics(artifact)
    page = artifact.path / "report.html" if artifact.has("report.html") else None
    values = {
        "artifact": artifact.to_json(),
        "up_to_date": result.up_to_date,
        "report": None if page is None else str(page),
        "metrics": metrics.to_json(),
        "protocol": artifact.manifest.protocol,
    }
    return Output(values, lambda: _show(result, metrics, page), made=artifact)


def _show(result: Result, metrics: EvaluationMetrics, page: Path | None) -> None:
    from fer_cli.artifacts.protocol import EvaluationProtocol

    artifact = result.artifact
    number = metrics.predictors[metrics.chosen].n
    scope = f", {metrics.split} split, {number:,} images; 95% intervals"
    print_line(plain(metrics.dataset, "bold"), plain(scope))
    columns = {"predictor": "left", "accuracy": "right", "balanced": "right", "macro F1": "right"}
    if metrics.reference is not None:
        columns["gain in accuracy"] = "right"
    print_table(columns, [_row(metrics, name) for name in metrics.predictors])
    if metrics.subsets:
        columns = {"part": "left", "images": "right", "accuracy": "right", "balanced": "right", "macro F1": "right"}
        print_table(columns, [[name, f"{part.n:,}", *_intervals(part)] for name, part in metrics.subsets.items()])
    pairs = _seeds(metrics.predictors[metrics.chosen]) + _folds(metrics)
    pairs += [("UNSOUND", text) for text in metrics.unsound] + [("note", text) for text in metrics.cautions]
    checks = EvaluationProtocol.of(artifact).checks
    passed = [check.check for check in checks if check.verdict == "pass"]
    pairs.append(("checks", f"{len(passed)} of {len(checks)} passed: {', '.join(passed) or 'none'}"))
    for verdict in dict.fromkeys(check.verdict for check in checks if check.verdict != "pass"):
        pairs.append((verdict, ", ".join(check.check for check in checks if check.verdict == verdict)))
    pairs.append(("artifact", f"{artifact.reference}{'  (up to date)' if result.up_to_date else ''}"))
    pairs.append(("path", str(artifact.path)))
    if page is not None:
        pairs.append(("report", str(page)))
    print_pairs(pairs)


def _seeds(chosen: Metrics) -> list[tuple[str, str]]:
    """Return the line on what a mean over seeds is, where the numbers are of one."""
    if not chosen.runs:
        return []
    few = "; so few show little of how seeds vary" if len(chosen.runs) < 4 else ""
    return [("mean of seeds", f"± SD over {len(chosen.runs)} seeds; its intervals cover items and seeds{few}")]


def _folds(metrics: EvaluationMetrics) -> list[tuple[str, str]]:
    """Return the line on how much the folds differ, where there are any."""
    if metrics.by_fold is None:
        return []
    shares = metrics.by_fold.accuracy[metrics.chosen]
    mean = sum(shares) / len(shares)
    sd = (sum((share - mean) ** 2 for share in shares) / (len(shares) - 1)) ** 0.5
    spread = f"mean {mean:.1%}, SD {sd:.1%}, min {min(shares):.1%}, max {max(shares):.1%}"
    return [(f"{len(shares)} folds", f"accuracy of {metrics.chosen}: {spread}; the table pools all images")]


def print_comparison(evaluations: Mapping[str, Result], more: Sequence[tuple[str, str]]) -> None:
    """Print the evaluations of several systems on the same images, then ``more`` lines of (label, value)."""
    from fer_cli.evaluation.metrics_file import read_metrics

    rows, pairs, title = [], [], ""
    for system, result in evaluations.items():
        metrics = read_metrics(result.artifact)
        for name, scores in metrics.predictors.items():
            rows.append([system, name, *_intervals(scores)])
            title = f"{metrics.dataset}, {metrics.split} split, {scores.n:,} images; 95% intervals"
        pairs += [(system, f"UNSOUND: {text}") for text in metrics.unsound]
        pairs.append((system, str(result.artifact.path / "report.html")))
    columns = {"system": "left", "predictor": "left", "accuracy": "right", "balanced": "right", "macro F1": "right"}
    print_table(columns, rows, title=title)
    print_pairs([*pairs, ("note", "synthetic faces: these numbers say nothing about real ones"), *more])


def _intervals(scores: Metrics) -> list[str]:
    return [_interval(score) for score in (scores.accuracy, scores.balanced_accuracy, scores.macro_f1)]


def _row(metrics: EvaluationMetrics, name: str) -> list[str]:
    cells = [f"{'* ' if name == metrics.chosen else '  '}{name}", *_intervals(metrics.predictors[name])]
    if metrics.reference is None:
        return cells
    gain = metrics.gains.get(name)
    return [*cells, f"(from {name})" if gain is None else _interval(gain["accuracy"], signed_percent)]


def _interval(score: Estimate, form: Callable[[float], str] = percent) -> str:
    return estimate(score.value, score.low, score.high, form, sd=score.sd)
