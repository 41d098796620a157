"""From a recipe and an archive of faces with true masks to a file of weights and its scores."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_cli.artifacts.atomic_io import sha256_file, write_atomic
from fer_cli.core import machine
from fer_cli.core.errors import FerError
from fer_cli.core.labels import REGIONS
from fer_cli.core.progress import note, track
from fer_cli.core.recipes import load_recipe
from fer_cli.faces.compact_weights import find_compact
from fer_cli.faces.regions import grouping
from fer_cli.weights.files import WeightsFile, find_weights, load_strictly, load_tensors

if TYPE_CHECKING:
    from fer_cli.faces.region_scores import RegionScores
    from tools.train_parser.celebamask import Face

ENCODER: Final = "tf_efficientnet_lite0"
LEAST: Final = 4
"""Faces that a step takes."""
LICENCE: Final = "trained on CelebAMask-HQ: non-commercial research and education only"


@dataclass(frozen=True, slots=True)
class TrainedParser:
    """What a training gave: the file of weights, and its scores by (px, grey)."""

    path: Path
    sha256: str
    scores: dict[tuple[int, bool], RegionScores]
    aside: int
    seconds: float


def train_parser(*, recipe: Path, source: Path, out: Path, start: Path | None = None) -> TrainedParser:
    """Train a compact parser and measure it on the faces that are kept aside.

    Args:
        recipe: a TOML file of the form of ``tools/train_parser/recipes/augmented.toml``.
        source: an archive of CelebAMask-HQ's layout (:mod:`tools.train_parser.celebamask`).
        out: the safetensors file to write, whole or not at all.
        start: weights of a compact parser to go on from; the recipe's encoder and random weights where it is None.

    Raises:
        FerError: the recipe, the archive or the place of ``out`` is at fault.
    """
    from tools.train_parser.recipe import ParserRecipe

    read = load_recipe(recipe, ParserRecipe)
    if out.suffix != ".safetensors" or not out.parent.is_dir():
        raise FerError(
            "is not a place for weights", hint="--out FOLDER/NAME.safetensors, in a folder that is there", path=out
        )
    if not source.is_file():
        raise FerError("no such file", hint="give a tar with images/ and masks/ by --source", path=source)
    machine.tune_allocator()
    from fer_cli.faces.compact import tensors_to_keep
    from tools.train_parser.celebamask import read_faces
    from tools.train_parser.recipe import split_ids, training_arrays
    from tools.train_parser.training import mix, new_network, train

    if start is None and read.training.start_share:
        raise FerError(
            "training.start_share mixes in the weights that it goes on from", hint="give them by --start", path=recipe
        )
    begun = time.perf_counter()
    weights = find_weights(ENCODER, read.encoder) if start is None else find_compact(str(start), None)
    tensors = None if weights is None else load_tensors(weights)
    network = new_network(read.training.seed, None if start else tensors)
    if start is not None and tensors is not None:
        load_strictly(network, tensors, start, hint="--start takes weights that 'python -m tools.train_parser' wrote")
    wanted, aside = split_ids(source, read.data.aside)
    if len(wanted) < LEAST or not aside:
        raise FerError(
            f"holds {len(wanted) + len(aside)} faces: too few to train on and keep one in {read.data.aside} aside",
            hint="give a larger archive, or a smaller data.aside",
            path=source,
        )
    note(f"{len(wanted):,} faces to train on, {len(aside):,} kept aside")
    images, parts = training_arrays(source, wanted, read.data.side)
    with track("train", read.training.steps, unit="steps") as advance:
        trained = train(network, images, parts, read.augmentation, grouping(), read.training, finished=advance)
    if start is not None and tensors is not None:
        mix(trained, tensors, read.training.start_share)
    seconds = time.perf_counter() - begun
    from safetensors.torch import save

    origin = {
        "network": "fer compact parser",
        "licence": LICENCE,
        "recipe": read.model_dump(exclude={"about"}),
        "start": "random" if weights is None else weights.record().record(),
    }
    # One entry: safetensors writes several in random order, and equal trainings would give files of other hashes.
    metadata = {"fer": json.dumps(origin, sort_keys=True)}
    write_atomic(out, save(tensors_to_keep(trained), metadata=metadata))
    faces = list(read_faces(source, aside))
    return TrainedParser(out, sha256_file(out), score_file(out, faces), len(aside), seconds)


def score_file(path: Path, faces: Sequence[Face], precision: str = "float32") -> dict[tuple[int, bool], RegionScores]:
    """Return the scores of a compact parser's weights by (px, grey), at the sizes that a model card tells."""
    from fer_cli.faces.compact import open_compact, working_sizes
    from tools.train_parser.scores import SIZES, score_parser

    scores = {}
    with track("measure", 2 * len(SIZES) * len(faces)) as advance:
        for grey in (False, True):
            for size in SIZES:
                side, mirrored = working_sizes(size, size)
                parser = open_compact(
                    WeightsFile(path, "file", "CelebAMask-HQ"),
                    grouping=grouping(),
                    size=side,
                    mirror=True,
                    device="cpu",
                    mirror_size=mirrored,
                    precision=precision,
                )
                scores[size, grey] = score_parser(parser, faces, size=size, grey=grey)
                advance(len(faces))
    return scores


def scores_table(scores: dict[tuple[int, bool], RegionScores]) -> list[dict[str, Any]]:
    """Return one row a (px, colour): mIoU and the IoU of each region."""
    return [
        {
            "px": size,
            "colour": "grey" if grey else "colour",
            "miou": round(one.miou, 4),
            **{name: round(float(value), 4) for name, value in zip(REGIONS, one.iou, strict=True)},
        }
        for (size, grey), one in scores.items()
    ]
