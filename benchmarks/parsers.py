"""The compact parser beside facexlib's BiSeNet, and beside its own bare network.

``python -m benchmarks.parsers [--rounds 15]``

Every round runs each of these once, in random order, and what counts is the ratio within a round:

* ``bisenet 512, one by one``: facexlib's network as its users run it: a picture resized to 512 px, standardised, one
  forward pass, output [0], argmax, resized to the picture's size.
* ``bisenet 224, batches``: the same network at 224 px in batches of 16, pictures on their way in and out as above.
* ``compact``: ``fer parse-masks`` without the disk's start-up: both views, maps, scores, packing, journal, fsync.
* ``bare compact``: the floor: the same network on prepared batches in memory, both views, nothing else.

The last two in float32 and, where the machine has it natively, in bfloat16, the command's default there.

BiSeNet's weights are seeded: its speed does not depend on them. Pictures are drawn faces, 48 px grey and 112 px
colour.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_cli.core import machine

if TYPE_CHECKING:
    import torch

BATCH = 16


def main() -> None:
    """Print images a second and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    tuned = machine.tune_allocator()
    import torch

    print(f"{torch.get_num_threads()} threads, {options.rounds} rounds, allocator {'tuned' if tuned else 'default'}")
    for size, grey in ((48, True), (112, False)):
        _compare(size, grey, options.rounds)


def _compare(side: int, grey: bool, rounds: int) -> None:
    from fer_cli.datasets.synth.loader import Synth
    from fer_cli.faces.compact import open_compact, working_sizes
    from fer_cli.faces.compact_weights import find_compact
    from fer_cli.faces.regions import grouping

    blocks = list(Synth(images=256, subjects=24, size=side, imbalance=1.0, grey=grey).blocks())
    images = np.concatenate([block.images for block in blocks])[:256]
    size, other = working_sizes(side, side)
    runs: dict[str, tuple[int, Callable[[], None]]] = {
        "bisenet 512, one by one": (2, _bisenet(images[:2], 512, 1)),
        "bisenet 224, batches of 16": (32, _bisenet(images[:32], 224, 16)),
    }
    pairs = []
    for precision in ["float32", *(["bfloat16"] if machine.fast_bfloat16("cpu") else [])]:
        compact = open_compact(
            find_compact(None, None),
            grouping=grouping(),
            size=size,
            mirror=True,
            device="cpu",
            mirror_size=other,
            precision=precision,
        )
        ours, bare = f"compact {precision}", f"bare compact {precision}"
        runs[ours] = (len(images), _ours(compact.parse, images))
        runs[bare] = (len(images), _bare(compact.network, images, (size, other), precision))
        pairs += [(ours, "bisenet 512, one by one"), (ours, "bisenet 224, batches of 16"), (ours, bare)]
    for _, run in runs.values():
        run()
    generator = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name in generator.permutation(list(runs)):
            begun = time.perf_counter()
            runs[name][1]()
            seconds[name].append((time.perf_counter() - begun) / runs[name][0])
    print(f"\n{side} px {'grey' if grey else 'colour'}, seen at {size} and mirrored at {other} px")
    for name, values in seconds.items():
        print(f"{name:28} {1 / np.median(values):8.1f} images/s")
    for ours, rival in pairs:
        ratio = np.array(seconds[rival]) / np.array(seconds[ours])
        draws = np.median(generator.choice(ratio, (2000, rounds)), axis=1)
        low, high = np.quantile(draws, [0.025, 0.975])
        print(f"{ours} against {rival:28} {np.median(ratio):7.2f} times (95% {low:.2f} to {high:.2f})")


def _bisenet(images: NDArray[np.uint8], size: int, batch: int) -> Callable[[], None]:
    import cv2
    import torch
    from facexlib.parsing.bisenet import BiSeNet

    torch.manual_seed(0)
    network = BiSeNet(num_class=19).eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def run() -> None:
        for start in range(0, len(images), batch):
            some = images[start : start + batch]
            colour = [cv2.cvtColor(one, cv2.COLOR_GRAY2RGB) if one.ndim == 2 else one for one in some]
            large = [cv2.resize(one, (size, size), interpolation=cv2.INTER_LINEAR) for one in colour]
            x = torch.stack([(torch.from_numpy(one).permute(2, 0, 1).float() / 255 - mean) / std for one in large])
            with torch.no_grad():
                classes = network(x)[0].argmax(1).numpy().astype(np.uint8)
            for one in classes:
                cv2.resize(one, some.shape[2:0:-1], interpolation=cv2.INTER_NEAREST)

    return run


def _ours(parse: Callable[[NDArray[np.uint8]], object], images: NDArray[np.uint8]) -> Callable[[], None]:
    from fer_cli.core.distributed import Ranks
    from fer_cli.faces import parsing
    from fer_cli.faces.quality import QualityThresholds

    names = np.array([f"{number}" for number in range(len(images))])
    rows = parsing.Rows(names, names)

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            parsing.parse_dataset(
                lambda some: parse(images[some]),  # type: ignore[arg-type, return-value]
                rows,
                parsing.Known([]),
                Path(folder),
                thresholds=QualityThresholds(),
                run="benchmark",
                batch=BATCH,
                ranks=Ranks(0, 1, 0, 1),
                title="parse",
            )

    return run


def _bare(
    network: torch.nn.Module, images: NDArray[np.uint8], sizes: tuple[int, int], precision: str
) -> Callable[[], None]:
    import torch

    batches = [
        torch.rand(min(BATCH, len(images) - start), 3, side, side)
        .to(getattr(torch, precision))
        .contiguous(memory_format=torch.channels_last)
        for start in range(0, len(images), BATCH)
        for side in sizes
    ]

    def run() -> None:
        with torch.inference_mode():
            for x in batches:
                network(x)

    return run


if __name__ == "__main__":
    main()
