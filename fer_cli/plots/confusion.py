"""Plot ``confusion``: the confusion matrix of an evaluation."""

from __future__ import annotations

from fer_cli.artifacts.store import Store
from fer_cli.core.format import estimate
from fer_cli.plots.evaluations import EvaluationArgument, PredictorOption, open_scored
from fer_cli.plots.registry import Picture


def draw(store: Store, evaluation: EvaluationArgument = None, predictor: PredictorOption = None) -> Picture:
    """Confusion matrix of an evaluation; of a study the mean of its seeds' matrices."""
    from fer_cli.reporting.confusion import confusion_figure, paper_confusion

    scored = open_scored(store, evaluation, predictor)
    shown = ", ".join(
        f"{metric} {estimate(one.value, one.low, one.high, sd=one.sd)}"
        for metric, one in (
            ("accuracy", scored.metrics.accuracy),
            ("balanced accuracy", scored.metrics.balanced_accuracy),
        )
    )
    figure = confusion_figure(
        scored.metrics.confusion, scored.metrics.classes, "Confusion matrix", scored.subtitle, f"{shown}, in percent"
    )
    metrics = scored.metrics
    return Picture(
        scored.artifact.name,
        figure,
        scored.artifact.version,
        lambda inches: paper_confusion(metrics.confusion, metrics.classes, inches),
    )
