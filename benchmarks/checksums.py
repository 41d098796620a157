"""What the checksums of blocks cost: each stage with the check and without it, in turn.

``python -m benchmarks.checksums [--pairs 10] [--images 2000] [--stages extract,train,fit-ahm]``

Each run is a process of its own; what counts is its CPU time, user and system. The order in a pair is drawn. The check
is replaced by nothing here alone: fer has no such switch. Beside the pairs stands the share of the CPU time that a run
spends in the check itself, which no other load on the machine disturbs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.chaos import chain
from fer_cli.artifacts import checksums

BACKBONE: Final = "tf_efficientnet_lite0"
TRAIN: Final = ("model.weights=none", f"model.backbone={BACKBONE}", "data.size=64", "train.epochs=1")
COMMANDS: Final = {
    "extract": ("extract", "synth", "--backbone", BACKBONE, "--size", "64", "--weights", "none", "--device", "cpu"),
    "train": ("train", "baseline", "synth", "--device", "cpu", *(word for key in TRAIN for word in ("--set", key))),
    "fit-ahm": ("fit-ahm",),
}


def _no_check(_self: checksums.StoredArray, _blocks: object) -> None:
    pass


def cpu_seconds(words: tuple[str, ...], place: Path, report: Path, *, checked: bool) -> tuple[float, float]:
    """Run a command in a process of its own; return its CPU seconds, and those of them that the check took."""

    def layer() -> None:
        begun, spent, check, leave = os.times(), 0.0, checksums.StoredArray._check, os._exit

        def timed(self: checksums.StoredArray, blocks: object) -> None:
            nonlocal spent
            started = time.thread_time()
            check(self, blocks)  # type: ignore[arg-type]
            spent += time.thread_time() - started

        def left(code: int) -> None:
            now = os.times()
            report.write_text(f"{now.user + now.system - begun.user - begun.system} {spent}")
            leave(code)

        checksums.StoredArray._check = timed if checked else _no_check  # type: ignore[method-assign,assignment]
        os._exit = left  # type: ignore[assignment]

    ended = chain.command((*words, "--force"), place, layer=layer)
    assert ended.code == 0, ended.said
    whole, inside = map(float, report.read_text().split())
    return whole, inside


def main() -> None:
    """Print of each stage the ratio of the pairs, with its 95% interval, and the share of the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--stages", default=",".join(COMMANDS))
    options = parser.parse_args()
    chosen = {name: COMMANDS[name] for name in options.stages.split(",")}
    chain.SECONDS = 3600
    chain.warm_up()
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        place, report = Path(folder) / "store", Path(folder) / "report"
        (place / "out").mkdir(parents=True)
        prepare = ("prepare", "synth", "--images", str(options.images), "--size", "64", "--jobs", "1")
        for words in (prepare, *chosen.values()):  # once before: what follows is warm
            ended = chain.command(words, place)
            assert ended.code == 0, ended.said
        for name, words in chosen.items():
            pairs = [_pair(words, place, report, generator) for _ in range(options.pairs)]
            ratios = np.array([checked / bare for checked, bare, _ in pairs])
            draws = np.median(generator.choice(ratios, (2000, len(ratios))), axis=1)
            low, high = np.quantile(draws, [0.025, 0.975])
            share = np.median([inside / checked for checked, _, inside in pairs])
            seconds = np.median([bare for _, bare, _ in pairs])
            print(
                f"{name}: with the check {np.median(ratios):.4f} of the CPU time without it, "
                f"95% {low:.4f} to {high:.4f} ({len(ratios)} pairs of {seconds:.1f} s); in the check {share:.3%}",
                flush=True,
            )


def _pair(
    words: tuple[str, ...], place: Path, report: Path, generator: np.random.Generator
) -> tuple[float, float, float]:
    order = (True, False) if generator.random() < 0.5 else (False, True)
    runs = {checked: cpu_seconds(words, place, report, checked=checked) for checked in order}
    (checked, inside), (bare, _) = runs[True], runs[False]
    return checked, bare, inside


if __name__ == "__main__":
    main()
