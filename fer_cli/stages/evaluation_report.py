"""What an evaluation's report says: the evaluation, its protocol and its lineage put into the report's words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.store import Plan, Store
from fer_cli.artifacts.upkeep import Lineage, lineage
from fer_cli.reporting.heat import png_uri
from fer_cli.reporting.report import (
    Fact,
    LineageNode,
    Mistake,
    Predictor,
    ReportData,
    render_report,
)
from fer_cli.stages.scored import Scored, Told

_BATCHINGS: Final = {
    "alone": "each image alone",
    "stored": "in the order of the data set",
    "shuffled": "of 32, shuffled",
    "sorted": "of 32, class by class",
}
MISTAKES: Final = 12
THUMBNAIL: Final = 72
INTENDED_USE: Final = (
    "Comparing methods for facial expression recognition under one protocol, and looking at where they fail.",
)
LIMITS: Final = (
    "Labels are expressions that people saw in a picture, not what the person pictured felt.",
    "Scores hold for pictures like those of this data set, not for other cameras, ages, skins or cultures.",
    "Not for decisions about people: hiring, policing, health, education, credit.",
)


def report_html(store: Store, scored: Scored, plan: Plan) -> str:
    """Return the report of an evaluation as one HTML page."""
    manifest = scored.model.manifest
    chosen = scored.metrics[scored.chosen]
    told = scored.subject.told(scored.measured)
    looks, scatter = scored.subject.look(scored) if scored.subject.look else (None, None)
    data = ReportData(
        title=f"{manifest.config.get('system', scored.model.kind)} on {scored.dataset.artifact.name}",
        subtitle=f"{told.subtitle}; {chosen.n:,} images of the {scored.split} split",
        split=scored.split,
        predictors=tuple(
            Predictor(
                name=name,
                metrics=metrics,
                note=told.notes.get(name, ""),
                chosen=name == scored.chosen,
                gain=scored.gains.get(name),
            )
            for name, metrics in scored.metrics.items()
        ),
        reference=scored.subject.reference or "",
        unsound=scored.soundness.unsound,
        cautions=scored.soundness.cautions,
        cost=told.cost,
        mistakes=tuple(_mistakes(scored)),
        mistakes_note="the most confident wrong answers, at most three of each true class",
        protocol=tuple(_facts(scored)),
        curves=told.curves,
        scatter=scatter,
        looks=looks,
        lineage=_lineage(scored, plan, lineage(store, scored.model)),
        intended_use=INTENDED_USE,
        limits=LIMITS,
        versions=tuple(
            Fact(key, str(value))
            for key, value in {**manifest.code.model_dump(), **manifest.environment}.items()
            if value
        ),
        commands=tuple(_commands(scored, told, plan)),
    )
    return render_report(data)


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
    return png_uri(np.asarray(image))


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
    if "batching" in protocol:
        alone = not protocol["mixes_batch"] or protocol["batching"] == "alone"
        yield Fact("scored in batches", _BATCHINGS[protocol["batching"]], "" if alone else "unsound")
    yield Fact("predictor", protocol["predictor"])
    yield Fact("intervals", protocol["intervals"])
    for text in protocol["missing"]:
        yield Fact("missing", text, "caution")


def _lineage(scored: Scored, plan: Plan, tree: Lineage) -> LineageNode:
    return LineageNode("evaluation", plan.name, plan.version, scored.split, (_node(tree),))


def _node(node: Lineage) -> LineageNode:
    inputs = tuple(_node(parent) for parent in node.parents)
    if node.source.kind == "files":
        return LineageNode("files", node.source.name, node.source.content[:12], node.role, inputs)
    return LineageNode(node.source.kind, node.source.name, node.source.version, node.role, inputs)


def _commands(scored: Scored, told: Told, plan: Plan) -> Iterator[str]:
    """Yield the commands that make this evaluation again, from the data set's on."""
    if prepared := scored.dataset.artifact.manifest.measured.get("command"):
        yield str(prepared)
    yield from told.commands
    config = plan.config
    yield (
        command_line(
            "eval",
            f"{scored.model.kind}/{scored.model.name}@{scored.model.version}",
            split=config["split"],
            predictor=config["predictor"],
            tta=config["tta"],
            **({"batching": config["batching"]} if "batching" in config else {}),
            resamples=config["resamples"],
            seed=config["seed"],
        )
        + " --report"
    )


def command_line(stage: str, reference: str, **options: Any) -> str:  # noqa: ANN401 - names and values of options
    """Return a command of fer as a shell takes it."""
    words = ["fer", *stage.split(), reference]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
