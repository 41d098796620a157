"""The report: one self-contained HTML file. It asks nothing of a network, runs no script, and escapes every name.

What goes in are the frozen dataclasses below. Metrics come in by shape (:mod:`fer_cli.reporting.shapes`), which
``fer_cli.metrics.Metrics`` has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from fer_cli.core.format import binary, count_text, decimal, interval, percent, points, quantity, whole_percent
from fer_cli.reporting.calibration import calibration_figure
from fer_cli.reporting.confusion import confusion_figure
from fer_cli.reporting.heatmap import PNG_URI
from fer_cli.reporting.html import environment
from fer_cli.reporting.interval_bar import interval_bar
from fer_cli.reporting.style import class_colour
from fer_cli.reporting.svg import inline_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fer_cli.metrics import Estimate, Metrics


@dataclass(frozen=True, slots=True)
class PredictorScores:
    """One way to decide, with its metrics; a deep model has one, an ahm artifact four.

    ``gain``: metric ("accuracy", "balanced_accuracy", "macro_f1") -> the paired difference from the predictor that
    ``ReportData.reference`` names, as a share (0.01 is one point). The reference itself has none.
    """

    name: str
    metrics: Metrics
    note: str = ""  # how it decides, in one phrase
    chosen: bool = False
    gain: Mapping[str, Estimate] | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of a table. ``mark`` colours it: "unsound" red, "caution" amber."""

    name: str
    value: str
    mark: Literal["", "unsound", "caution"] = ""


@dataclass(frozen=True, slots=True)
class RecipeLine:
    """A setting of a recipe, as TOML. ``default`` is the system's own where it differs, else empty."""

    key: str
    value: str
    default: str = ""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A wrong prediction. ``score`` and ``label_score`` are probabilities of the predicted and of the true class."""

    id: str
    label: str
    predicted: str
    score: float
    label_score: float
    thumbnail: str = ""  # a data URI, data:image/png;base64,...


@dataclass(frozen=True, slots=True)
class FigureSection:
    """A section with one picture; without a figure the note says why there is none."""

    id: str
    heading: str
    note: str
    figure: Figure | None = None
    title: str = ""  # what the figure shows, for screen readers


@dataclass(frozen=True, slots=True)
class Cost:
    """What a prediction takes; None is not measured and not shown."""

    parameters: int | None = None
    multiply_adds: int | None = None  # for one image
    images_per_second: float | None = None
    peak_memory: int | None = None  # bytes
    device: str = ""  # where it was measured, batch size included


@dataclass(frozen=True, slots=True)
class LineageNode:
    """An artifact with those that it was made from."""

    kind: str
    name: str
    version: str
    note: str = ""
    inputs: tuple[LineageNode, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything a report says, top down. What is left empty leaves no trace in the page.

    Attributes:
        title: what was evaluated, such as "ahm on fer2013".
        subtitle: of what kind, on what, such as "EfficientNet-Lite0 features, PublicTest as the test split".
        split: the split that was scored.
        predictors: one or more; where there are several, exactly one is chosen, and the numbers are the chosen one's.
        unsound: what makes the number unsound, a phrase each ("selection split: optimistic"): red.
        cautions: what a reader must know, a sentence each: amber. ``evaluation.cautions`` finds some of them.
        reference: name of the predictor that the gains are differences from.
        subsets: of the items, subgroups for one, each with the chosen predictor's metrics on it.
        cost: what a prediction takes.
        mistakes: the worst first.
        mistakes_note: how they were picked.
        protocol: dataset, version, split hash, classes, label rule and N, selection split, pretraining source,
            test-time augmentation, seed, configurations tried, times that the test set was scored.
        recipe: that the model was trained by, with what differs from its system's default.
        figures: such as the training curves or Grad-CAM.
        lineage: the artifact that was evaluated, and below it what it was made from.
        intended_use: a paragraph each.
        limits: a sentence each.
        versions: of the code, the libraries and the machine.
        commands: that run it again, in order.
        created: when, as text; leave it empty where reports must be equal byte by byte.
    """

    title: str
    split: str
    predictors: tuple[PredictorScores, ...]
    subtitle: str = ""
    unsound: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    reference: str = ""
    subsets: Mapping[str, Metrics] = field(default_factory=dict)
    cost: Cost | None = None
    mistakes: tuple[Mistake, ...] = ()
    mistakes_note: str = ""
    protocol: tuple[Fact, ...] = ()
    recipe: tuple[RecipeLine, ...] = ()
    figures: tuple[FigureSection, ...] = ()
    lineage: LineageNode | None = None
    intended_use: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    versions: tuple[Fact, ...] = ()
    commands: tuple[str, ...] = ()
    created: str = ""

    def __post_init__(self) -> None:
        """Refuse what would mislead: no predictor, two chosen ones, a picture from elsewhere."""
        if not self.predictors or (len(self.predictors) > 1 and sum(one.chosen for one in self.predictors) != 1):
            raise ValueError("a report needs a predictor, and of several exactly one that is chosen")
        for one in self.mistakes:
            if one.thumbnail and not PNG_URI.fullmatch(one.thumbnail):
                raise ValueError(f"the thumbnail of {one.id!r} is no PNG data URI")


