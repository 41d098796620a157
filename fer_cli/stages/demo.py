"""Stage ``demo``: the chain on the embedded data set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.atomic_io import write_atomic
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.core.progress import note, warn
from fer_cli.datasets.dataset import open_dataset
from fer_cli.datasets.synth.loader import Synth
from fer_cli.faces.masks import open_masks
from fer_cli.plots.masks import mask_agreement
from fer_cli.stages.compare import compare, html_page
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.extract import extract
from fer_cli.stages.fit_ahm import fit_ahm
from fer_cli.stages.parse_masks import parse_masks
from fer_cli.stages.plot import plot
from fer_cli.stages.prepare import prepare
from fer_cli.stages.train import train
from fer_cli.systems import registry
from fer_cli.weights.files import find_weights

BACKBONE: Final = "tf_efficientnet_lite0"
SIZE: Final = 112
TRAINED: Final[Mapping[str, tuple[str, ...]]] = {
    "baseline": (f"model.backbone={BACKBONE}", "data.size=64", "train.epochs=8"),
    "conv-cut": (f"model.backbone={BACKBONE}", "model.attention_after=last", "data.size=160", "train.epochs=20"),
    "psa-resnet": ("model.backbone=resnet26", "model.weights=none", "data.size=48", "train.epochs=6"),
    "slfer": (f"model.backbone={BACKBONE}", "data.size=64", "train.epochs=8"),
}
"""What the demo changes in each system's recipe: minutes on two cores, not hours. The first is the measure of all."""
PARSED: Final = 128
"""px that the demo parses at: half the time of the default."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demo made: an evaluation a system, their comparison, and the picture of the masks with what it shows."""

    evaluations: Mapping[str, Result]
    comparison: Path
    picture: Path
    miou: float


def demo(
    *, store: Store, images: int = 1600, out: Path | None = None, page: Path | None = None, force: bool = False
) -> Shown:
    """Render faces, parse them, fit AHM, train the baseline and the deep systems, and compare all on unseen subjects.

    The masks of the compact parser, which was not trained on synthetic faces, are compared with the true ones.

    The backbone's ImageNet weights come with a package (extra ``demo``). Where they are nowhere to be found the network
    is random; the chain then still runs, and its report says so.
    """
    begun = time.perf_counter()
    note("1/8 prepare: rendering synthetic faces")
    dataset = prepare(
        store=store, loader=Synth(images=images), command=f"fer prepare synth --images {images}", force=force
    )
    note("2/8 parse-masks: the regions of the faces, by the compact parser, and the true ones")
    found = parse_masks(store=store, dataset=dataset.artifact.reference, parser="compact", size=PARSED, force=force)
    true = parse_masks(store=store, dataset=dataset.artifact.reference, parser="truth", force=force)
    picture = plot(
        store=store,
        what="masks",
        out=out,
        masks=found.artifact.reference,
        compare_with=true.artifact.reference,
        faces=8,
    )
    opened = open_dataset(dataset.artifact)
    agreement = mask_agreement(open_masks(found.artifact, opened), open_masks(true.artifact, opened))
    reference, weights = dataset.artifact.reference, _weights()
    note("3/8 extract, fit-ahm: features of a network that never saw a face task, the semantic projection of them")
    features = extract(
        store=store,
        dataset=reference,
        backbone=BACKBONE,
        size=SIZE,
        views=("original", "flip"),
        weights=weights,
        force=force,
    )
    ahm = fit_ahm(store=store, features=features.artifact.reference, force=force).artifact
    models: dict[str, Artifact] = {}
    for step, (system, small) in enumerate(TRAINED.items(), start=4):
        note(f"{step}/8 train {system}: {', '.join(small)}")
        models[system] = train(
            store=store,
            system=system,
            dataset=reference,
            changes=(f"model.weights={weights}", "train.monitor=balanced_accuracy", *small),
            masks=found.artifact.reference if registry.load(system).uses_masks else None,
            force=force,
        ).whole.artifact
    note("8/8 eval, compare: the test split, 95% intervals, the reports")
    evaluations = {
        system: evaluate_model(store=store, model=model.reference, report=True, force=force)
        for system, model in {**models, "ahm": ahm}.items()
    }
    compared = compare(store=store, references=[result.artifact.reference for result in evaluations.values()])
    page = page or Path(f"fer-comparison-{dataset.artifact.name}.html")
    write_atomic(page, html_page(store, compared, list(evaluations)).encode("utf-8"))
    note(f"done in {time.perf_counter() - begun:.0f} s")
    return Shown(evaluations, page, picture, agreement.miou)


def _weights() -> str:
    try:
        find_weights(BACKBONE, "auto")
    except FerError as error:
        warn(f"{error.what}: the network is random; install fer-cli[demo] for ImageNet weights")
        return "none"
    return "auto"
