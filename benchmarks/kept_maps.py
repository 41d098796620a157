"""What kept feature maps change: the logits of a Conv-cut model from maps in float16 and float32, and from pictures.

``python -m benchmarks.kept_maps MODEL [--store STORE] [--images 2000]``

Conv-cut learns on feature maps that were computed once, in the type of ``model.feature_cache``, and predicts from
pictures. For images of the validation split this compares the head's logits on the maps of the features artifact with
the whole network's on the pictures, which come in other batches than those of the extraction; and the head's on the
same maps before they were rounded to the artifact's type.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.store import open_store
from fer_cli.core import machine
from fer_cli.datasets.dataset import open_dataset

if TYPE_CHECKING:
    import torch

BATCH = 64


def main() -> None:
    """Print how far the logits are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--store", type=Path, default=None)
    parser.add_argument("--images", type=int, default=2000)
    options = parser.parse_args()
    machine.tune_allocator()
    import torch

    from fer_cli.artifacts.summaries import ModelConfig, ModelSummary
    from fer_cli.models.features import open_features
    from fer_cli.systems.conv_cut.network import ConvCut
    from fer_cli.systems.trained import open_trained

    store = open_store(options.store)
    artifact = store.find(options.model, ["model"])
    dataset = open_dataset(open_parent(store, artifact, "dataset"))
    model = open_trained(artifact, "cpu")
    recipe = ModelConfig.of(artifact).recipe["model"]
    cut, kept, backbone = ModelSummary.of(artifact).details["cut"], recipe["feature_cache"], recipe["backbone"]
    name = f"features/{dataset.artifact.name}-{backbone}-{cut}".lower()
    features = open_features(store.find(name, ["features"]), dataset.artifact)
    rows = dataset.rows("validation")[: options.images]
    network = model.network
    assert isinstance(network, ConvCut), "the model is another system's"
    logits: dict[str, list[torch.Tensor]] = {"pictures": [], f"maps as kept, {kept}": [], "maps, float32": []}
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            x = model.preprocessing.apply(torch.from_numpy(dataset.images[some]))
            maps = torch.from_numpy(np.array(features.views["original"][some]))
            logits["pictures"].append(network(x))
            logits[f"maps as kept, {kept}"].append(network.head(maps.float()))
            alone = torch.cat([network.backbone(one[None]) for one in x])
            logits["maps, float32"].append(network.head(alone))
    whole = {what: torch.cat(parts).double().numpy() for what, parts in logits.items()}
    print(f"{artifact.reference}, {len(rows):,} validation images, beside the logits from pictures")
    for what, found in whole.items():
        if what != "pictures":
            _print(what, found, whole["pictures"])


def _print(what: str, found: NDArray[np.float64], reference: NDArray[np.float64]) -> None:
    difference = np.abs(found - reference)
    relative = np.linalg.norm(found - reference) / np.linalg.norm(reference)
    same = (found.argmax(1) == reference.argmax(1)).mean()
    print(f"{what}: largest difference {difference.max():.1e}, relative {relative:.1e}, same class {same:.2%}")


if __name__ == "__main__":
    main()
