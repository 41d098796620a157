"""Extraction beside the bare forward pass, and the allocator's setting beside the default one.

``python -m benchmarks.extract [--pairs 30]``

The floor of extraction is the network's forward pass. Each pair runs, one after the other in random order, (a) fer's
own loop over uint8 images (reading, resizing, both views, writing, fsync, journal) and (b) the same network on prepared
batches in memory: same batch, channels last, inference mode, allocator setting. What counts is the ratio in a pair.

The allocator is set once a process, so its two settings are two processes in turn.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fer_cli.core import machine

BATCH = 64
BLOCKS = 1


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--forward-only", action="store_true", help="print images/s of the bare pass and exit")
    options = parser.parse_args()
    tuned = machine.tune_allocator()
    if options.forward_only:
        print(forward_rate(options.backbone, options.size))
        return
    ratios(options.backbone, options.size, options.pairs, tuned)
    allocator(options.backbone, options.size, max(3, options.pairs // 5))


def forward_rate(name: str, size: int) -> float:
    """Return images a second of the bare forward pass."""
    import torch

    from fer_cli.models.backbones import open_backbone
    from fer_cli.weights.files import find_weights

    network = open_backbone(name, size=size, weights=find_weights(name, "auto"))
    x = torch.rand(BATCH, 3, size, size).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        for _ in range(2):
            network.features(x)
        begun = time.perf_counter()
        for _ in range(6):
            network.features(x)
    return 6 * BATCH / (time.perf_counter() - begun)


def ratios(name: str, size: int, pairs: int, tuned: bool) -> None:
    """Pair fer's extraction with the bare forward pass over the same images."""
    import torch

    from fer_cli.core.distributed import Ranks
    from fer_cli.inference.extraction import BLOCK, VIEWS, extract_features
    from fer_cli.models.backbones import cost, open_backbone
    from fer_cli.weights.files import find_weights

    network = open_backbone(name, size=size, weights=find_weights(name, "auto"))
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (BLOCKS * BLOCK, 48, 48), dtype=np.uint8)
    count = len(images) * len(VIEWS)
    batches = [
        network.preprocessing.apply(torch.from_numpy(images[start : start + BATCH]))
        for start in range(0, len(images), BATCH)
    ]
    dimension = network.features(batches[0][:1]).shape[1]

    def bare() -> float:
        with torch.inference_mode():
            begun = time.perf_counter()
            for x in batches:
                for _ in VIEWS:
                    network.features(x)
            return time.perf_counter() - begun

    def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            extract_features(
                Path(folder),
                network,
                images,
                views=VIEWS,
                run="benchmark",
                shape=(dimension,),
                dtype="float32",
                batch=BATCH,
                device="cpu",
                ranks=Ranks(0, 1, 0, 1),
                title="extract",
            )
            return time.perf_counter() - begun

    bare(), ours()
    found = []
    for _ in range(pairs):
        first_ours = generator.random() < 0.5
        a = ours() if first_ours else 0.0
        b = bare()
        a = a or ours()
        found.append((a, b))
    table = np.array(found)
    share = table[:, 1] / table[:, 0]
    draws = np.median(generator.choice(share, (2000, pairs)), axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    macs = cost(network)["multiply_adds"]
    rate = count / np.median(table[:, 1])
    print(f"{name} at {size} px, {count} forward passes a run, batch {BATCH}, {torch.get_num_threads()} threads,")
    print(f"{pairs} pairs, allocator {'tuned' if tuned else 'default'}")
    print(f"bare forward pass        {rate:8.1f} images/s = {2e-9 * macs * rate:.1f} GFLOP/s")
    print(f"fer extract              {count / np.median(table[:, 0]):8.1f} images/s")
    print(
        f"fer reaches {np.median(share):.3f} of the bare pass (median of pairs, 95% interval {low:.3f} to {high:.3f})"
    )


def allocator(name: str, size: int, pairs: int) -> None:
    """Run the bare pass in turn with and without the allocator's setting, a process each."""
    command = [sys.executable, "-m", "benchmarks.extract", "--forward-only", "--backbone", name, "--size", str(size)]

    def rate(setting: str) -> float:
        environment = {**os.environ, "FER_ALLOCATOR": setting}
        return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    found = np.array([(rate("tuned"), rate("default")) for _ in range(pairs)])
    tuned, default = np.median(found, axis=0)
    gain = found[:, 0] / found[:, 1]
    print(
        f"allocator: tuned {tuned:.1f}, default {default:.1f} images/s; ratio {np.median(gain):.2f} "
        f"(median of {pairs} pairs, {gain.min():.2f} to {gain.max():.2f})"
    )


if __name__ == "__main__":
    main()
