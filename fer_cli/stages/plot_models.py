"""Pictures of trained models: training curves, and Grad-CAM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fer_cli import env
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.upkeep import open_parent
from fer_cli.datasets.dataset import open_dataset
from fer_cli.progress import note, track
from fer_cli.stages.scored_model import models_of, read_history

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH: Final = 16
LOOKED_AT: Final = 400
"""Images of each class that examples are taken from."""


def curves(store: Store, *, reference: str | None) -> tuple[str, Figure]:
    """Draw the training of a model, or of all models of a study."""
    from fer_cli.reporting.curves import curves_figure

    artifact = store.find(reference, ["model", "study"])
    models = models_of(store, artifact)
    first = next(iter(models.values())).manifest
    metric = first.config["train"]["select"]
    figure = curves_figure(
        {name: read_history(model) for name, model in models.items()},
        chosen={name: model.manifest.summary["epoch"] for name, model in models.items()},
        metric=metric if metric in {"accuracy", "balanced_accuracy", "macro_f1"} else "balanced_accuracy",
        title=f"Training of {artifact.name}",
        subtitle=_subtitle(first.config["system"], first.config["model"]["backbone"], first.inputs["dataset"].name),
    )
    return artifact.name, figure


def gradcam(
    store: Store, *, reference: str | None, split: str | None, each: int, seed: int, device: str
) -> tuple[str, Figure]:
    """Draw where a model looks: for each class the most confident right and wrong answers among some images.

    Args:
        store: where artifacts are.
        reference: of a model; the newest where it is None.
        split: whose images; test where it is None, else validation.
        each: right ones of each class, and as many wrong ones.
        seed: of the draw of images, at most :data:`LOOKED_AT` of each class.
        device: torch's name of the device, or ``auto``.
    """
    import torch

    from fer_cli.models.gradcam import gradcam as heat
    from fer_cli.models.trained import map_layer, open_trained
    from fer_cli.reporting.gradcam import Example, Row, gradcam_figure

    env.tune_allocator()
    artifact = store.find(reference, ["model"])
    dataset = open_dataset(open_parent(store, artifact, "dataset"))
    split = split or ("test" if "test" in dataset.split_names else "validation")
    target = env.device_name(device)
    model = open_trained(artifact, target)
    layer = map_layer(model)
    generator = np.random.default_rng(seed)
    every = dataset.rows(split)
    shown = []
    with track("look", len(dataset.classes), unit="classes") as advance:
        for label, name in enumerate(dataset.classes):
            rows = every[dataset.labels[every] == label]
            rows = generator.permutation(rows)[:LOOKED_AT]
            size = 1 if model.mixes_batch else BATCH
            parts = []
            for start in range(0, len(rows), size):
                pixels = torch.from_numpy(dataset.images[rows[start : start + size]]).to(target)
                with torch.no_grad():
                    parts.append(torch.softmax(model.network(model.preprocessing.apply(pixels)), 1).cpu().numpy())
            shares = np.concatenate([np.empty((0, len(dataset.classes))), *parts])
            found = shares.argmax(1)
            examples: dict[bool, list[Example]] = {True: [], False: []}
            for is_right, kept in examples.items():
                of = np.flatnonzero((found == label) == is_right)
                for item in of[np.argsort(-shares[of, found[of]], kind="stable")][:each]:
                    image = np.array(dataset.images[rows[item]])
                    x = model.preprocessing.apply(torch.from_numpy(image[None]).to(target))
                    classes = torch.tensor([int(found[item])], device=target)
                    heated = heat(model.network, layer, x, classes)[0].cpu().numpy()
                    kept.append(Example(image, heated, dataset.classes[found[item]], float(shares[item, found[item]])))
            shown.append(Row(name, examples[True], examples[False]))
            advance()
    config = artifact.manifest.config
    note(f"the most confident of at most {LOOKED_AT} images of each class of the {split} split")
    subtitle = _subtitle(config["system"], config["model"]["backbone"], f"{dataset.artifact.name} {split}")
    return artifact.name, gradcam_figure(shown, title="Where the model looks", subtitle=subtitle)


def _subtitle(system: str, backbone: str, what: str) -> str:
    return f"{system}, {backbone}, on {what}"
