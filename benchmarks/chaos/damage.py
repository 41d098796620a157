"""``python -m benchmarks.chaos damage [--trials 600] [--seed 0]``: damage to artifacts and partial work of every kind.

Each trial damages one thing in a store that holds every kind twice (bits, blocks, halves, cut and added bytes, files
that are gone, renamed or exchanged with those of another artifact or run, manifests of others), then runs a command
that reads it. The command may refuse with one line, may make again what was damaged, or may end with the results of the
undamaged chain: the content and the summary of each artifact, the files beside the store, and what it printed. Other
results without a word, a traceback, a hang, something half-made, and damage that ``fer verify`` does not find are
faults.

The control runs the same with the checks disabled, and must report faults for every kind.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from benchmarks.chaos import chain
from fer_cli.artifacts import atomic_io, checksums
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import REQUESTS, leftovers, verify_directory, verify_store
from fer_cli.artifacts.manifest import KINDS, MANIFEST, Manifest, canonical_json, read_manifest
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError

SIZE: Final = chain.STAGES["prepare"][2:]
EXTRACT: Final = ("--backbone", chain.BACKBONE, "--size", "32", "--weights", "none", "--views", "original,flip")
SCORE: Final = ("--resamples", "100", "--device", "cpu")
BASE: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("twin dataset", ("prepare", "synth", *SIZE, "--seed", "1")),
    ("dataset", ("prepare", "synth", *SIZE)),
    *(
        (f"{prefix}{role}", words)
        for prefix in ("twin ", "")
        for role, words in (
            ("masks", ("parse-masks", f"<{prefix}dataset>", "--parser", "compact", "--size", "32", "--batch", "16")),
            ("features", ("extract", f"<{prefix}dataset>", *EXTRACT, "--device", "cpu")),
            ("ahm", ("fit-ahm", f"<{prefix}features>")),
        )
    ),
    ("twin model", ("train", "baseline", "<dataset>", "--seeds", "1", *chain.TINY)),
    ("model", ("train", "baseline", "<dataset>", "--seeds", "0", *chain.TINY)),
    ("twin study", ("train", "baseline", "<dataset>", "--seeds", "1,2", *chain.TINY)),
    ("study", ("train", "baseline", "<dataset>", "--seeds", "0,1", *chain.TINY)),
    ("twin evaluation", ("eval", "<twin model>", *SCORE)),
    ("evaluation", ("eval", "<model>", *SCORE)),
)
"""What the store holds, in the order of making: a role, and the command; ``<role>`` is a reference to what it made."""
TRAIN_ALL: Final = ("train", "baseline", "<dataset>", "--seeds", "0", *chain.TINY, "--force")
READERS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "dataset": (
        ("parse-masks", "<dataset>", "--parser", "compact", "--size", "32", "--batch", "16", "--force"),
        ("extract", "<dataset>", *EXTRACT, "--device", "cpu", "--force"),
        ("fit-ahm", "<features>", "--force"),
        TRAIN_ALL,
        ("split", "<dataset>", "--folds", "3"),
        ("eval", "<model>", *SCORE, "--force"),
        ("eval", "<ahm>", *SCORE),
        ("audit", "<dataset>"),
        ("plot", "classes", "<dataset>", "--out", "{out}/classes.png"),
        ("prepare", "synth", *SIZE),
    ),
    "masks": (
        ("plot", "masks", "<masks>", "--out", "{out}/masks.png"),
        ("parse-masks", "<split>", "--parser", "compact", "--size", "32", "--batch", "16"),
        ("parse-masks", "<dataset>", "--parser", "compact", "--size", "32", "--batch", "16"),
        ("show", "<masks>"),
    ),
    "features": (
        ("fit-ahm", "<features>", "--force"),
        ("plot", "tsne", "<features>", "--out", "{out}/tsne.csv.png"),
        ("eval", "<ahm>", *SCORE),
        ("audit", "<dataset>", "--features", "<features>"),
        ("extract", "<dataset>", *EXTRACT, "--device", "cpu"),
    ),
    "ahm": (
        ("eval", "<ahm>", *SCORE),
        ("plot", "hierarchy", "<ahm>", "--out", "{out}/hierarchy.png"),
        ("audit", "<ahm>"),
        ("fit-ahm", "<features>"),
    ),
    "model": (
        ("eval", "<model>", *SCORE, "--force"),
        ("eval", "<study>", *SCORE),
        ("train", "baseline", "<dataset>", "--seeds", "0,2", *chain.TINY),
        ("plot", "curves", "<model>", "--out", "{out}/curves.png"),
        ("audit", "<model>"),
    ),
    "study": (
        ("eval", "<study>", *SCORE),
        ("eval", "<study>", "--predictor", "ensemble", *SCORE),
        ("plot", "curves", "<study>", "--out", "{out}/curves.png"),
        ("train", "baseline", "<dataset>", "--seeds", "0,1", *chain.TINY),
    ),
    "evaluation": (
        ("compare", "<evaluation>", "<twin evaluation>", "--out", "{out}/table.csv", "--items", "{out}/items.csv"),
        ("plot", "confusion", "<evaluation>", "--out", "{out}/confusion.png"),
        ("plot", "roc", "<evaluation>", "--out", "{out}/roc.png"),
        ("eval", "<model>", *SCORE),
    ),
    "requests": (
        ("extract", "<dataset>", *EXTRACT, "--device", "cpu"),
        ("train", "baseline", "<dataset>", "--seeds", "0", *chain.TINY),
        ("fit-ahm", "<features>"),
        ("parse-masks", "<dataset>", "--parser", "compact", "--size", "32", "--batch", "16"),
    ),
    "scorings": (("eval", "<ahm>", *SCORE), ("eval", "<study>", *SCORE)),
}
"""Of each kind, the commands that read it."""
WORK: Final[dict[str, tuple[str, ...]]] = {
    "work of parse-masks": ("parse-masks", "<dataset>", "--parser", "compact", "--size", "64", "--batch", "16"),
    "work of extract": ("extract", "<dataset>", *EXTRACT, "--size", "40", "--device", "cpu"),
    "work of train": ("train", "baseline", "<dataset>", "--seeds", "7", *chain.TINY, "--set", "train.epochs=3"),
}
"""Commands that are stopped on their way, damaged and resumed."""
OTHER_WORK: Final[dict[str, tuple[str, ...]]] = {
    "work of parse-masks": ("parse-masks", "<twin dataset>", "--parser", "compact", "--size", "64", "--batch", "16"),
    "work of extract": ("extract", "<twin dataset>", *EXTRACT, "--size", "40", "--device", "cpu"),
    "work of train": ("train", "baseline", "<dataset>", "--seeds", "8", *chain.TINY, "--set", "train.epochs=3"),
}
"""The like of other data or another seed, whose files are put among theirs."""
SEALED: Final = {f"sealed {name}": name for name in WORK}
"""Work that was whole and not yet in place."""


class Generator:
    """Draws of one trial."""

    def __init__(self, *seed: int) -> None:
        self._draws = np.random.default_rng(seed)

    def below(self, end: int) -> int:
        """Return a number from 0 to ``end - 1``."""
        return int(self._draws.integers(end))

    def one(self, things: Any) -> Any:  # noqa: ANN401 - of any sequence
        """Return one of a sequence."""
        return things[self.below(len(things))]


# ---- damage to the bytes of a file


def flip(data: bytes, draw: Generator) -> bytes:
    """Return the bytes with one bit flipped."""
    at = draw.below(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.below(8)]) + data[at + 1 :]


def halves(data: bytes, _draw: Generator) -> bytes:
    """Return the second half before the first."""
    middle = len(data) // 2
    return data[middle:] + data[:middle]


def body_halves(data: bytes, _draw: Generator) -> bytes:
    """Return the halves of what follows the header of an array exchanged."""
    middle = 128 + (len(data) - 128) // 2
    return data[:128] + data[middle:] + data[128:middle] if len(data) > 256 else halves(data, _draw)


def blocks(data: bytes, draw: Generator) -> bytes:
    """Return the bytes with two blocks exchanged."""
    size = min(512, max(1, len(data) // 4))
    count = len(data) // size
    first, second = sorted((draw.below(count), draw.below(count)))
    if first == second:
        first, second = 0, count - 1
    a, b = first * size, second * size
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


def repeated(data: bytes, draw: Generator) -> bytes:
    """Return the bytes with one block written over the next."""
    size = min(512, max(1, len(data) // 4))
    at = draw.below(max(1, len(data) // size - 1)) * size
    return data[: at + size] + data[at : at + size] + data[at + 2 * size :]


def zeros(data: bytes, draw: Generator) -> bytes:
    """Return the bytes with zeros in a block, as a file system leaves them after a power cut."""
    size = min(512, len(data))
    at = draw.below(len(data) - size + 1)
    return data[:at] + bytes(size) + data[at + size :]


def cut(data: bytes, draw: Generator) -> bytes:
    """Return the bytes up to somewhere."""
    return data[: draw.below(len(data))]


def lines_cut(data: bytes, draw: Generator) -> bytes:
    """Return whole lines up to somewhere."""
    lines = data.splitlines(keepends=True)
    return b"".join(lines[: draw.below(len(lines))])


def lines_exchanged(data: bytes, draw: Generator) -> bytes:
    """Return the lines with two of them exchanged."""
    lines = data.splitlines(keepends=True)
    first, second = draw.below(len(lines)), draw.below(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def digit(data: bytes, draw: Generator) -> bytes:
    """Return the bytes with another digit in the place of one."""
    places = [place.start() for place in re.finditer(rb"[0-9]", data)]
    at = draw.one(places) if places else 0
    return data[:at] + str((data[at] + 1 + draw.below(9)) % 10).encode() + data[at + 1 :]


def added(data: bytes, draw: Generator) -> bytes:
    """Return more bytes."""
    return data + bytes(draw.below(256) for _ in range(1 + draw.below(64)))


BYTES: Final[dict[str, Callable[[bytes, Generator], bytes]]] = {
    "bit flipped": flip,
    "halves exchanged": halves,
    "halves of the body exchanged": body_halves,
    "blocks exchanged": blocks,
    "block repeated": repeated,
    "block of zeros": zeros,
    "cut": cut,
    "bytes added": added,
}
LINES: Final = {"lines cut": lines_cut, "lines exchanged": lines_exchanged, "digit changed": digit}


def spoil(path: Path, draw: Generator, names: tuple[str, ...] = ()) -> str:
    """Damage the bytes of a file, in one of the ways of these names."""
    data = path.read_bytes()
    kinds = {**BYTES, **(LINES if path.suffix in {".json", ".jsonl"} else {})} if data else {"bytes added": added}
    name = draw.one(names or list(kinds))
    path.unlink()  # never through a hard link into another artifact
    path.write_bytes(kinds[name](data, draw))
    return f"{name} in {path.name}"


# ---- damage to files as wholes


def files(directory: Path) -> list[Path]:
    """Return the files of a directory that are no manifest."""
    return sorted(path for path in directory.iterdir() if path.name != MANIFEST)


def exchange(first: Path, second: Path) -> None:
    """Exchange two files or folders."""
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def damage_artifact(directory: Path, twin: Path, draw: Generator) -> str:
    """Damage one artifact, perhaps with the help of another of its kind."""
    manifest = directory / MANIFEST
    payload = draw.one(files(directory))
    match draw.below(16):
        case 0:
            payload.unlink()
            return f"{payload.name} deleted"
        case 1:
            payload.rename(payload.with_name(f"{payload.stem}-old{payload.suffix}"))
            return f"{payload.name} renamed"
        case 2 if (twin / payload.name).exists():
            shutil.copy(twin / payload.name, payload)
            return f"{payload.name} of another"
        case 3 if (twin / payload.name).exists():
            exchange(payload, twin / payload.name)
            return f"{payload.name} exchanged with another's"
        case 4:
            shutil.copy(twin / MANIFEST, manifest)
            return "manifest of another"
        case 5:
            exchange(directory, twin)
            return "two artifacts exchanged"
        case 6:
            shutil.rmtree(directory)
            shutil.copytree(twin, directory)
            return "another artifact in its place"
        case 7 if len(files(directory)) > 1:
            exchange(payload, draw.one([path for path in files(directory) if path != payload]))
            return f"{payload.name} and another file exchanged"
        case 8:
            manifest.unlink()
            return "manifest deleted"
        case 9 | 10:
            return spoil(manifest, draw)
        case 11:
            payload.unlink()
            payload.write_bytes(b"")
            return f"{payload.name} emptied"
    return spoil(payload, draw)


def damage_work(directory: Path, other: Path, older: Path, draw: Generator) -> str:
    """Damage the partial work of a stage, perhaps with that of another run, or with an older state of its own."""
    mine = sorted(directory.iterdir())
    chosen = draw.one(mine)
    checkpoints = sorted(directory.glob("checkpoint-*"))
    like = [path for path in mine if path.suffix == chosen.suffix and path != chosen]
    theirs = [path for path in sorted(other.iterdir()) if path.suffix == chosen.suffix]
    before = [path for path in sorted(older.iterdir()) if path.suffix == chosen.suffix]
    match draw.below(14):
        case 0:
            chosen.unlink()
            return f"{chosen.name} deleted"
        case 1 if like:
            exchange(chosen, one := draw.one(like))
            return f"{chosen.name} and {one.name} exchanged"
        case 2 if theirs:
            shutil.copy(one := draw.one(theirs), chosen)
            return f"{one.name} of another run as {chosen.name}"
        case 3 if theirs:
            shutil.copy(one := draw.one(theirs), directory / one.name)
            return f"{one.name} of another run"
        case 4 if before:
            shutil.copy(one := draw.one(before), directory / one.name)
            return f"{one.name} of an earlier moment"
        case 5 if before:
            shutil.copy(one := draw.one(before), chosen)
            return f"{one.name} of an earlier moment as {chosen.name}"
        case 6:
            shutil.rmtree(directory)
            shutil.copytree(other, directory)
            return "all of another run"
        case 7 if checkpoints:
            path = draw.one(checkpoints)
            _, step, digest = path.stem.split("-")
            path.rename(path.with_name(f"checkpoint-{int(step) + draw.one((-3, 1, 5, 900)):09}-{digest}.safetensors"))
            return f"{path.name} renamed to another step"
        case 8:
            chosen.rename(chosen.with_name(draw.one(mine).name + ".bak"))
            return f"{chosen.name} renamed"
        case 9 if like:
            shutil.copy(one := draw.one(like), chosen)
            return f"{one.name} as {chosen.name}"
        case 10 if lines := [path for path in mine if path.suffix == ".jsonl"]:
            chosen = draw.one(lines)
    return spoil(chosen, draw)


def damage_files(paths: list[Path], draw: Generator) -> str:
    """Damage one of some files that are alike, or all of them."""
    chosen = draw.one(paths)
    match draw.below(6) if len(paths) > 1 else 5:
        case 0:
            chosen.unlink()
            return f"{chosen.name} deleted"
        case 1 | 2:
            data = [path.read_bytes() for path in paths]
            for path, another in zip(paths, [*data[1:], data[0]], strict=True):
                path.write_bytes(another)
            return "each has the bytes of the next"
        case 3:
            shutil.copy(draw.one([path for path in paths if path != chosen]), chosen)
            return "one as another"
    return spoil(chosen, draw)


# ---- what a store holds


def snapshot(place: Path) -> dict[str, bytes]:
    """Return what all files of a store hold: a manifest with its keys in another order is no damage."""
    held = {}
    for path in sorted(place.rglob("*")):
        if path.is_file():
            held[str(path.relative_to(place))] = data = path.read_bytes()
            if path.name == MANIFEST:
                with suppress(ValueError):
                    held[str(path.relative_to(place))] = canonical_json(json.loads(data))
    return held


def lines_of(ended: chain.Ended) -> set[str]:
    """Return what a command printed, without how fast it was and whether there was anything to do."""
    lines = [line for line in ended.printed.splitlines() if " speed " not in line]
    return {re.sub(r"  \(?(up to date|written|[\d.,]+ (ms|s|min|h).*)\)?$", "", line) for line in lines}


@dataclass(frozen=True, slots=True)
class State:
    """The artifacts of a store that can be read, without what may differ (times, order), and what is beside them."""

    artifacts: dict[str, tuple[Any, ...]]
    out: dict[str, bytes]

    @classmethod
    def of(cls, place: Path) -> State:
        """Read a store."""
        artifacts = {}
        for directory in Store(place).directories():
            try:
                found = read_manifest(directory)
            except FerError:
                continue
            artifacts[str(directory.relative_to(place))] = (
                *(found.content, found.summary, found.protocol, found.config, found.warnings, found.created),
            )
        return cls(artifacts, {path.name: path.read_bytes() for path in (place / "out").iterdir()})


def equal(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    """Tell whether two artifacts say the same, no matter when they were made."""
    return first[:-1] == second[:-1]


@dataclass(slots=True)
class Reference:
    """What a command does to a sound store: how it ends, and the store afterwards."""

    ended: chain.Ended
    after: State
    steady: set[str]
    """The lines that it prints each time."""


@dataclass(slots=True)
class Tally:
    """How the trials of a kind ended."""

    trials: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def _roles(kinds: tuple[str, ...]) -> set[str]:
    """Return what a store must hold for the trials of these kinds: the kinds twice, and what their commands name."""
    roles = {"dataset"} | {role for role, _ in BASE if role.removeprefix("twin ") in kinds}
    commands = [words for kind in kinds for words in READERS.get(kind, ())]
    commands += [table[SEALED.get(kind, kind)] for kind in kinds for table in (WORK, OTHER_WORK) if kind not in READERS]
    roles |= {word[1:-1] for words in commands for word in words if word[0] == "<"}
    for role, words in reversed(BASE):
        if role in roles:
            roles |= {word[1:-1] for word in words if word[0] == "<"}
    return roles


class Matrix:
    """A store that holds every kind twice, partial work, and what every command makes of them undamaged."""

    def __init__(self, folder: Path, kinds: tuple[str, ...]) -> None:
        self.folder, self.place = folder, folder / "trial"
        (self.place / "out").mkdir(parents=True)
        self.references: dict[str, str] = {}
        needed = _roles(kinds)
        for role, words in BASE:
            if role in needed:
                self._make(role, words)
        self.base = self._keep("base")
        self._make("split", ("split", "<dataset>", "--folds", "3"))
        self.with_split = self._keep("with-split")
        self.expected: dict[tuple[str, tuple[str, ...]], Reference] = {}
        self.work: dict[str, tuple[Path, Path, Path, Path]] = {}

    def _make(self, role: str, words: tuple[str, ...]) -> None:
        ended = chain.command(self.filled(words), self.place)
        assert ended.code == 0, ended.said
        newest = Store(self.place).directories((role.rpartition(" ")[2] if role != "split" else "dataset",))[0]
        kind, name, version = newest.relative_to(self.place).parts
        self.references[role] = f"{kind}/{name}@{version}"

    def _keep(self, name: str) -> Path:
        return chain.copy(self.place, self.folder / name)

    def filled(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Return a command with references in the places of roles."""
        return tuple(self.references.get(word[1:-1], word) if word[0] == "<" else word for word in words)

    def directory(self, role: str) -> Path:
        """Return where an artifact stands in the trial."""
        return self.place / self.references[role].replace("@", "/")

    def start(self, words: tuple[str, ...]) -> Path:
        """Return the store that a command reads."""
        return self.with_split if "<split>" in words else self.base

    def reference(self, words: tuple[str, ...], start: Path) -> Reference:
        """Return what a command makes of a sound store, found once."""
        key = (str(start), words)
        if key not in self.expected:
            runs = []
            for _ in range(2):
                chain.copy(start, self.place)
                runs.append(chain.command(self.filled(words), self.place))
            first, second = map(lines_of, runs)
            assert runs[0].code in {0, 3}, runs[0].said
            self.expected[key] = Reference(runs[0], State.of(self.place), first & second)
        return self.expected[key]

    def stopped(self, name: str) -> tuple[Path, Path, Path, Path]:
        """Return a store with partial work, that work's place, the work of another run, and its own of earlier."""
        if name not in self.work:
            sealed = name in SEALED
            words, other = (commands[SEALED.get(name, name)] for commands in (WORK, OTHER_WORK))
            ended = self._stop(other, 1.0 if sealed else 0.6)
            other_work = chain.copy(self._partial(), self.folder / f"{name}-other")
            if sealed:
                older_work = other_work
            else:
                self._stop(words, 0.3)
                older_work = chain.copy(self._partial(), self.folder / f"{name}-older")
            ended = self._stop(words, 1.0 if sealed else 0.6)
            assert ended.code == -signal.SIGKILL, ended
            store = self._keep(name)
            self.work[name] = (store, self._partial().relative_to(self.place), other_work, older_work)
        return self.work[name]

    def _stop(self, words: tuple[str, ...], share: float) -> chain.Ended:
        """Run a command on the sound store up to a share of its steps on the disk, or until its work is sealed."""
        filled, report = self.filled(words), self.folder / "steps"
        if share == 1.0:
            chain.copy(self.base, self.place)
            return chain.command(filled, self.place, layer=_killed_when_sealed)
        report.unlink(missing_ok=True)
        chain.copy(self.base, self.place)
        ended = chain.command(filled, self.place, layer=lambda: _count_steps(report))
        assert ended.code == 0, ended.said
        chain.copy(self.base, self.place)
        steps = int(report.read_text())
        return chain.command(filled, self.place, layer=lambda: _killed_at(int(share * steps)))

    def _partial(self) -> Path:
        (directory,) = self.place.glob("*/*/.partial-*")
        return directory

    def damaged(self, kind: str, words: tuple[str, ...], draw: Generator) -> tuple[Path, str]:
        """Damage what is of a kind in a new copy of its store; return the sound store and what was done."""
        work = self.stopped(kind) if kind in WORK or kind in SEALED else None
        start = work[0] if work else self.start(words)
        while True:
            chain.copy(start, self.place)
            before = snapshot(self.place)
            if work:
                what = damage_work(self.place / work[1], work[2], work[3], draw)
            elif kind == "requests":
                what = damage_files(sorted((self.place / REQUESTS).iterdir()), draw)
            elif kind == "scorings":
                # Whole lines that are gone cannot be told: nothing else knows of them.
                what = spoil(self.place / "scorings.jsonl", draw, tuple(name for name in BYTES if "cut" not in name))
            else:
                what = damage_artifact(self.directory(kind), self.directory(f"twin {kind}"), draw)
            if snapshot(self.place) != before:
                return start, what

    def trial(self, kind: str, number: int, seed: int, layer: Callable[[], None] | None = None) -> tuple[str, str]:
        """Damage something of a kind and run a command that reads it; return how that ended, and the line to print."""
        commands = READERS.get(kind) or (WORK[SEALED.get(kind, kind)],)
        words = commands[number % len(commands)]
        draw = Generator(seed, sorted([*READERS, *WORK, *SEALED]).index(kind), number)
        if kind in WORK or kind in SEALED:
            self.stopped(kind)
        start = self.stopped(kind)[0] if kind in WORK or kind in SEALED else self.start(words)
        reference = self.reference(words, self.base if kind in WORK or kind in SEALED else start)
        _, what = self.damaged(kind, words, draw)
        shown = f"{kind} {number}: {what}; {' '.join(words[:3])}"
        found = []
        if kind in KINDS and layer is None and not any(one.damage for one in verify_store(Store(self.place))):
            found.append("fer verify does not find it")
        before = State.of(self.place)
        left = {one.path for one in leftovers(Store(self.place), superseded=False)}
        ended = chain.command(self.filled(words), self.place, layer=layer)
        found += ended.faults((0, 1, 3))
        after = State.of(self.place)
        end = "refused"
        if ended.code == reference.ended.code:
            wrong = self._differences(before, after, State.of(start), reference)
            missing = reference.steady - lines_of(ended)
            wrong += [f"it does not print {sorted(missing)[0]!r}"] if missing else []
            words_said = [line for line in ended.said.splitlines() if line not in reference.ended.said.splitlines()]
            said = [line for line in words_said if line.startswith("fer: warning")]
            if wrong and said:
                end, shown = "told", f"{shown}: {said[0]}"
            elif wrong:
                found += wrong
            else:
                end = "repaired" if said or (before.artifacts != after.artifacts and words_said) else "harmless"
        else:
            shown = f"{shown}: {ended.error}"
            made = [path for path in after.artifacts if path not in before.artifacts]
            found += [f"it failed and left {path}" for path in made]
        found += [
            f"left over: {one.path.relative_to(self.place)}"
            for one in leftovers(Store(self.place), superseded=False)
            if one.path not in left and not one.path.name.startswith(".partial-")
        ]
        if found:
            return "FAULT", "\n    ".join([shown, *found])
        return end, shown

    def _differences(self, before: State, after: State, sound: State, reference: Reference) -> list[str]:
        """Return in what the results are not those of a sound store."""
        known = {**sound.artifacts, **reference.after.artifacts}
        found = []
        for path, artifact in after.artifacts.items():
            if before.artifacts.get(path) == artifact:
                continue  # not this command's work
            if path not in known or not equal(artifact, known[path]):
                found.append(f"{path} has other results")
            found += [f"{path} is damaged: {damage}" for damage in verify_directory(self.place / path)]
        made = set(reference.after.artifacts) - set(sound.artifacts)
        found += [f"{path} is missing" for path in sorted(made - set(after.artifacts))]
        found += [f"{name} differs" for name, data in reference.after.out.items() if after.out.get(name) != data]
        return found


