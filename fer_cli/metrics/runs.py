"""The metrics of a study: the mean over its runs (seeds), with intervals that cover items and seeds, and the SD.

What a study stands for is its recipe, so the number is the mean of the runs' scores: what a run with another seed
scores on average. It is not the score of an ensemble, which is that of the mean of their probabilities.

Two things vary by chance: the items, and the seed. Two to five seeds are too few to be resampled, so the variances are
added (:func:`fer_cli.metrics.paired.over_seeds`): that of the items from the bootstrap of the mean score, whole groups
drawn together where there are groups, that of the seeds from the runs' spread, with the t distribution of Welch and
Satterthwaite's degrees of freedom. With two seeds their spread has one degree of freedom: the interval keeps its
level, but is wide where the seeds differ by more than the items explain. Scores of seeds are taken for normal: two or
three runs show nothing of a rare seed that fails. Coverage by simulation, two to five seeds, spreads of 0 to 3 points,
300 items of 75 subjects: 0.95 to 0.98, that of one seed's own interval 0.79 to 0.94. Where all runs have everything
right, or nothing, the interval is exact (:mod:`fer_cli.metrics.exact`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike

from fer_cli.metrics.bootstrap import (
    CONFIDENCE,
    RESAMPLES,
    Estimate,
    calibration_interval,
    percentile_interval,
    resampled_sums,
    sums_by_unit,
)
from fer_cli.metrics.exact import exact_ends
from fer_cli.metrics.paired import over_seeds
from fer_cli.metrics.results import ClassMetrics, Metrics, ReliabilityBin
from fer_cli.metrics.values import (
    BIN_EDGES,
    CALIBRATION_BINS,
    Floats,
    Values,
    check_predictions,
    item_sums,
    values_from_sums,
)

if TYPE_CHECKING:
    from scipy import sparse

_MOST: Final = {"nll": np.inf, "brier": 2.0}
"""The largest value of the metrics that are no shares."""


def evaluate_runs(
    true: ArrayLike,
    runs: Mapping[str, ArrayLike],
    classes: Sequence[str],
    *,
    seed: int,
    groups: ArrayLike | None = None,
    unit: str | None = None,
    resamples: int = RESAMPLES,
) -> Metrics:
    """Return every metric's mean over runs, with its 95% interval over items and seeds, and its SD over the runs.

    The confusion matrix is the mean of the runs' matrices. The bins of confidence hold all runs' answers; their
    intervals are of the items alone.

    Args:
        true: (N,) indices into ``classes``.
        runs: two or more, name -> probabilities (N, C).
        classes: the C class names, in the order of the columns.
        seed: of the resamples.
        groups: (N,) ids of items that belong together, such as subjects: they are drawn whole.
        unit: what a group is called; by default "item" without groups and "subject" with them.
        resamples: how many.

    Raises:
        FerError: labels or probabilities that cannot be scored.
        ValueError: fewer than two runs, or ``groups`` has another length.
    """
    if len(runs) < 2:
        raise ValueError("one run has no spread")
    c, n_units = len(classes), 0
    cells = slice(c * c, c * c + 3 * CALIBRATION_BINS)
    totals, drawn, pooled, exact = [], [], [], []
    by_run: list[sparse.csr_array] = []
    for run in runs.values():
        labels, table = check_predictions(true, run, classes)
        units = sums_by_unit(item_sums(labels, table), groups)
        n_units = int(units.shape[0])
        totals.append(np.asarray(units.sum(axis=0), dtype=np.float64))
        if n_units >= 2:
            values, bins = [], []
            for sums in resampled_sums(units, seed=seed, resamples=resamples):
                values.append(values_from_sums(sums, c))
                bins.append(sums[:, cells])
            drawn.append(Values(*(np.concatenate(parts) for parts in zip(*values, strict=True))))
            pooled.append(np.concatenate(bins))
        exact.append(exact_ends(units, c))
        by_run.append(units)
    each = [values_from_sums(total, c) for total in totals]

    def estimate(name: str, index: int | None = None) -> Estimate:
        scores = _column(each, name, index)
        sd = float(scores.std(ddof=1))
        if not drawn:
            return Estimate(float(scores.mean()), float("nan"), float("nan"), sd)
        resampled = _column(drawn, name, index).mean(axis=0)
        found = over_seeds(resampled[~np.isnan(resampled)], [scores], n_units)
        low, high = (float(end) for end in np.clip([found.low, found.high], 0, _MOST.get(name, 1.0)))
        for least, most in (ends[name] for ends in exact if name in ends):  # of the run with the fewest units
            low = min(low, float(least if index is None else least[index])) if found.value == 1 else low
            high = max(high, float(most if index is None else most[index])) if found.value == 0 else high
        return Estimate(found.value, low, high, sd)

    total = np.mean(totals, axis=0)
    confusion = total[: c * c].reshape(c, c)
    return Metrics(
        n=len(np.asarray(true)),
        classes=tuple(classes),
        accuracy=estimate("accuracy"),
        balanced_accuracy=estimate("balanced_accuracy"),
        macro_f1=estimate("macro_f1"),
        ece=_calibration(each, drawn),
        nll=estimate("nll"),
        brier=estimate("brier"),
        per_class=tuple(
            ClassMetrics(
                name=name,
                support=round(float(confusion[k].sum())),
                predicted=float(confusion[:, k].sum()),
                precision=estimate("precision", k),
                recall=estimate("recall", k),
                f1=estimate("f1", k),
                missing=float(np.isnan(drawn[0].recall[:, k]).mean()) if drawn else 0.0,
            )
            for k, name in enumerate(classes)
        ),
        confusion=tuple(tuple(float(cell) for cell in row) for row in confusion),
        reliability=_reliability(
            total[cells],
            np.sum(pooled, axis=0) if pooled else None,
            exact_ends(sum(by_run[1:], by_run[0]), c)["bin_accuracy"],
        ),
        unit=unit or ("item" if groups is None else "subject"),
        units=n_units,
        resamples=resamples,
        seed=seed,
        runs=tuple(runs),
    )


def _column(each: Sequence[Values], name: str, index: int | None) -> Floats:
    """Return a metric of all runs, (S, ...); of a class where there is an index."""
    parts: list[Floats] = [getattr(one, name) for one in each]
    return np.stack([part if index is None else part[..., index] for part in parts])


def _calibration(each: Sequence[Values], drawn: Sequence[Values]) -> Estimate:
    """Return the mean calibration error: the interval of the items, and the seeds' reach added in quadrature.

    The interval of the items is not symmetric (:func:`fer_cli.metrics.bootstrap.calibration_interval`), so variances
    cannot be added; its reaches can (Zou and Donner 2008, "Construction of confidence limits about effect measures").
    """
    from scipy import stats

    scores = _column(each, "ece", None)
    value, sd = float(scores.mean()), float(scores.std(ddof=1))
    if not drawn:
        return Estimate(value, float("nan"), float("nan"), sd)

    def joined(runs: Sequence[Values]) -> Values:
        gaps = np.concatenate([one.bin_gap for one in runs], axis=-1) / len(runs)
        return runs[0]._replace(ece=np.abs(gaps).sum(axis=-1), bin_gap=gaps)

    low, high = calibration_interval(joined(each), joined(drawn))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(scores) - 1)) * sd / len(scores) ** 0.5
    return Estimate(
        value,
        max(0.0, value - float(np.hypot(value - low, reach))),
        min(1.0, value + float(np.hypot(high - value, reach))),
        sd,
    )


def _reliability(sums: Floats, drawn: Floats | None, exact: tuple[Floats, Floats]) -> tuple[ReliabilityBin, ...]:
    """Return the bins of all runs' answers.

    Args:
        sums: (45,), means over the runs.
        drawn: (B, 45), resampled; None where there is nothing to draw.
        exact: (15,) each, the lower ends where all answers of a bin are right, the upper ends where none is.
    """
    count, confidence, hits = sums.reshape(3, CALIBRATION_BINS)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = hits / count
        low = high = np.full(CALIBRATION_BINS, np.nan)
        if drawn is not None:
            counts, _, right = np.moveaxis(drawn.reshape(len(drawn), 3, CALIBRATION_BINS), 1, 0)
            low, high = percentile_interval(right / counts)
            known = ~np.isnan(low)
            low = np.where(known & (accuracy == 1), exact[0], low)
            high = np.where(known & (accuracy == 0), exact[1], high)
        mean = confidence / count
    return tuple(
        ReliabilityBin(
            start=float(BIN_EDGES[k]),
            end=float(BIN_EDGES[k + 1]),
            count=float(count[k]),
            confidence=float(mean[k]),
            accuracy=Estimate(float(accuracy[k]), float(low[k]), float(high[k])),
        )
        for k in range(CALIBRATION_BINS)
    )
