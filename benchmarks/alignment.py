"""Detection and alignment beside facexlib's own detection, and beside the bare network.

``python -m benchmarks.alignment [--source FOLDER] [--pictures 48] [--rounds 15]``

Every round runs each of these once on the same decoded pictures, in random order, and what counts is the ratio within
a round:

* ``facexlib, one by one``: its ``detect_faces`` as its users call it, each picture at its own size; nothing is aligned.
* ``facexlib, 640 px``: the same with the longer side brought to 640 px by OpenCV first where it is larger.
* ``fer``: what ``fer prepare --align`` does with runs of 16: detection, the second look where no face is found, the
  points looked for again in the upright face, and the face drawn at 112 px.
* ``bare network``: the floor: the forward passes that ``fer`` makes, on prepared batches in memory, nothing else.

The network is RetinaFace with MobileNet 0.25, whose weights $FER_WEIGHTS must hold. Pictures are drawn faces, turned,
of several sizes, in scenes of 720 by 576 px, or those of ``--source``.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_cli.core import machine

if TYPE_CHECKING:
    import torch
    from torch import nn

RUN: Final = 16
NAME: Final = "retinaface-mobile0.25"
WIDTH, HEIGHT = 720, 576

Pictures = Sequence[NDArray[np.uint8]]


def main() -> None:
    """Print images a second and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    tuned = machine.tune_allocator()
    import torch

    from fer_cli.datasets.image_files import SUFFIXES, decode_all
    from fer_cli.faces.alignment import open_aligner

    if options.source is None:
        pictures = scenes(options.pictures)
    else:
        listed = sorted(path for path in options.source.rglob("*") if path.suffix.lower() in SUFFIXES)
        pictures = decode_all(listed[: options.pictures], grey=False)
    if not pictures:
        parser.error("there are no pictures")
    aligner = open_aligner(size=112, detector=NAME, device="cpu")
    assert aligner is not None, "fetched or refused"
    runs = [pictures[start : start + RUN] for start in range(0, len(pictures), RUN)]
    taken = [one for run in runs for one in aligner.take(run)]
    network = aligner.detector._network  # type: ignore[attr-defined]
    batches = _watched(network, lambda: [aligner.take(run) for run in runs])
    theirs = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    found, small = _facexlib(theirs, pictures, None), _facexlib(theirs, pictures, 640)
    work: dict[str, Callable[[], object]] = {
        "facexlib, one by one": found,
        "facexlib, 640 px": small,
        "fer": lambda: [aligner.take(run) for run in runs],
        "bare network": lambda: _forward(network, batches),
    }
    sizes = sorted({f"{picture.shape[1]}x{picture.shape[0]}" for picture in pictures})
    print(f"{torch.get_num_threads()} threads, {options.rounds} rounds, allocator {'tuned' if tuned else 'default'}")
    print(f"{len(pictures)} pictures, {', '.join(sizes[:4])}{' ...' if len(sizes) > 4 else ''}")
    shapes = [tuple(batch.shape) for batch in batches]
    print(
        f"{len(batches)} forward passes of fer: {', '.join(f'{shapes.count(s)} of {s}' for s in sorted(set(shapes)))}"
    )
    unseen = sum("no-face" in one.flags for one in taken)
    print(f"without a face: fer {unseen}, facexlib {found().count(0)}, at 640 px {small().count(0)}")
    _time(work, len(pictures), options.rounds)


def _time(work: dict[str, Callable[[], object]], count: int, rounds: int) -> None:
    generator = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name in generator.permutation(list(work)):
            begun = time.perf_counter()
            work[name]()
            seconds[name].append((time.perf_counter() - begun) / count)
    for name, values in seconds.items():
        print(f"{name:22} {1 / np.median(values):8.2f} images/s")
    for rival in [name for name in work if name != "fer"]:
        ratio = np.array(seconds[rival]) / np.array(seconds["fer"])
        draws = np.median(generator.choice(ratio, (2000, rounds)), axis=1)
        low, high = np.quantile(draws, [0.025, 0.975])
        print(f"fer against {rival:22} {np.median(ratio):6.2f} times (95% {low:.2f} to {high:.2f})")


def scenes(count: int) -> list[NDArray[np.uint8]]:
    """Return pictures (576, 720, 3), each with a drawn face somewhere, turned by up to 40 degrees."""
    from fer_cli.datasets.synth.loader import Synth

    blocks = list(Synth(images=max(count, 49), subjects=7, size=224, imbalance=1.0).blocks())
    faces = np.concatenate([block.images for block in blocks])[:count]
    generator = np.random.default_rng(0)
    pictures = []
    for face in faces:
        scene = Image.new("RGB", (WIDTH, HEIGHT), tuple(generator.integers(40, 200, 3).tolist()))
        side, degrees = int(generator.integers(60, 400)), float(generator.uniform(-40, 40))
        large = Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC)
        turned = large.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
        alpha = Image.new("L", (side, side), 255).rotate(degrees, expand=True)
        left, top = (
            int(generator.integers(0, max(1, room))) for room in (WIDTH - turned.width, HEIGHT - turned.height)
        )
        scene.paste(turned, (left, top), alpha)
        pictures.append(np.asarray(scene))
    return pictures


def _facexlib(network: nn.Module, pictures: Pictures, longest: int | None) -> Callable[[], list[int]]:
    import cv2
    import torch

    def run() -> list[int]:
        found = []
        for picture in pictures:
            blue_first = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
            scale = 1.0 if longest is None else longest / max(picture.shape)
            if scale < 1:
                blue_first = cv2.resize(blue_first, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
            with torch.no_grad():
                found.append(len(network.detect_faces(blue_first, 0.8)))  # type: ignore[operator]
        return found

    return run


def _watched(network: nn.Module, work: Callable[[], object]) -> list[torch.Tensor]:
    """Return what is given to a network while something runs."""
    seen: list[torch.Tensor] = []
    hook = network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    try:
        work()
    finally:
        hook.remove()
    return seen


def _forward(network: nn.Module, batches: list[torch.Tensor]) -> None:
    import torch

    with torch.inference_mode():
        for batch in batches:
            network(batch)


if __name__ == "__main__":
    main()
