"""What tells compared systems apart: every setting of their lineage and protocol in which they are not all alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fer_cli.artifacts.maintenance import Lineage, lineage
from fer_cli.artifacts.store import Artifact, Store
from fer_cli.reporting.comparison import ABSENT, ConfigDifference

_SHOWN_ELSEWHERE: Final = {
    *("classes", "label_rule", "dataset", "predictor"),
    *("times_these_items_were_scored", "intervals"),
}
"""Parts of a protocol that are compared before, that stand beside the scores, or that say nothing of the system."""
_SAME_AS: Final = {"features.backbone": "model.backbone", "features.weights": "model.weights"}
"""Settings that different kinds of artifacts call otherwise."""
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
    found: dict[str, ConfigDifference] = {}
    for name in different:
        section = sections[name]
        if section not in lacking or name == section:
            found[name] = ConfigDifference(name, tuple(of.get(name, ABSENT) for of in settings))
        elif section not in found:
            inner = [one for one in names if sections[one] == section]
            having = [of for of in settings if any(one in of for one in inner)]
            unlike = [one for one in inner if len({of.get(one) for of in having}) > 1] or inner
            found[section] = ConfigDifference(section, tuple(_section(of, unlike) for of in settings))
    return tuple(found.values())


def _section(of: Mapping[str, str], names: Sequence[str]) -> str:
    return ", ".join(f"{name.partition('.')[2]} {of[name]}" for name in names if name in of) or ABSENT


def _settings(store: Store, evaluation: Artifact) -> Iterator[tuple[str, str]]:
    """Yield names and values of all that made a system, the most telling first."""
    manifest = evaluation.manifest
    node = lineage(store, evaluation)
    made = {one.artifact.kind: one.artifact for one in _nodes(node) if one.artifact is not None}
    if (source := manifest.inputs.get("model")) is not None:
        yield "kind", source.kind if source.kind != "study" else "model"
    for kind in ("ahm", "model", "features"):
        if kind in made:
            yield from _of_artifact(kind, made[kind])
    if (masks := made.get("masks")) is not None:  # a parser's settings are many: its masks' name and version say it
        yield "masks", f"{masks.name}@{masks.version}"
    if seeds := _seeds(node):
        yield "seeds", ", ".join(map(str, seeds))
    protocol = {key: value for key, value in manifest.protocol.items() if key not in _SHOWN_ELSEWHERE}
    scored = manifest.config["split"]
    yield from _flat("images", {split: n for split, n in protocol.pop("n", {}).items() if split != scored})
    for check in protocol.pop("checks", []):
        yield f"check of {check['check']}", check["verdict"]
    for key, value in protocol.items():
        yield from _flat(key.replace("_", " "), value)
    if (dataset := manifest.inputs.get("dataset")) is not None:
        yield "data set", f"{dataset.name}@{dataset.version}"
    if speed := manifest.measured.get("images_per_second"):
        yield "images a second", f"{speed:,.0f} ({manifest.measured.get('device', 'device not told')})"
    if (trained := made.get("model") or made.get("ahm")) is not None:
        yield "made by", f"fer {trained.manifest.code.version} {(trained.manifest.code.commit or '')[:7]}".strip()


def _of_artifact(kind: str, artifact: Artifact) -> Iterator[tuple[str, str]]:
    config, summary = artifact.manifest.config, artifact.manifest.summary
    for key, value in config.items():
        if key in {"seed", "fold", "classes", "select_on"}:  # of a study together; or they stand in the protocol
            continue
        if kind == "model" or key == "preprocessing":  # a model's settings are named as in its recipe
            yield from _flat(key, value)
        else:
            name = f"{kind}.{key}"
            yield from _flat(_SAME_AS.get(name, name), value)
    if kind == "model":
        yield from _flat("preprocessing", summary.get("preprocessing", {}))
    if kind in {"model", "features"}:
        for key in ("parameters", "multiply_adds"):
            if key in summary:
                yield key.replace("_", "-"), _text(summary[key])


def _nodes(node: Lineage) -> Iterator[Lineage]:
    """Yield an artifact and all that it was made from; of several of a kind the first seed's comes last."""
    for parent in reversed(node.parents):
        yield from _nodes(parent)
    yield node


def _seeds(node: Lineage) -> list[int]:
    models = [one.artifact for one in _nodes(node) if one.artifact is not None and one.artifact.kind == "model"]
    return sorted({int(model.manifest.config["seed"]) for model in models})


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, _text(value)


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
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