_FORMS: Final = {"percent": percent, "decimal": decimal, "points": points}
HEADLINE: Final = (
    ("accuracy", "Accuracy", "share of items that are right"),
    ("balanced_accuracy", "Balanced accuracy", "mean of the classes' recalls"),
    ("macro_f1", "Macro F1", "mean of the classes' F1"),
    ("ece", "Calibration error", "ECE, 15 bins; lower is better"),
)
SHARES: Final = ("accuracy", "balanced_accuracy", "macro_f1")


def verdict(gain: Estimate) -> str:
    """Return what a difference's interval allows to say."""
    if math.isnan(gain.low + gain.high):
        return "no interval"
    return "better" if gain.low > 0 else "worse" if gain.high < 0 else "no clear difference"


def common_confusions(metrics: Metrics, limit: int = 6) -> list[tuple[str, str, float, float]]:
    """Return the largest cells off the diagonal: true class, predicted class, items, share of the true class."""
    cells = [
        (metrics.classes[i], metrics.classes[j], count, count / sum(row))
        for i, row in enumerate(metrics.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(cells, key=lambda cell: -cell[2])[:limit]


def axis_of(metrics: Sequence[Metrics]) -> tuple[float, float]:
    """Return the stretch of the axis, in steps of .05, that holds every interval of the metrics that are shares."""
    ends = [
        end
        for one in metrics
        for estimate in (one.accuracy, one.balanced_accuracy, one.macro_f1)
        for end in (estimate.value, estimate.low, estimate.high)
        if not math.isnan(end)
    ]
    low, high = math.floor(20 * min(ends) + 1e-9), math.ceil(20 * max(ends) - 1e-9)
    return low / 20, max(high, low + 1) / 20


def chance(metrics: Metrics) -> dict[str, float]:
    """Return what always answering the most frequent class would score, for each metric that is a share."""
    support = [one.support for one in metrics.per_class]
    share, present = max(support) / sum(support), sum(1 for n in support if n)
    return {"accuracy": share, "balanced_accuracy": 1 / present, "macro_f1": 2 * share / (1 + share) / present}


def render_report(data: ReportData) -> str:
    """Return the report as the text of one HTML file.

    The same data gives the same text. Every string is escaped; a content security policy in the page forbids scripts
    and every request, so that a mistake of ours could not reach out either.
    """
    templates = environment()
    templates.filters.update(
        percent=percent,
        whole_percent=whole_percent,
        decimal=decimal,
        points=points,
        quantity=quantity,
        count=count_text,
        binary=binary,
        verdict=verdict,
    )
    templates.globals.update(
        interval_bar=interval_bar,
        inline_svg=inline_svg,
        confusion_figure=confusion_figure,
        calibration_figure=calibration_figure,
        class_colour=class_colour,
        isnan=math.isnan,
        interval=lambda score, form: interval(score.low, score.high, _FORMS[form]),
    )
    chosen = next((one for one in data.predictors if one.chosen), data.predictors[0])
    gains = [
        abs(end)
        for one in data.predictors
        for gain in (one.gain or {}).values()
        for end in (gain.value, gain.low, gain.high)
        if not math.isnan(end)
    ]
    metrics = chosen.metrics
    runs = [one.metrics for one in data.predictors if one.name in metrics.runs]
    return templates.get_template("report.html.j2").render(
        data=data,
        chosen=chosen,
        metrics=metrics,
        positions={name: position for position, name in enumerate(metrics.classes)},
        chance=chance(metrics),
        majority=max(metrics.per_class, key=lambda one: one.support).name,
        axis=axis_of([one.metrics for one in data.predictors]),
        subsets_axis=axis_of([metrics, *data.subsets.values()]),
        confusions=common_confusions(metrics),
        headline=HEADLINE,
        shares=SHARES,
        extent=max([0.01, *gains]) * 1.05,
        runs={key: [getattr(one, key).value for one in runs] for key, _, _ in HEADLINE},
    )
