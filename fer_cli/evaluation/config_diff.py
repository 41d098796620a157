"""What tells compared systems apart: every setting of their lineage and protocol in which they are not all alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import Lineage, lineage
from fer_cli.artifacts.protocol import EvaluationProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import (
    AhmConfig,
    EnsembleConfig,
    EnsembleSummary,
    FeaturesConfig,
    FeaturesSummary,
    Measured,
    ModelConfig,
    ModelSummary,
)
from fer_cli.reporting.comparison import ABSENT, ConfigDifference

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_LONG: Final = 8


def config_diff(store: Store, evaluations: Sequence[Artifact]) -> tuple[ConfigDifference, ...]:
    """Return the settings in which the systems are not all alike.

    Where a system has nothing of a whole section, such as a training's optimiser, the section is one line: what differs
    between those that have it, or all of it.
    """
    settings = [dict(_settings(store, one)) for one in evaluations]
    names = dict.fromkeys(name for of in settings for name in of)
    different = [name for name in names if len({of.get(name) for of in settings}) > 1]
    sections = {name: name.partition(".")[0] for name in names}
    lacking = {
        section
        for section in sections.values()
        if any(all(sections[name] != section for name in of) for of in settings)
    }
    differences: dict[str, ConfigDifference] = {}
    for name in different:
        section = sections[name]
        if section not in lacking or name == section:
            differences[name] = ConfigDifference(name, tuple(of.get(name, ABSENT) for of in settings))
        elif section not in differences:
            inner = [one for one in names if sections[one] == section]
            having = [of for of in settings if any(one in of for one in inner)]
            unlike = [one for one in inner if len({of.get(one) for of in having}) > 1] or inner
            differences[section] = ConfigDifference(section, tuple(_section(of, unlike) for of in settings))
    return tuple(differences.values())


def _section(of: Mapping[str, str], names: Sequence[str]) -> str:
    return ", ".join(f"{name.partition('.')[2]} {of[name]}" for name in names if name in of) or ABSENT


def _settings(store: Store, evaluation: Artifact) -> Iterator[tuple[str, str]]:
    """Yield names and values of all that made a system, the most telling first."""
    manifest = evaluation.manifest
    node = lineage(store, evaluation)
    made = {one.artifact.kind: one.artifact for one in _nodes(node) if one.artifact is not None}
    if (source := manifest.inputs.get("model")) is not None:
        yield "kind", source.kind if source.kind != "study" else "model"
    for kind in ("ensemble",) if "ensemble" in made else ("ahm", "model", "features"):
        if kind in made:
            yield from _of_artifact(kind, made[kind])
    if (masks := made.get("masks")) is not None:  # a parser's settings are many: its masks' name and version say it
        yield "masks", f"{masks.name}@{masks.version}"
    if seeds := _seeds(node):
        yield "seeds", ", ".join(map(str, seeds))
    protocol = EvaluationProtocol.of(evaluation)
    yield from _of_protocol(protocol)
    if (dataset := manifest.inputs.get("dataset")) is not None:
        yield "dataset", f"{dataset.name}@{dataset.version}"
    measured = Measured.of(evaluation)
    if speed := measured.images_per_second:
        yield "images a second", f"{speed:,.0f} ({measured.device or 'device unknown'})"
    if (trained := made.get("ensemble") or made.get("model") or made.get("ahm")) is not None:
        yield "made by", f"fer {trained.manifest.code.version} {(trained.manifest.code.commit or '')[:7]}".strip()


def _of_artifact(kind: str, artifact: Artifact) -> Iterator[tuple[str, str]]:
    match kind:
        case "ensemble":
            mixture = EnsembleSummary.of(artifact)
            yield "ensemble.members", ", ".join(mixture.members)
            yield "ensemble.rule of weights", EnsembleConfig.of(artifact).weights
            yield "ensemble.weights", _text(mixture.weights)
            yield "ensemble.temperature", _text(mixture.temperature)
            yield from _cost(mixture)
        case "model":
            config, summary = ModelConfig.of(artifact), ModelSummary.of(artifact)
            yield "system", config.system
            yield from _flat("", config.recipe)  # named as in the recipe
            yield from _flat("preprocessing", summary.preprocessing)
            yield from _cost(summary)
        case "features":
            extraction = FeaturesConfig.of(artifact)
            yield "model.backbone", extraction.backbone  # as of a model
            yield "model.weights", _text(extraction.weights)
            yield "features.level", extraction.level
            yield "features.views", _text(extraction.views)
            yield "features.dtype", extraction.dtype
            yield from _flat("preprocessing", extraction.preprocessing)
            yield from _cost(FeaturesSummary.of(artifact))
        case "ahm":
            yield from _flat("ahm", AhmConfig.of(artifact).record())


def _cost(summary: ModelSummary | FeaturesSummary | EnsembleSummary) -> Iterator[tuple[str, str]]:
    yield "parameters", _text(summary.parameters)
    yield "multiply-adds", _text(summary.multiply_adds)


def _of_protocol(protocol: EvaluationProtocol) -> Iterator[tuple[str, str]]:
    """Yield what a protocol says, but for what is compared before, or is shown with the scores."""
    data, training = protocol.data, protocol.training
    seen = data if training is None else training.data
    yield from _flat("images", {split: n for split, n in seen.n.items() if split != protocol.split})
    for finding in protocol.checks:
        yield f"check of {finding.check}", finding.verdict
    yield "split", protocol.split
    for name in ("family", "synthetic", "split_hash", "leaky_frame_split", "subjects_named", "missing", "fold"):
        yield name.replace("_", " "), _text(getattr(data, name))
    for what in ("duplicates", "subjects", "sequences"):
        yield f"{what} across splits", _text(getattr(data, f"{what}_across_splits"))
    for part, role in data.roles():
        yield f"parts.{part}", role
    yield "validation", str(data.validation)
    yield "test", str(data.test)
    for name in ("alignment", "duplicates_left_out"):
        yield name.replace("_", " "), _text(getattr(data, name))
    if protocol.trained_on is not None:
        yield "trained on", protocol.trained_on.dataset
    if training is None:
        yield "trained on", "unknown"
    else:
        yield "pretraining", str(training.pretraining)
        if training.start is not None:
            yield "starting weights", str(training.start)
        if training.selection is not None:
            yield from _flat("selection", training.selection.record())
        if training.views is not None:
            yield "views", _text(training.views)
    yield "test-time augmentation", protocol.tta
    yield "batching", _text(protocol.batching)
    yield "mixes batch", _text(protocol.mixes_batch)


def _nodes(node: Lineage) -> Iterator[Lineage]:
    """Yield an artifact and all that it was made from; of several of a kind the first seed's comes last."""
    for parent in reversed(node.parents):
        yield from _nodes(parent)
    yield node


def _seeds(node: Lineage) -> list[int]:
    models = [one.artifact for one in _nodes(node) if one.artifact is not None and one.artifact.kind == "model"]
    return sorted({ModelConfig.of(model).seed for model in models})


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else key, inner)
    else:
        yield name, _text(value)


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        if len(value) > _LONG:
            return f"{len(value)} values, {_text(value[0])} to {_text(value[-1])}"
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and _HASH.fullmatch(value):
        return value[:12]
    return "none" if value is None else str(value)
