"""Kill -9 at random moments: what a store holds afterwards, and whether the same command then ends as if never killed.

Each trial forks a process that runs one stage on a copy of a store with the stage's inputs, kills it after a random
part of the stage's usual time, and looks. Trials alternate between an empty place and ``--force`` over an artifact
that is there, which must survive whole. ``plain`` swaps the store's way of writing for a plain one, straight into the
artifact's own directory: the control, which must fail.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fer_cli.artifacts import store as store_module
from fer_cli.artifacts.maintenance import leftovers, verify_directory
from fer_cli.artifacts.manifest import MANIFEST, read_manifest
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.work import Plan, Work
from fer_cli.datasets.synth.loader import Synth
from fer_cli.faces import parsing
from fer_cli.inference import extraction
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.extract import extract
from fer_cli.stages.fit_ahm import fit_ahm
from fer_cli.stages.parse_masks import parse_masks
from fer_cli.stages.prepare import prepare

BACKBONE = "test_efficientnet"


def _prepare(store: Store, force: bool) -> None:
    loader = Synth(images=200, subjects=20, size=48, imbalance=2.0, jobs=1)
    prepare(store=store, loader=loader, force=force)


def _parse(store: Store, force: bool) -> None:
    parsing.BLOCK = 16
    parse_masks(store=store, parser="compact", size=96, batch=8, force=force)


def _extract(store: Store, force: bool) -> None:
    extraction.BLOCK = 16
    extract(store=store, backbone=BACKBONE, size=96, weights="none", batch=8, views=("original", "flip"), force=force)


def _fit(store: Store, force: bool) -> None:
    fit_ahm(store=store, force=force)


def _eval(store: Store, force: bool) -> None:
    evaluate_model(store=store, report=True, resamples=4000, force=force)


STAGES: dict[str, Callable[[Store, bool], None]] = {
    "prepare": _prepare,
    "parse-masks": _parse,
    "extract": _extract,
    "fit-ahm": _fit,
    "eval": _eval,
}
KINDS = {"prepare": "dataset", "parse-masks": "masks", "extract": "features", "fit-ahm": "ahm", "eval": "evaluation"}


@dataclass(slots=True)
class Outcome:
    """What the trials of one stage showed."""

    stage: str
    seconds: float
    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    killed: int = 0


def trials(stage: str, folder: Path, count: int, *, seed: int, plain: bool = False) -> Outcome:
    """Kill one stage ``count`` times and return what was seen; ``folder`` must be empty.

    A trial whose stage finishes before the kill is shown and not counted.
    """
    names = list(STAGES)
    inputs, whole = folder / "inputs", folder / "whole"
    for name in names[: names.index(stage)]:
        assert _run(name, inputs, force=False, plain=False) == 0
    inputs.mkdir(parents=True, exist_ok=True)
    shutil.copytree(inputs, whole)
    begun = time.perf_counter()
    assert _run(stage, whole, force=False, plain=False) == 0
    outcome = Outcome(stage, time.perf_counter() - begun)
    reference = _state(Store(whole), KINDS[stage])
    generator = np.random.default_rng(seed)
    number = -1
    while outcome.killed < count:
        number += 1
        force = bool(number % 2) or plain
        place = folder / f"trial-{number}"
        shutil.copytree(whole if force else inputs, place)
        moment = float(generator.uniform(0, outcome.seconds))
        died = _run(stage, place, force=force, plain=plain, kill_after=moment) == -signal.SIGKILL
        outcome.killed += died
        after = _state(Store(place), KINDS[stage])
        sound = after in ([[], reference] if not force else [reference])
        damaged = [str(one) for path in Store(place).directories() for one in verify_directory(path)]
        again = _run(stage, place, force=force, plain=False)
        final = _state(Store(place), KINDS[stage])
        left = [str(one.path) for one in leftovers(Store(place), superseded=False)]
        words = "killed" if died else "finished first"
        shown = "whole" if after == reference else "absent" if not after else "DAMAGED"
        outcome.lines.append(
            f"{stage:8} trial {number:2} {'force' if force else 'new  '} {words} at {moment:5.2f} s: {shown}; "
            f"again: {'equal' if final == reference and again == 0 else 'DIFFERENT'}, {len(left)} leftovers"
        )
        if not sound or damaged or final != reference or again != 0 or left:
            outcome.faults.append(outcome.lines[-1] + "".join(f"\n    {text}" for text in damaged + left))
        shutil.rmtree(place)
    return outcome


def _state(store: Store, kind: str) -> list[str]:
    """Return the content of each artifact of a kind that is sound, and ``DAMAGED`` for each that is not."""
    found = []
    for path in store.directories([kind]):
        sound = (path / MANIFEST).exists() and not verify_directory(path)
        found.append(read_manifest(path).content if sound else "DAMAGED")
    return found


def _run(stage: str, place: Path, *, force: bool, plain: bool, kill_after: float | None = None) -> int:
    """Run a stage in a process of its own; return its exit code, negative where a signal ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - its descriptor is what is wanted
                os.dup2(nowhere.fileno(), 2)
            if plain:
                store_module.Store.make = _plain_make  # type: ignore[method-assign]
            STAGES[stage](Store(place), force)
            code = 0
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def _plain_make(
    self: Store, plan: Plan, *, force: bool = False, resumable: bool = False, restart: bool = False
) -> Iterator[Work]:
    target = self.root / plan.kind / plan.name / plan.version
    target.mkdir(parents=True, exist_ok=True)
    work = Work(plan, target, target)
    # The manifest of the artifact that is being replaced stays where it is until the new one is written over it.
    commit_files = [path for path in target.iterdir() if path.name != MANIFEST]
    for path in commit_files:
        path.unlink()
    yield work
