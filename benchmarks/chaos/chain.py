"""Every stage of ``fer`` on tiny data, as commands in forks of this process: what the experiments put faults into."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fer_cli.artifacts.maintenance import leftovers, verify_store
from fer_cli.artifacts.manifest import read_manifest
from fer_cli.artifacts.store import Store

BACKBONE: Final = "test_efficientnet"
TINY: Final = (
    *("--set", f"model.backbone={BACKBONE}", "--set", "model.weights=none", "--set", "data.size=32"),
    *("--set", "train.batch=32", "--set", "train.epochs=2", "--device", "cpu", "--workers", "0"),
)
STAGES: Final[dict[str, tuple[str, ...]]] = {
    "prepare": ("prepare", "synth", "--images", "96", "--subjects", "12", "--size", "32", "--imbalance", "1"),
    "parse-masks": ("parse-masks", "dataset/synth", "--parser", "compact", "--size", "32", "--batch", "16"),
    "extract": (
        *("extract", "dataset/synth", "--backbone", BACKBONE, "--size", "32", "--weights", "none"),
        *("--views", "original,flip", "--device", "cpu"),
    ),
    "fit-ahm": ("fit-ahm",),
    "train": ("train", "baseline", "dataset/synth", *TINY),
    "study": ("train", "baseline", "dataset/synth", "--seeds", "0,1", *TINY),
    "eval": ("eval", "model", "--resamples", "200", "--device", "cpu"),
    "split": ("split", "dataset/synth", "--folds", "3"),
    "plot": ("plot", "classes", "dataset/synth", "--out", "{out}/classes.png"),
    "compare": ("compare", "evaluation", "evaluation", "--out", "{out}/table.csv", "--items", "{out}/items.csv"),
}
"""Of each stage the command; each finds in its store what those before it made."""
SECONDS = 120
"""After which a command counts as one that hangs: SIGALRM ends it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code, negative where a signal ended it, and what it said on stderr and stdout."""

    code: int
    said: str
    printed: str = ""

    @property
    def error(self) -> str:
        """The line of the error; empty where there is none."""
        lines = [line for line in self.said.splitlines() if line.startswith("fer: error: ")]
        return lines[-1] if lines else ""

    def faults(self, codes: tuple[int, ...]) -> list[str]:
        """Return in what this is no end that the documentation knows."""
        found = []
        if self.code not in codes:
            found.append(f"exit {self.code}: {self.said.strip()[-300:]}")
        if "Traceback" in self.said:
            found.append(f"a traceback: {self.said.strip()[-300:]}")
        if self.code and len(re.findall(r"^fer: error: ", self.said, re.MULTILINE)) != 1:
            found.append(f"not one line of error: {self.said.strip()[-300:]}")
        return found


def warm_up() -> None:
    """Import what the stages need, once: forks share it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    for module in (
        *("timm", "scipy.optimize", "sklearn.linear_model", "matplotlib.figure", "pyarrow.parquet", "fer_cli.cli.app"),
        *(
            "fer_cli.systems.trained",
            "fer_cli.training.engine",
            "fer_cli.systems.baseline.system",
            "fer_cli.systems.job",
        ),
        *("fer_cli.stages.evaluate", "fer_cli.stages.extract", "fer_cli.stages.parse_masks", "fer_cli.stages.fit_ahm"),
    ):
        importlib.import_module(module)


def run(stage: str, place: Path, *more: str, layer: Callable[[], None] | None = None) -> Ended:
    """Run a stage's command on the store in ``place``, in a fork; ``layer`` is called in it before."""
    return command((*STAGES[stage], *more), place, layer=layer)


def command(words: Sequence[str], place: Path, *, layer: Callable[[], None] | None = None) -> Ended:
    """Run a command on the store in ``place``, in a fork that ends after ``SECONDS``; ``layer`` is called in it."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as printed:
        child = os.fork()
        if child == 0:
            _be(words, place, (printed.fileno(), said.fileno()), layer)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        printed.seek(0)
        return Ended(code, said.read().decode(errors="replace"), printed.read().decode(errors="replace"))


def _be(words: Sequence[str], place: Path, streams: tuple[int, int], layer: Callable[[], None] | None) -> None:
    code = 70
    try:
        signal.alarm(SECONDS)
        for number, stream in enumerate(streams, 1):
            os.dup2(stream, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))  # pytest has its own
        from fer_cli.cli.app import run as fer
        from fer_cli.faces import parsing
        from fer_cli.inference import extraction
        from fer_cli.training import engine

        parsing.BLOCK = extraction.BLOCK = 32
        engine.SAVE_SECONDS = 0.0
        os.environ["FER_CACHE"] = str(place.parent / "cache")
        out = place / "out"
        arguments = [word.format(out=out) for word in (*words, "--store", str(place))]
        sys.argv = ["fer", *arguments]
        if layer is not None:
            layer()
        code = fer(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def build(folder: Path, stages: tuple[str, ...]) -> dict[str, Path]:
    """Run stages one after the other; return of each the store as it is after it, and as ``before-NAME`` before it."""
    stores: dict[str, Path] = {}
    last = folder / "empty"
    (last / "out").mkdir(parents=True)
    for stage in stages:
        place = copy(last, folder / stage)
        ended = run(stage, place)
        assert ended.code == 0, ended.said
        stores[f"before-{stage}"], stores[stage], last = last, place, place
    return stores


def copy(source: Path, target: Path) -> Path:
    """Copy a store."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
    return target


def contents(place: Path) -> dict[str, str]:
    """Return the results in a store: the content of each artifact, and the bytes of what was written beside it."""
    found = {}
    for directory in Store(place).directories():
        manifest = read_manifest(directory)
        found[str(directory.relative_to(place))] = manifest.content
    for path in sorted((place / "out").iterdir()):
        found[f"out/{path.name}"] = path.read_bytes().hex()
    return found


def remains(place: Path) -> list[str]:
    """Return what is damaged in a store, and what a command that ended well should not have left there."""
    store = Store(place)
    damaged = [str(fault) for one in verify_store(store) for fault in one.damage]
    left = [str(one.path.relative_to(place)) for one in leftovers(store, superseded=False)]
    left += [str(path.relative_to(place)) for path in (place / "out").glob(".*")]
    return damaged + [f"left over: {path}" for path in left]