# ---- layers: called in the process that is to meet the damage


def _count_steps(report: Path) -> None:
    count, sync = 0, os.fsync

    def call(fd: Any) -> None:  # noqa: ANN401 - as of the function
        nonlocal count
        count += 1
        report.write_text(str(count))
        sync(fd)

    os.fsync = call


def _killed_at(step: int) -> None:
    count, sync = 0, os.fsync

    def call(fd: Any) -> None:  # noqa: ANN401 - as of the function
        nonlocal count
        count += 1
        sync(fd)
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = call


def _killed_when_sealed() -> None:
    def publish(source: Path, target: Path) -> bool:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError(source, target)

    atomic_io.publish = publish


class _Anything:
    """Equal to everything."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def unchecked() -> None:
    """Disable every check of stored bytes: the control."""
    from fer_cli.artifacts import journal
    from fer_cli.cli import requests
    from fer_cli.evaluation import test_set_usage
    from fer_cli.faces import parsing
    from fer_cli.inference import extraction
    from fer_cli.training import checkpoint

    def process(*arguments: Any, is_sound: Any, **options: Any) -> Any:  # noqa: ANN401 - as of the function
        return journal.process_blocks(*arguments, is_sound=lambda _block, _checksums: True, **options)

    Artifact.file = lambda self, name: self.path / name  # type: ignore[method-assign]
    checksums.StoredArray._check = lambda _self, _blocks: None  # type: ignore[method-assign,assignment]
    Store.open = lambda _self, directory: Artifact(directory, read_manifest(directory))  # type: ignore[method-assign,assignment]
    Manifest.compute_seal = lambda self: self.seal  # type: ignore[method-assign]
    parsing.process_blocks = extraction.process_blocks = process  # type: ignore[attr-defined]
    requests.json = SimpleNamespace(  # type: ignore[assignment,attr-defined]
        loads=lambda data: [_Anything(), json.loads(data)[1]], dumps=json.dumps
    )
    test_set_usage._checksum = lambda _scoring: _Anything()  # type: ignore[assignment,return-value]
    checkpoint.sha256_file = lambda path: path.stem.rpartition("-")[2]  # type: ignore[attr-defined]


def run(
    matrix: Matrix, kinds: tuple[str, ...], trials: int, seed: int, *, control: bool, lines: bool
) -> dict[str, Tally]:
    """Run trials over kinds in turn; return how they ended."""
    tallies = {kind: Tally() for kind in kinds}
    for number in range(trials):
        kind = kinds[number % len(kinds)]
        end, line = matrix.trial(kind, number // len(kinds), seed, unchecked if control else None)
        tally = tallies[kind]
        tally.trials += 1
        tally.ends[end] += 1
        if end == "FAULT":
            tally.faults.append(line)
        if lines or (end == "FAULT" and not control):
            print(f"{end:8} {line}", flush=True)
    return tallies


ENDS: Final = ("refused", "repaired", "harmless", "told", "FAULT")


def table(tallies: dict[str, Tally]) -> str:
    """Return kinds by how their trials ended, as a Markdown table."""
    rows: list[tuple[str, ...]] = [("kind", "trials", *ENDS)]
    rows += [(kind, str(one.trials), *(str(one.ends[end]) for end in ENDS)) for kind, one in tallies.items()]
    total = [str(sum(one.ends[end] for one in tallies.values())) for end in ENDS]
    rows.append(("in all", str(sum(one.trials for one in tallies.values())), *total))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def main() -> None:
    """Run the matrix and the control; exit with 1 where there was a fault, or where the control has none of a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("--trials", 600), ("--seed", 0), ("--control", 180)):
        parser.add_argument(option, type=int, default=default)
    every = (*READERS, *WORK, *SEALED)
    parser.add_argument("--kinds", default=",".join(every))
    parser.add_argument("--lines", action="store_true", help="print every trial")
    options = parser.parse_args()
    kinds = tuple(options.kinds.split(","))
    chain.warm_up()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        matrix = Matrix(Path(folder), kinds)
        tallies = run(matrix, kinds, options.trials, options.seed, control=False, lines=options.lines)
        print(f"{table(tallies)}\n{options.trials} damages, seed {options.seed}, {time.perf_counter() - begun:.0f} s")
        controls = run(matrix, kinds, options.control, options.seed, control=True, lines=False)
        blind = [kind for kind, one in controls.items() if one.trials and not one.ends["FAULT"]]
        caught = ", ".join(f"{kind} {one.ends['FAULT']} of {one.trials}" for kind, one in controls.items())
        print(f"control, without checks: {caught}")
        if blind:
            print(f"the control has no fault in: {', '.join(blind)}")
    sys.exit(int(bool(blind) or any(one.faults for one in tallies.values())))
