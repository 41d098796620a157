"""Kill -9 and signals at random moments of ``fer train baseline``: does the same command end as if never stopped?

``python -m benchmarks.chaos training [--kills 20] [--signals 20] [--seed 0]``

* kills: a checkpoint comes after each step, and what it holds must not be lost. Every third training is killed a second
  time. Every seventh runs on two ranks, and of those every second loses one rank alone.
* signals: SIGTERM and SIGUSR1 in turn; the signal's checkpoint is the only one. Every fifth comes while the program
  starts and has nothing to save.
* control: as the kills, but the command that goes on forgets the optimiser's moments. It must be found out.

A moment is a share, drawn by the seed, of the CPU seconds of a whole training. In the end weights and history must be
byte for byte those of a training that nobody stopped, the store must hold the same files, and ``fer verify`` must pass.
What is stopped has two worker threads, what ends has none. The references, two ranks and the signals at the start are
programs of their own; other trainings are forks of this process, which has imported what they need.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.chaos.command import Run, fer, train
from fer_cli.artifacts.maintenance import verify_directory
from fer_cli.artifacts.store import Store

FACES = ("prepare", "synth", "--images", "560", "--subjects", "40", "--size", "48", "--imbalance", "4", "--store")
LATE, EPOCH = "not killed: it had ended", "from an epoch"
Trial = tuple[str, list[str], str]  # what is printed, what is wrong, and what it counts as
UNBEGUN = (
    "fer: error: stopped by {}; no artifact is half-made, and what was finished is kept: run the same command again"
)
SAVED = re.compile(r"fer: error: stopped by SIG\w+, saved after step (\d+) of epoch (\d+); .*")


class Chaos:
    """A folder with the data set, the trainings that nobody stopped, and the trials."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.generator, self.places = folder, np.random.default_rng(seed), 0
        assert fer(*FACES, folder / "data").returncode == 0
        self.references: dict[int, Path] = {}
        self.whole: dict[tuple[int, str], Run] = {}
        for ranks, how in ((1, "fer"), (1, "fork"), (1, "often"), (2, "fer"), (2, "often")):
            place = self.place()
            self.whole[ranks, how] = run = train(place, ranks, how)
            if faults := differences(place, self.references.setdefault(ranks, place), run):
                sys.exit("\n".join([f"the training that nobody stopped ({ranks}, {how}):", *faults]))
            history = next(place.glob("model/*/*/history.jsonl")).read_text().splitlines()
            rates = " ".join(f"{json.loads(line)['lr']:.1e}" for line in history)
            print(f"unstopped {ranks} {how:5}: rates {rates}; {run.starting:.1f} + {run.working:.1f} CPU s", flush=True)

    def place(self) -> Path:
        """Return a new store with the data set alone."""
        self.places += 1
        return Path(shutil.copytree(self.folder / "data", self.folder / str(self.places)))

    def kill(self, number: int, *, again: str = "often", least: float = 0.0, most: float = 1.0) -> Trial:
        """Kill a training, twice where its number says so, and end it by ``again``."""
        ranks = 2 if number % 7 == 3 else 1
        most = min(most, 0.6 if ranks == 2 else 1.0)  # CPU seconds of two ranks vary: later ones may come too late
        how = "lone" if ranks == 2 and number % 2 == 0 else "often"
        line = f"{ranks} {'rank ' if ranks == 1 else 'ranks'}{', one dies:' * (how == 'lone')}"
        place, faults, killed, share, had_steps = self.place(), list[str](), 0, 0.0, False
        for nth in range(2 if number % 3 == 0 else 1):
            share = self.generator.uniform(0, 1 - share) if nth else self.generator.uniform(least, most)
            run = train(place, ranks, how, signal.SIGKILL, share * self.whole[ranks, "often"].working)
            line += (f" from {run.origin}," if nth else "") + f" {'killed' if run.code else 'ended'} at {share:.1%},"
            if run.code == 0:
                break
            killed += 1
            had_steps |= run.had_steps
            if run.code != (1 if how == "lone" else 128 + signal.SIGKILL):
                faults.append(f"not the kill, but exit {run.code}: {run.said.strip()[-300:]}")
            for path in Store(place).directories(["model"]):
                faults += [f"after the kill: {damage}" for damage in verify_directory(path)]
        run = train(place, ranks, again)
        faults += differences(place, self.references[ranks], run)
        faults += ["what it had learned was lost"] * (had_steps and run.origin == "the beginning")
        shutil.rmtree(place)
        end = LATE if not killed else EPOCH if "epoch" in run.origin else f"from {run.origin}"
        return f"{line} from {run.origin}: {'FAULT' if faults else 'equal'}", faults, end

    def signal(self, number: int) -> Trial:
        """Send a signal to one training, look at how it ends, and let it go on."""
        sent = (signal.SIGTERM, signal.SIGUSR1)[number % 2]
        how, when = ("fer", "the start") if number % 5 == 4 else ("fork", "the work")
        whole, place, share = self.whole[1, how], self.place(), self.generator.uniform()
        first = train(place, 1, how, sent, share * (whole.starting if how == "fer" else whole.working))
        told = [line for line in first.said.splitlines() if not line.startswith(("using ", "epoch ", "train "))]
        second = train(place, 1, "fork")
        faults = differences(place, self.references[1], second)
        shutil.rmtree(place)
        saved = SAVED.fullmatch("\n".join(told))
        if saved and second.origin != f"epoch {saved[2]}, step {saved[1]}":
            faults.append("it did not go on from where it said")
        if first.code == 75 and not (saved or (told == [UNBEGUN.format(sent.name)])):
            faults.append("it did not say in one line how it ended")
        faults += ["what it had learned was lost"] * (first.had_steps and second.origin == "the beginning")
        # Before fer has its first word, Python itself ends at a signal.
        faults += ["another exit"] * (first.code not in {0, 75} and (bool(first.said) or first.code != 128 + sent))
        line = f"{sent.name} at {share:.1%} of {when}: exit {first.code}, {' / '.join(told) or 'no word'}; "
        line += f"again from {second.origin}: {'FAULT' if faults else 'equal'}"
        return line, faults, f"exit {first.code} in {when}"


