"""Metrics with bootstrap intervals."""

from fer_cli.metrics.bootstrap import Estimate
from fer_cli.metrics.paired import paired_difference
from fer_cli.metrics.results import ClassMetrics, Metrics, ReliabilityBin, cautions, evaluate
from fer_cli.metrics.runs import evaluate_runs

__all__ = [
    "ClassMetrics",
    "Estimate",
    "Metrics",
    "ReliabilityBin",
    "cautions",
    "evaluate",
    "evaluate_runs",
    "paired_difference",
]
