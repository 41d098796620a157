"""Metrics with bootstrap intervals."""

from fer_cli.evaluation.bootstrap import Estimate
from fer_cli.evaluation.paired import paired_difference
from fer_cli.evaluation.results import ClassMetrics, Metrics, ReliabilityBin, cautions, evaluate

__all__ = ["ClassMetrics", "Estimate", "Metrics", "ReliabilityBin", "cautions", "evaluate", "paired_difference"]
