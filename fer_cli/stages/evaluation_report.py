"""What an evaluation's report says: the evaluation, its protocol and its lineage put into the report's words."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fer_cli.ahm.hierarchy import default_hierarchy
from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.store import Artifact, Plan, Store
from fer_cli.artifacts.upkeep import Lineage, lineage
from fer_cli.reporting.charts import Curve, Series
from fer_cli.reporting.report import (
    Cost,
    Fact,
    LineageNode,
    Mistake,
    Predictor,
    ReportData,
    render_report,
)
from fer_cli.stages.scored import REFERENCE, Scored

MISTAKES: Final = 12
THUMBNAIL: Final = 72
NOTES: Final = {
    "nearest-mean": "nearest class mean of the standardised features",
    "logistic": "multinomial logistic regression on the same features",
    "ahm-semantic": "feature projected to the semantic space, largest cosine with a prototype",
    "ahm-visual": "prototype projected to the feature space, largest cosine with the feature",
}
INTENDED_USE: Final = (
    "Comparing methods for facial expression recognition under one protocol, and looking at where they fail.",
)
LIMITS: Final = (
    "Labels are expressions that people saw in a picture, not what the person pictured felt.",
    "Scores hold for pictures like those of this data set, not for other cameras, ages, skins or cultures.",
    "Not for decisions about people: hiring, policing, health, education, credit.",
)


def report_html(store: Store, scored: Scored, features: Artifact, plan: Plan) -> str:
    """Return the report of an evaluation as one HTML page."""
    manifest = scored.model.manifest
    chosen = scored.metrics[scored.chosen]
    data = ReportData(
        title=f"{scored.model.kind} on {scored.dataset.artifact.name}",
        subtitle=f"{features.manifest.config['backbone']} features, {features.manifest.config['level']}, "
        f"{features.manifest.config['preprocessing']['size']} px; {chosen.n:,} images of the {scored.split} split",
        split=scored.split,
        predictors=tuple(
            Predictor(
                name=name,
                metrics=metrics,
                note=NOTES.get(name, ""),
                chosen=name == scored.chosen,
                gain=scored.gains.get(name),
            )
            for name, metrics in scored.metrics.items()
        ),
        reference=REFERENCE,
        unsound=scored.soundness.unsound,
        cautions=scored.soundness.cautions,
        cost=_cost(features),
        mistakes=tuple(_mistakes(scored)),
        mistakes_note="the most confident wrong answers, at most three of each true class",
        protocol=tuple(_facts(scored)),
        curves=tuple(_curves(scored.model)),
        lineage=_lineage(scored, plan, lineage(store, scored.model)),
        intended_use=INTENDED_USE,
        limits=LIMITS,
        versions=tuple(
            Fact(key, str(value))
            for key, value in {**manifest.code.model_dump(), **manifest.environment}.items()
            if value
        ),
        commands=tuple(_commands(scored, features, plan)),
    )
    return render_report(data)


def _cost(features: Artifact) -> Cost:
    summary, measured = features.manifest.summary, features.manifest.measured
    return Cost(
        parameters=summary["parameters"],
        multiply_adds=summary["multiply_adds"],
        images_per_second=measured.get("images_per_second"),
        peak_memory=measured.get("peak_memory"),
        device=f"{measured['device']}, {measured['threads']} threads, batches of {measured['batch']}",
    )


def _mistakes(scored: Scored) -> Iterator[Mistake]:
    """Yield the most confident wrong answers, at most three of a class so that a common one does not fill the list."""
    probabilities = scored.probabilities[scored.chosen]
    true = scored.dataset.labels[scored.rows]
    guess = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(guess != true)
    taken: dict[int, int] = {}
    shown = 0
    for item in wrong[np.argsort(-probabilities[wrong, guess[wrong]], kind="stable")]:
        label = int(true[item])
        if shown == MISTAKES or taken.get(label, 0) == 3:
            continue
        taken[label] = taken.get(label, 0) + 1
        shown += 1
        yield Mistake(
            id=str(scored.dataset.ids[scored.rows[item]]),
            label=scored.dataset.classes[label],
            predicted=scored.dataset.classes[int(guess[item])],
            score=float(probabilities[item, guess[item]]),
            label_score=float(probabilities[item, label]),
            thumbnail=_thumbnail(scored.dataset.images[scored.rows[item]]),
        )


def _thumbnail(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    image = Image.fromarray(np.asarray(pixels)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _facts(scored: Scored) -> Iterator[Fact]:
    protocol = scored.protocol
    reference = f"{scored.dataset.artifact.name}@{scored.dataset.artifact.version}"
    yield Fact("data set", reference)
    yield Fact("labels", protocol["label_rule"])
    yield Fact("classes", ", ".join(protocol["classes"]))
    yield Fact("images", ", ".join(f"{number:,} {split}" for split, number in protocol["n"].items()))
    for part, role in protocol["roles"].items():
        yield Fact(part, role)
    yield Fact("validation", protocol["validation"])
    yield Fact("split hash", protocol["split_hash"])
    selection = protocol["selection"]
    mark: Literal["", "unsound"] = "unsound" if selection["split"] in {scored.split, "test"} else ""
    yield Fact("selected on", f"{selection['split']}, by {selection['metric']}: {selection['what']}", mark)
    yield Fact("configurations tried", f"{selection['tried']} on {selection['split']}")
    times = protocol["times_these_items_were_scored"]
    yield Fact("scored on these items", f"{times:,} times in this store, each predictor of each model once")
    yield Fact("pretraining", protocol["pretraining"])
    yield Fact("test-time augmentation", protocol["tta"])
    yield Fact("predictor", protocol["predictor"])
    yield Fact("intervals", protocol["intervals"])
    for text in protocol["missing"]:
        yield Fact("missing", text, "caution")


def _curves(model: Artifact) -> Iterator[Curve]:
    """Yield validation accuracy along the path of lambdas, and along that of logistic regression's C."""
    table = read_table(model.file("path.parquet")).to_pylist()
    chosen = model.manifest.summary["chosen"]
    for parameter, title, label in (
        ("lambda", "Choosing lambda", "lambda"),
        ("C", "Choosing C of the logistic regression", "C"),
    ):
        rows = [row for row in table if row["parameter"] == parameter]
        names = list(dict.fromkeys(row["predictor"] for row in rows))
        x = sorted({row["value"] for row in rows})
        if not x:
            continue
        lines = {name: {row["value"]: row["accuracy"] for row in rows if row["predictor"] == name} for name in names}
        marked = chosen if chosen in names else names[0]
        best = next((row for row in rows if row["predictor"] == marked and row["chosen"]), None)
        yield Curve(
            title=title,
            x_label=label,
            y_label="validation accuracy",
            x=tuple(x),
            series=tuple(
                Series(name, tuple(line.get(value, float("nan")) for value in x)) for name, line in lines.items()
            ),
            log_x=True,
            chosen=None if best is None else (marked, x.index(best["value"])),
        )