def differences(place: Path, reference: Path, run: Run) -> list[str]:
    """Return in what a store is not as the reference after its last run, and what ``fer verify`` finds."""
    found = [] if run.code == 0 else [f"exit {run.code}: {run.said.strip()[-300:]}"]
    mine, other = ({path.relative_to(root) for path in root.rglob("*")} for root in (place, reference))
    found += [f"{path}: {'left over' if path in mine else 'missing'}" for path in sorted(mine ^ other)]
    for path in sorted(path for path in mine & other if path.name in {"model.safetensors", "history.jsonl"}):
        if (place / path).read_bytes() != (reference / path).read_bytes():
            found.append(f"{path}: other bytes")
    verified = fer("verify", "--store", place)
    return [*found, *([] if verified.returncode == 0 else [f"fer verify: {verified.stdout}{verified.stderr}"])]


def part(name: str, trials: Iterator[Trial]) -> tuple[Counter[str], int]:
    """Print the trials and their summary; return how many counted as what, and how many had a fault."""
    begun, ends, faulty = time.perf_counter(), Counter[str](), 0
    for number, (line, faults, end) in enumerate(trials):
        print(f"{name} {number:2} {line}" + "".join(f"\n    {fault}" for fault in faults), flush=True)
        ends[end] += 1
        faulty += bool(faults)
    counts = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
    print(f"{name}: {counts}; {faulty} with faults, {time.perf_counter() - begun:.0f} s", flush=True)
    return ends, faulty


def kills(trial: Callable[[int], Trial], count: int) -> Iterator[Trial]:
    """Yield trials until so many trainings died."""
    killed = 0
    while killed < count:
        yield (one := trial(killed))
        killed += one[2] != LATE


def main() -> None:
    """Run all parts; exit with 1 when a training does not end as it must, or the control does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("--kills", 20), ("--signals", 20), ("--seed", 0)):
        parser.add_argument(option, type=int, default=default)
    options = parser.parse_args()
    print(f"{options.kills} kills, {options.signals} signals, seed {options.seed}", flush=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    for module in ("timm", "fer_cli.systems.trained", "fer_cli.training.engine", "fer_cli.systems.baseline.system"):
        importlib.import_module(module)
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(Path(folder), options.seed)
        ends, found = part("control", kills(partial(chaos.kill, again="forgets", least=0.3, most=0.7), 3))
        print(f"control: {found} of {ends[EPOCH]} that went on from an epoch are different, as all must be", flush=True)
        _, killed = part("kill", kills(chaos.kill, options.kills))
        _, stopped = part("signal", map(chaos.signal, range(options.signals)))
    sys.exit(int(killed > 0 or stopped > 0 or not 0 < found == ends[EPOCH]))
