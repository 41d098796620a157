"""What an evaluation's report says: the evaluation, its protocol and its lineage put into the report's words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np

from fer_cli.artifacts.maintenance import Lineage, lineage
from fer_cli.artifacts.protocol import LEAKY_FRAMES, DatasetProtocol, EnsembleTraining, EvaluationProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import Measured
from fer_cli.artifacts.work import Plan
from fer_cli.core import provenance
from fer_cli.evaluation.cross_dataset import split_counts
from fer_cli.evaluation.predictor import EvaluationResult, ReportExtras
from fer_cli.evaluation.sanity_checks import is_amber
from fer_cli.reporting.heatmap import thumbnail
from fer_cli.reporting.lettering import page_fonts
from fer_cli.reporting.report import Fact, LineageNode, Mistake, PredictorScores, ReportData, render_report

_BATCHINGS: Final = {
    "alone": "each image alone",
    "stored": "in the order of the dataset",
    "shuffled": "of 32, shuffled",
    "sorted": "of 32, class by class",
}
_MARKS: Final[dict[str, Literal["", "unsound", "caution"]]] = {
    "pass": "",
    "cannot be told": "caution",
    "not measured": "caution",
    "caution": "caution",
    "fail": "unsound",
}
MISTAKES: Final = 12
INTENDED_USE: Final = (
    "Comparing methods for facial expression recognition under one protocol, and looking at where they fail.",
)
LIMITS: Final = (
    "Labels are expressions that annotators saw in an image, not what the person felt.",
    "Scores hold for images like those of this dataset, not for other cameras, ages, skins or cultures.",
    "Not for decisions about people: hiring, policing, health, education, credit.",
)


def report_html(store: Store, scored: EvaluationResult, plan: Plan) -> str:
    """Return the report of an evaluation as one HTML page."""
    with page_fonts():
        return render_report(_report_data(store, scored, plan))


def _report_data(store: Store, scored: EvaluationResult, plan: Plan) -> ReportData:
    chosen = scored.metrics[scored.chosen]
    extras = scored.predictor.report_extras(scored.measured)
    explained = scored.predictor.explain(scored)
    return ReportData(
        title=f"{scored.predictor.origin.title} on {scored.dataset.artifact.name}",
        subtitle=f"{extras.subtitle}; {chosen.n:,} images of the {scored.split} split",
        split=scored.split,
        predictors=tuple(
            PredictorScores(
                name=name,
                metrics=metrics,
                note=extras.notes.get(name, ""),
                chosen=name == scored.chosen,
                gain=scored.gains.get(name),
            )
            for name, metrics in scored.metrics.items()
        ),
        reference=scored.predictor.reference or "",
        subsets=scored.subsets,
        unsound=scored.warnings.unsound,
        cautions=scored.warnings.cautions,
        cost=extras.cost,
        mistakes=tuple(_mistakes(scored)),
        mistakes_note=_mistakes_note(scored),
        protocol=(*_facts(scored), *(Fact(name, text) for name, text in extras.facts)),
        recipe=extras.recipe,
        figures=(*extras.figures, *explained),
        lineage=_lineage(store, scored, plan),
        intended_use=INTENDED_USE,
        limits=LIMITS,
        versions=tuple(Fact(key, str(value)) for key, value in _versions(scored).items() if value),
        commands=tuple(_commands(scored, extras)),
    )


def _mistakes(scored: EvaluationResult) -> Iterator[Mistake]:
    """Yield the most confident wrong answers, at most three of a class so that a common one does not fill the list.

    Of several runs those that all of them have wrong, with the class that most of them predict.
    """
    tables, calibrated = np.stack(list(scored.chosen_tables.values())), scored.predictor.calibrated
    true, answers = scored.dataset.labels[scored.rows], tables.argmax(axis=2)
    probabilities = tables.mean(axis=0)
    votes = (answers[..., None] == np.arange(tables.shape[2])).sum(axis=0)
    guess = (votes + probabilities / 2).argmax(axis=1)  # of equally many votes the more probable class
    wrong = np.flatnonzero((answers != true).all(axis=0) & ~scored.predictor.no_answer(scored.rows))
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
            score=float(probabilities[item, guess[item]]) if calibrated else float("nan"),
            label_score=float(probabilities[item, label]) if calibrated else float("nan"),
            thumbnail=thumbnail(scored.dataset.images[scored.rows[item]]),
        )


def _mistakes_note(scored: EvaluationResult) -> str:
    which = "most confident" if scored.predictor.calibrated else "first"
    if (runs := len(scored.chosen_tables)) > 1:
        all_of_them = "both" if runs == 2 else f"all {runs}"
        which = f"images that {all_of_them} seeds have wrong, the {which} first; scores are means over the seeds"
        return f"{which}; at most three of each true class"
    return f"the {which} wrong answers, at most three of each true class"


def _versions(scored: EvaluationResult) -> dict[str, Any]:
    """Return what the scores were made with: of an artifact what made it, of a file what read it."""
    if (artifact := scored.predictor.origin.artifact) is None:
        return {**provenance.code_version(), **provenance.environment()}
    return {**artifact.manifest.code.model_dump(), **artifact.manifest.environment}


def _facts(scored: EvaluationResult) -> Iterator[Fact]:
    protocol, data = scored.protocol, scored.protocol.data
    yield Fact("dataset", f"{scored.dataset.artifact.name}@{scored.dataset.artifact.version}")
    yield Fact("labels", data.label_rule)
    yield Fact("classes", ", ".join(data.classes))
    yield from _common_facts(protocol)
    yield Fact("images", _counts(data))
    parts = {one.part for one in data.parts}
    for what, text in data.roles():
        yield Fact(f"source part {what}" if what in parts else what, text)
    if data.alignment is not None:
        yield Fact("alignment", str(data.alignment))
    yield Fact("validation split", str(data.validation))
    yield Fact("test split", str(data.test))
    if data.leaky_frame_split:
        yield Fact("split", LEAKY_FRAMES, "unsound")
    yield Fact("split hash", data.split_hash)
    yield from _training_facts(scored)
    times = protocol.times_these_items_were_scored
    often = "once" if times == 1 else f"{times:,} times"
    yield Fact("scored on these items", f"{often} in this store, counting each predictor of each model")
    if protocol.batching is not None:
        alone = not protocol.mixes_batch or protocol.batching == "alone"
        yield Fact("scored in batches", _BATCHINGS[protocol.batching], "" if alone else "unsound")
    yield Fact("predictor", protocol.predictor)
    if by_fold := scored.by_fold():
        shares = by_fold.accuracy[scored.chosen]
        spread = f"mean {np.mean(shares):.1%}, SD {np.std(shares, ddof=1):.1%}, least {min(shares):.1%}, "
        spread += f"most {max(shares):.1%}"
        yield Fact("accuracy by fold", f"{spread}; all other numbers are of all images together")
    yield Fact("intervals", str(protocol.intervals))
    for finding in protocol.checks:
        mark = "caution" if is_amber(finding, scored.predictor) else _MARKS[finding.verdict]
        # A mark says it already: "fail (caution)" would be both.
        verdict = "" if finding.verdict in {"fail", "caution"} else f"{finding.verdict}; "
        yield Fact(f"check: {finding.check}", f"{verdict}{finding.measured}", mark)
    for text in data.missing:
        yield Fact("missing", text, "caution")
    for odd in data.odd_images:
        yield Fact("images", str(odd))
    for leftover in data.leftovers:
        yield Fact("source", str(leftover), "caution" if leftover.matters else "")


def _training_facts(scored: EvaluationResult) -> Iterator[Fact]:
    protocol, training = scored.protocol, scored.protocol.training
    if training is None:
        if (file := protocol.predictions) is not None:
            column = "" if file.answer is None else f", column {file.answer}"
            yield Fact("predictions", f"{file.file}{column}, as {file.form}, hash {file.content[:16]}")
            if file.unanswered:
                yield Fact("without an answer", f"{file.unanswered:,} images, which count as wrong", "caution")
        yield Fact("trained and selected on", "unknown", "caution")
        return
    if (other := protocol.trained_on) is not None:
        seen = training.data
        yield Fact("trained on", f"{other.dataset}, {seen.label_rule}; {_counts(seen)}; {other.images}")
    if (selection := training.selection) is not None:
        optimistic = selection.split == "test" or (scored.predictor.is_own and selection.split == scored.split)
        metric = selection.metric.replace("_", " ").replace("f1", "F1")
        text = f"{selection.split}, by {metric}: {selection.what}"
        yield Fact("selected on", text, "unsound" if optimistic else "")
        yield Fact("configurations tried", f"{selection.tried:,} on {selection.split}")
        if selection.trials is not None:
            yield Fact("recipe selected from", f"{selection.trials:,} settings of a search, on {selection.split}")
    yield Fact("pretraining", str(training.pretraining))
    if (start := training.start) is not None:
        yield Fact("starting weights", str(start))
        yield Fact("which had seen of its data set", start.held_out, "caution" if start.unknown else "")
    if training.teacher is not None:
        yield Fact("teacher", str(training.teacher))
    yield Fact("computed with", training.computed_with)
    if (ensemble := training.ensemble) is not None:
        yield Fact("weights of the members", ensemble.weights if ensemble.weights == "equal" else _fitted(ensemble))
        for member in ensemble.members:
            optimistic = member.selection is not None and member.selection.split == "test"
            yield Fact(f"member {member.reference}", str(member), "unsound" if optimistic else "")
    yield Fact("test-time augmentation", protocol.tta)


def _fitted(ensemble: EnsembleTraining) -> str:
    return f"fitted on {ensemble.fitted_on}, by cross-entropy"


def _counts(data: DatasetProtocol) -> str:
    return ", ".join(f"{number:,} {split}" for split, number in data.n.items())


def _common_facts(protocol: EvaluationProtocol) -> Iterator[Fact]:
    common = protocol.classes_in_common
    if common is None:
        return
    yield Fact("rule for these classes", common.rule)
    if counts := split_counts(protocol):
        yield Fact("images left out", f"{counts}: the predictor does not know these classes", "caution")
    if common.left_out_of_predictor:
        yield Fact("classes left out", f"{', '.join(common.left_out_of_predictor)}: the dataset lacks them", "caution")


def _lineage(store: Store, scored: EvaluationResult, plan: Plan) -> LineageNode:
    """Return the tree of an evaluation: of what was scored, and of the dataset where that is not below it."""
    origin, parents = scored.predictor.origin, []
    if origin.artifact is not None:
        parents.append(_node(lineage(store, origin.artifact)))
    else:
        parents.append(LineageNode("files", origin.source.name, origin.source.content[:12], "predictions"))
    if not scored.predictor.is_own:
        parents.append(_node(lineage(store, scored.dataset.artifact, "scored on")))
    return LineageNode("evaluation", plan.name, plan.version, scored.split, tuple(parents))


def _node(node: Lineage) -> LineageNode:
    inputs = tuple(_node(parent) for parent in node.parents)
    if node.source.kind == "files":
        return LineageNode("files", node.source.name, node.source.content[:12], node.role, inputs)
    return LineageNode(node.source.kind, node.source.name, node.source.version, node.role, inputs)


def _commands(scored: EvaluationResult, extras: ReportExtras) -> Iterator[str]:
    """Yield the commands that make this evaluation again, from the datasets' on."""
    predictor = scored.predictor
    record = predictor.training_record
    sources = [scored.dataset] if record is None or predictor.is_own else [record.dataset, scored.dataset]
    for source in sources:
        if prepared := Measured.of(source.artifact).command:
            yield prepared
    yield from extras.commands
    data = {} if predictor.is_own else {"data": scored.dataset.artifact.reference}
    shown = {} if predictor.predictions is not None else {"predictor": scored.chosen, "tta": scored.protocol.tta}
    yield (
        command_line(
            "eval",
            *predictor.origin.command,
            **data,
            split=scored.split,
            **shown,
            **({} if predictor.batching is None else {"batching": predictor.batching}),
            resamples=scored.protocol.intervals.resamples,
            seed=scored.protocol.intervals.seed,
        )
        + " --report"
    )


def command_line(stage: str, *arguments: str, **options: Any) -> str:  # noqa: ANN401 - names and values of options
    """Return a command of fer as a shell takes it."""
    words = ["fer", *stage.split(), *arguments]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
