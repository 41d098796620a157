"""The card of a model that comes with fer: everything in it that is a number is read from its evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import TrainingProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelSummary
from fer_cli.core.errors import FerError
from fer_cli.datasets.fold_view import dataset_of
from fer_cli.metrics.bootstrap import Estimate
from fer_cli.metrics.results import Metrics, evaluate
from fer_cli.models.trained import WEIGHTS
from fer_cli.prediction.faces import sharpness

_LIMITS = Path(__file__).with_name("limits.md")


def card(store: Store, reference: str) -> str:
    """Return the card, Markdown, of the model that an evaluation scored.

    Args:
        store: where the evaluation and the dataset are.
        reference: of an evaluation of a model's test split.

    Raises:
        FerError: it is none, or what it was made from is gone.
    """
    evaluation = store.find(reference, ["evaluation"])
    source = evaluation.manifest.inputs.get("model")
    if source is None:
        raise FerError(f"{evaluation.reference} did not score a model", hint="evaluate the model that comes with fer")
    model = store.find(f"{source.kind}/{source.name}@{source.version}", ["model"])
    dataset = dataset_of(store, model)
    table = evaluation.to_arrow("predictions.parquet")
    number = {name: index for index, name in enumerate(dataset.classes)}
    scores = np.stack([table[f"score_{name}"].to_numpy() for name in dataset.classes], 1)
    truth = np.array([number[name] for name in table["label"].to_pylist()])
    row_of = {name: row for row, name in enumerate(dataset.ids.tolist())}
    rows = np.array([row_of[name] for name in table["id"].to_pylist()])
    summary = ModelSummary.of(model)
    calibrated = _sharpened(scores, summary.temperature or 1.0)

    def scored(of: NDArray[np.bool_] | None = None, answers: NDArray[np.float64] = scores) -> Metrics:
        keep = np.ones(len(truth), bool) if of is None else of
        return evaluate(truth[keep], answers[keep], dataset.classes, seed=0)

    whole = scored()
    sharp = np.array([sharpness(np.asarray(dataset.images[row])) for row in rows])
    low, high = np.quantile(sharp, [1 / 3, 2 / 3])
    seen = np.isin(dataset.pixels[rows], dataset.pixels[dataset.rows("train")])
    subsets = [
        ("all", whole),
        ("without those equal to a training image", scored(~seen)),
        ("blurred third", scored(sharp < low)),
        ("middle third", scored((sharp >= low) & (sharp < high))),
        ("sharp third", scored(sharp >= high)),
    ]
    return "\n".join(
        [
            *_head(model, evaluation, summary),
            f"## Accuracy: {dataset.artifact.name}, test split, {whole.n:,} images; 95% intervals",
            "",
            "| images | n | accuracy | balanced | macro F1 |",
            "|---|--:|--:|--:|--:|",
            *(_row(name, one) for name, one in subsets),
            "",
            "Sharpness is that of `fer predict`'s flags: the Laplacian's spread over that of the grey values.",
            "",
            "| expression | training images | test images | recall | precision | F1 |",
            "|---|--:|--:|--:|--:|--:|",
            *_classes(whole, dataset.labels[dataset.rows("train")], dataset.classes),
            "",
            f"Calibration: expected error {_share(whole.ece)} as it comes, {_share(scored(None, calibrated).ece)} at "
            f"the temperature {summary.temperature}, which was fitted on validation and which `fer predict` applies.",
            "",
            *(f"- {caution}" for caution in evaluation.manifest.summary["cautions"]),
            "",
            _LIMITS.read_text(encoding="utf-8"),
        ]
    )


def _head(model: Artifact, evaluation: Artifact, summary: ModelSummary) -> Iterator[str]:
    training = TrainingProtocol.of(model)
    size = next(entry.size for entry in model.manifest.files if entry.path == WEIGHTS)
    chosen = training.selection
    yield f"# Model card: {model.name}"
    yield ""
    yield f"`fer predict --model {model.name}`; version {model.version}. Made by `python -m tools.ship_model`."
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| network | {model.manifest.config['recipe']['model']['backbone']}, {summary.parameters:,} parameters |"
    yield f"| file | {size / 1e6:.1f} MB: matrices in half precision, the rest in single |"
    side = summary.preprocessing["size"]
    yield f"| cost | {summary.multiply_adds / 1e6:,.0f} million multiply-adds an image of {side} px |"
    yield f"| expressions | {', '.join(model.manifest.config['classes'])} |"
    yield f"| began with | {training.pretraining.source}: trained on {training.pretraining.trained_on} |"
    yield f"| trained on | {training.data.label_rule}; {training.data.n['train']:,} images |"
    if chosen is not None:
        yield f"| chosen | {chosen.what} by {chosen.metric} on {chosen.split}; {chosen.tried} were looked at |"
        yield f"| on {chosen.split} | accuracy {summary.selected.accuracy:.1%} |"
    yield f"| scored by | `fer eval {model.name}`: {evaluation.reference} |"
    yield ""


def _classes(whole: Metrics, labels: NDArray[np.int64], names: Sequence[str]) -> Iterator[str]:
    counts = np.bincount(labels, minlength=len(names))
    for one, count in zip(whole.per_class, counts, strict=True):
        scores = " | ".join(_share(score) for score in (one.recall, one.precision, one.f1))
        yield f"| {one.name} | {count:,} | {one.support:,} | {scores} |"


def _row(name: str, one: Metrics) -> str:
    return f"| {name} | {one.n:,} | {_share(one.accuracy)} | {_share(one.balanced_accuracy)} | {_share(one.macro_f1)} |"


def _share(score: Estimate) -> str:
    return f"{100 * score.value:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def _sharpened(scores: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return the softmax of the logits over a temperature: of probabilities, their powers, normalised."""
    powers = np.power(scores, 1 / temperature)
    result: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return result
