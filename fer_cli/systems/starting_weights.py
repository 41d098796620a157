"""Weights that a training or an extraction begins with: pretrained ones, or those of a model of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import TrainingProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelConfig
from fer_cli.core.errors import FerError
from fer_cli.models.trained import WEIGHTS
from fer_cli.systems import registry
from fer_cli.weights.files import SUFFIXES, WeightsFile, find_weights

SINGLE: Final = ("model", "study", "ensemble", "ahm", "search")
"""What a reference may name, so that what is no single network is refused as what it is."""
_WORDS: Final = ("auto", "try", "none")


def find_starting_weights(store: Store, backbone: str, wanted: str) -> WeightsFile | None:
    """Return the weights for a backbone as :func:`find_weights` does; or those of a model, by its reference.

    Raises:
        FerError: there is no such file or model, it has another backbone, or it keeps none.
    """
    path = Path(wanted)
    if wanted in _WORDS or path.is_file() or path.suffix in SUFFIXES:
        return find_weights(backbone, wanted)
    model = find_network(store, wanted)
    if registry.load(system := ModelConfig.of(model).system).backbone_prefix is None:
        what = f"{model.reference} is a model of {system}, which keeps no whole backbone to begin with"
        raise FerError(what, hint="name a model of another system")
    own = ModelConfig.of(model).recipe.get("model", {}).get("backbone")
    if str(own).partition(".")[0] != backbone.partition(".")[0]:
        raise FerError(
            f"{model.reference} is a {own}, not a {backbone}",
            hint=f"set model.backbone={own}, or begin with a model of {backbone}",
        )
    return weights_of(model)


def find_network(store: Store, reference: str) -> Artifact:
    """Return the model that a reference names.

    Raises:
        FerError: there is none, or it holds several networks, or none.
    """
    artifact = store.find(reference, SINGLE)
    if artifact.kind == "model":
        return artifact
    if artifact.kind in {"ahm", "search"}:
        raise FerError(f"{artifact.reference} is no network", hint="name a model; 'fer ls model' lists them")
    members = [one for one in artifact.manifest.inputs.values() if one.kind == "model"]
    named = f", such as model/{members[0].name}@{members[0].version}" if members else ""
    raise FerError(f"{artifact.reference} holds several networks", hint=f"name one of its models{named}")


def weights_of(model: Artifact) -> WeightsFile:
    """Return the weights of a model: those of its backbone, where it keeps a whole one.

    Raises:
        FerError: its system is not installed, or its file is damaged.
    """
    config = ModelConfig.of(model)
    data = TrainingProtocol.of(model).data
    return WeightsFile(
        path=model.file(WEIGHTS),
        source=model.reference,
        pretraining=f"{data.dataset} ({data.label_rule})",
        kind="artifact",
        model=model,
        prefix=registry.load(config.system).backbone_prefix or "",
        classes=config.classes,
    )
