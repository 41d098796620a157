"""Stage ``demo``: the chain on the embedded data set."""

from __future__ import annotations

import time
from typing import Final

from fer_cli.artifacts.store import Store
from fer_cli.datasets.synth.loader import Synth
from fer_cli.errors import FerError
from fer_cli.models.weights import find_weights
from fer_cli.progress import note, warn
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.extract import extract
from fer_cli.stages.fit_ahm import fit_ahm
from fer_cli.stages.prepare import prepare
from fer_cli.stages.result import Result

BACKBONE: Final = "tf_efficientnet_lite0"
SIZE: Final = 112


def demo(*, store: Store, images: int = 1600, force: bool = False) -> Result:
    """Draw faces, extract features, fit AHM and the plain classifiers, and score them on persons nobody trained on.

    The backbone's ImageNet weights come with a package (extra ``demo``). Where they are nowhere to be found the network
    is random; the chain then still runs, and its report says so.
    """
    begun = time.perf_counter()
    note("1/4 prepare: drawing faces")
    dataset = prepare(
        store=store, loader=Synth(images=images), command=f"fer prepare synth --images {images}", force=force
    )
    note("2/4 extract: features of a network that never saw a face task")
    features = extract(
        store=store,
        dataset=dataset.artifact.reference,
        backbone=BACKBONE,
        size=SIZE,
        views=("original", "flip"),
        weights=_weights(),
        force=force,
    )
    note("3/4 fit-ahm: the semantic projection, and two plain classifiers beside it")
    model = fit_ahm(store=store, features=features.artifact.reference, force=force)
    note("4/4 eval: the test split, 95% intervals, the report")
    result = evaluate_model(store=store, model=model.artifact.reference, report=True, force=force)
    note(f"done in {time.perf_counter() - begun:.0f} s")
    return result


def _weights() -> str:
    try:
        find_weights(BACKBONE, "auto")
    except FerError as error:
        warn(f"{error.what}: the network is random; install fer-cli[demo] for ImageNet weights")
        return "none"
    return "auto"
