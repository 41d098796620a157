"""What an evaluation's report says: the evaluation, its protocol and its lineage put into the report's words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.maintenance import Lineage, lineage
from fer_cli.artifacts.store import Plan, Store
from fer_cli.core import provenance
from fer_cli.evaluation.cross_dataset import split_counts
from fer_cli.evaluation.predictor import EvaluationResult, ReportExtras
from fer_cli.evaluation.sanity_checks import is_amber
from fer_cli.reporting.heatmap import png_uri
from fer_cli.reporting.report import Fact, LineageNode, Mistake, PredictorScores, ReportData, render_report

_BATCHINGS: Final = {
    "alone": "each image alone",
    "stored": "in the order of the data set",
    "shuffled": "of 32, shuffled",
    "sorted": "of 32, class by class",
}
_MARKS: Final[dict[str, Literal["", "unsound", "caution"]]] = {
    "pass": "",
    "not measured": "caution",
    "caution": "caution",
    "fail": "unsound",
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


def report_html(store: Store, scored: EvaluationResult, plan: Plan) -> str:
    """Return the report of an evaluation as one HTML page."""
    chosen = scored.metrics[scored.chosen]
    told = scored.subject.told(scored.measured)
    explained = scored.subject.look(scored) if scored.subject.look else ()
    data = ReportData(
        title=f"{scored.subject.origin.title} on {scored.dataset.artifact.name}",
        subtitle=f"{told.subtitle}; {chosen.n:,} images of the {scored.split} split",
        split=scored.split,
        predictors=tuple(
            PredictorScores(
                name=name,
                metrics=metrics,
                note=told.notes.get(name, ""),
                chosen=name == scored.chosen,
                gain=scored.gains.get(name),
            )
            for name, metrics in scored.metrics.items()
        ),
        reference=scored.subject.reference or "",
        subsets=scored.subsets,
        unsound=scored.soundness.unsound,
        cautions=scored.soundness.cautions,
        cost=told.cost,
        mistakes=tuple(_mistakes(scored)),
        mistakes_note=f"the {'most confident' if scored.subject.calibrated else 'first'} wrong answers, at most three "
        "of each true class",
        protocol=tuple(_facts(scored)),
        figures=(*told.figures, *explained),
        lineage=_lineage(store, scored, plan),
        intended_use=INTENDED_USE,
        limits=LIMITS,
        versions=tuple(Fact(key, str(value)) for key, value in _versions(scored).items() if value),
        commands=tuple(_commands(scored, told, plan)),
    )
    return render_report(data)


def _mistakes(scored: EvaluationResult) -> Iterator[Mistake]:
    """Yield the most confident wrong answers, at most three of a class so that a common one does not fill the list."""
    probabilities, told = scored.probabilities[scored.chosen], scored.subject.calibrated
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
            score=float(probabilities[item, guess[item]]) if told else float("nan"),
            label_score=float(probabilities[item, label]) if told else float("nan"),
            thumbnail=_thumbnail(scored.dataset.images[scored.rows[item]]),
        )


def _thumbnail(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    image = Image.fromarray(np.asarray(pixels)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    return png_uri(np.asarray(image))


def _versions(scored: EvaluationResult) -> dict[str, Any]:
    """Return what the scores were made with: of an artifact what made it, of a file what read it."""
    if (artifact := scored.subject.origin.artifact) is None:
        return {**provenance.code_version(), **provenance.environment()}
    return {**artifact.manifest.code.model_dump(), **artifact.manifest.environment}


def _facts(scored: EvaluationResult) -> Iterator[Fact]:
    protocol = scored.protocol
    reference = f"{scored.dataset.artifact.name}@{scored.dataset.artifact.version}"
    yield Fact("data set", reference)
    yield Fact("labels", protocol["label_rule"])
    yield Fact("classes", ", ".join(protocol["classes"]))
    yield from _common_facts(scored)
    yield Fact("images", ", ".join(f"{number:,} {split}" for split, number in protocol["n"].items()))
    for part, role in protocol["roles"].items():
        yield Fact(part, role)
    if "alignment" in protocol:
        yield Fact("alignment", protocol["alignment"])
    yield Fact("validation", protocol["validation"])
    yield Fact("test", protocol["test"])
    if protocol.get("unsound_split"):
        yield Fact("split", protocol["unsound_split"], "unsound")
    yield Fact("split hash", protocol["split_hash"])
    if (trained := protocol.get("trained_on")) is not None:
        counts = ", ".join(f"{number:,} {split}" for split, number in trained["n"].items())
        yield Fact("learned from", f"{trained['dataset']}, {trained['label_rule']}; {counts}; {trained['pictures']}")
    if (file := protocol.get("predictions")) is not None:
        yield Fact("predictions", f"{file['file']}, as {file['form']}, hash {file['content'][:16]}")
        yield Fact("learned and selected on", protocol["selection"]["split"], "caution")
    else:
        selection = protocol["selection"]
        optimistic = selection["split"] == "test" or (scored.subject.is_own and selection["split"] == scored.split)
        said = f"{selection['split']}, by {selection['metric']}: {selection['what']}"
        yield Fact("selected on", said, "unsound" if optimistic else "")
        yield Fact("configurations tried", f"{selection['tried']} on {selection['split']}")
        yield Fact("pretraining", protocol["pretraining"])
        yield Fact("test-time augmentation", protocol["tta"])
    times = protocol["times_these_items_were_scored"]
    yield Fact("scored on these items", f"{times:,} times in this store, each predictor of each model once")
    if "batching" in protocol:
        alone = not protocol["mixes_batch"] or protocol["batching"] == "alone"
        yield Fact("scored in batches", _BATCHINGS[protocol["batching"]], "" if alone else "unsound")
    yield Fact("predictor", protocol["predictor"])
    if by_fold := scored.by_fold():
        shares = by_fold["accuracy"][scored.chosen]
        spread = f"mean {np.mean(shares):.1%}, least {min(shares):.1%}, most {max(shares):.1%}"
        yield Fact("accuracy by fold", f"{spread}; all other numbers are of all images together")
    yield Fact("intervals", protocol["intervals"])
    for finding in scored.findings:
        mark = "caution" if is_amber(finding, scored.subject) else _MARKS[finding.verdict]
        yield Fact(f"check: {finding.check}", f"{finding.verdict}; {finding.measured}", mark)
    for text in protocol["missing"]:
        yield Fact("missing", text, "caution")


def _common_facts(scored: EvaluationResult) -> Iterator[Fact]:
    common = scored.protocol.get("classes_in_common")
    if common is None:
        return
    yield Fact("rule for these classes", common["rule"])
    if counts := split_counts(scored.protocol, scored.split):
        yield Fact("images left out", f"{counts}: the predictor does not know these classes", "caution")
    if common["predictors_left_out"]:
        yield Fact(
            "classes left out", f"{', '.join(common['predictors_left_out'])}: the data set lacks them", "caution"
        )


def _lineage(store: Store, scored: EvaluationResult, plan: Plan) -> LineageNode:
    """Return the tree of an evaluation: of what was scored, and of the data set where that is not below it."""
    origin, parents = scored.subject.origin, []
    if origin.artifact is not None:
        parents.append(_node(lineage(store, origin.artifact)))
    else:
        parents.append(LineageNode("files", origin.source.name, origin.source.content[:12], "predictions"))
    if not scored.subject.is_own:
        parents.append(_node(lineage(store, scored.dataset.artifact, "scored on")))
    return LineageNode("evaluation", plan.name, plan.version, scored.split, tuple(parents))


def _node(node: Lineage) -> LineageNode:
    inputs = tuple(_node(parent) for parent in node.parents)
    if node.source.kind == "files":
        return LineageNode("files", node.source.name, node.source.content[:12], node.role, inputs)
    return LineageNode(node.source.kind, node.source.name, node.source.version, node.role, inputs)


def _commands(scored: EvaluationResult, told: ReportExtras, plan: Plan) -> Iterator[str]:
    """Yield the commands that make this evaluation again, from the data sets' on."""
    subject, config = scored.subject, plan.config
    sources = (
        [scored.dataset] if subject.learned is None or subject.is_own else [subject.learned.dataset, scored.dataset]
    )
    for source in sources:
        if prepared := source.artifact.manifest.measured.get("command"):
            yield str(prepared)
    yield from told.commands
    data = {} if subject.is_own else {"data": scored.dataset.artifact.reference}
    shown = {"predictor": config["predictor"], "tta": config["tta"]} if subject.learned else {}
    yield (
        command_line(
            "eval",
            *subject.origin.command,
            **data,
            split=config["split"],
            **shown,
            **({"batching": config["batching"]} if "batching" in config else {}),
            resamples=config["resamples"],
            seed=config["seed"],
        )
        + " --report"
    )


def command_line(stage: str, *arguments: str, **options: Any) -> str:  # noqa: ANN401 - names and values of options
    """Return a command of fer as a shell takes it."""
    words = ["fer", *stage.split(), *arguments]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