def _lineage(scored: Scored, plan: Plan, tree: Lineage) -> LineageNode:
    return LineageNode("evaluation", plan.name, plan.version, scored.split, (_node(tree),))


def _node(node: Lineage) -> LineageNode:
    inputs = tuple(_node(parent) for parent in node.parents)
    if node.source.kind == "files":
        return LineageNode("files", node.source.name, node.source.content[:12], node.role, inputs)
    return LineageNode(node.source.kind, node.source.name, node.source.version, node.role, inputs)


def _commands(scored: Scored, features: Artifact, plan: Plan) -> Iterator[str]:
    """Yield the commands that make this evaluation again, from the data set's artifact on."""
    made, dataset = features.manifest.config, scored.dataset.artifact
    if prepared := dataset.manifest.measured.get("command"):
        yield str(prepared)
    yield _command(
        "extract",
        f"{dataset.name}@{dataset.version}",
        backbone=made["backbone"],
        level=made["level"],
        size=made["preprocessing"]["size"],
        views=",".join(made["views"]),
        dtype=made["dtype"],
        weights=_weights(features),
    )
    fitted = scored.model.manifest.config
    hierarchy = scored.model.file("hierarchy.toml")
    is_own = hierarchy.read_text(encoding="utf-8") == default_hierarchy().text
    own = {} if is_own else {"hierarchy": str(hierarchy)}
    yield _command(
        "fit-ahm",
        f"{features.name}@{features.version}",
        **own,
        paths=fitted["paths"],
        lambdas=",".join(repr(value) for value in fitted["relative_lambdas"]),
        ridge=fitted["ridge"],
        metric=fitted["metric"],
    )
    config = plan.config
    yield (
        _command(
            "eval",
            f"{scored.model.name}@{scored.model.version}",
            split=config["split"],
            predictor=config["predictor"],
            tta=config["tta"],
            resamples=config["resamples"],
            seed=config["seed"],
        )
        + " --report"
    )


def _weights(features: Artifact) -> str:
    """Return what to give to ``--weights``: ``auto`` finds again what a package or a hub gave, a file must be named."""
    weights = features.manifest.summary["weights"]
    if weights is None:
        return "none"
    return str(weights["file"]) if weights["source"] in {"file", "$FER_WEIGHTS"} else "auto"


def _command(stage: str, reference: str, **options: Any) -> str:  # noqa: ANN401 - names and values of options
    words = ["fer", stage, reference]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
