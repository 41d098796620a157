"""``python -m benchmarks.chaos kills [--kills 25] [--stages A,B]``: kill -9 at random moments, and the control."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.chaos.harness import STAGES, trials


def main() -> None:
    """Run all stages and the control; exit with 1 when a stage fails or the control does not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {options.kills} kills a stage, seed {options.seed}")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for stage in options.stages.split(","):
            outcome = trials(stage, Path(folder) / stage, options.kills, seed=options.seed)
            print("\n".join(outcome.lines))
            print(
                f"{stage}: {outcome.killed} kills in {len(outcome.lines)} trials of {outcome.seconds:.2f} s of work, "
                f"{len(outcome.faults)} faults",
                flush=True,
            )
            failed |= bool(outcome.faults)
        control = trials("prepare", Path(folder) / "control", options.kills, seed=options.seed, plain=True)
        print("\n".join(control.lines))
        print(f"control (plain write): {control.killed} killed, {len(control.faults)} faults, as there must be")
        failed |= not control.faults
    sys.exit(int(failed))
