"""The table of Conv-cut's attentions, from the evaluations of its studies in a store.

``python -m benchmarks.attentions [--store STORE]``, after ``recipes/conv-cut/attentions.sh``.

A cell is the mean over the seeds and, in brackets, the least and the greatest, in percent.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.store import open_store
from fer_cli.artifacts.summaries import EvaluationConfig, EvaluationSummary, ModelConfig, StudyConfig
from fer_cli.evaluation.metrics_file import read_metrics

ATTENTIONS = ("tokens", "channels", "none", "batch")
BATCHINGS = {"alone": "alone", "shuffled": "shuffled, by 32", "sorted": "by class, by 32"}


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=None)
    store = open_store(parser.parse_args().store)
    scores: dict[tuple[str, str], dict[str, list[float]]] = {}
    for directory in reversed(store.directories(["evaluation"])):  # the newest comes last and counts
        evaluation = store.open(directory)
        batching = EvaluationConfig.of(evaluation).batching
        if batching is None or evaluation.manifest.inputs["model"].kind != "study":
            continue
        study = open_parent(store, evaluation, "model")
        if StudyConfig.of(study).system != "conv-cut":
            continue
        model = open_parent(store, study, next(iter(study.manifest.inputs)))
        outputs = EvaluationSummary.of(evaluation).outputs
        metrics = read_metrics(evaluation).predictors
        seeds = [metrics[name] for name, output in outputs.items() if output.kind == "network"]
        scores[ModelConfig.of(model).recipe["model"]["attention"], batching] = {
            "accuracy": [of_seed.accuracy.value for of_seed in seeds],
            "balanced_accuracy": [of_seed.balanced_accuracy.value for of_seed in seeds],
        }
    for metric in ("accuracy", "balanced_accuracy"):
        print(f"\n| {metric.replace('_', ' ')} | {' | '.join(BATCHINGS.values())} |\n|---|{'---|' * len(BATCHINGS)}")
        for attention in ATTENTIONS:
            cells = [_cell(scores.get((attention, batching), {}).get(metric, [])) for batching in BATCHINGS]
            print(f"| {attention} | {' | '.join(cells)} |")


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    shares = 100 * np.array(values)
    return f"{shares.mean():.1f} [{shares.min():.1f}, {shares.max():.1f}]"


if __name__ == "__main__":
    main()
