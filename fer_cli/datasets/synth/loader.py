"""``synth``: the embedded data set of synthetic faces, with true action units, subjects and masks, and no download.

Picture number n of a subject shows ``EXPRESSIONS[n % 8]``, so a picture is a function of the seed, its subject and
its number alone: a larger or differently balanced data set holds the same pictures under the same ids. It is a test
bench, never a claim about real faces.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray
from PIL import Image

from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS, in_order
from fer_cli.core.machine import usable_cpus
from fer_cli.datasets.image_hash import source_hash
from fer_cli.datasets.records import SPLITS, Block, LoadReport, Row
from fer_cli.datasets.registry import DatasetDefinition, Option
from fer_cli.datasets.synth.faces import MAX_SIZE, MIN_SIZE, render_face
from fer_cli.datasets.synth.parameters import (
    AU_NAMES,
    FaceParameters,
    Identity,
    sample_aus,
    sample_identity,
    sample_scene,
)

BY_FREQUENCY: Final = ("happy", "neutral", "sad", "surprise", "anger", "fear", "disgust", "contempt")
"""The expressions from the commonest to the rarest, as in the data sets collected in the wild."""

SPLIT_SHARES: Final = {"train": 0.7, "validation": 0.1, "test": 0.2}
REVISION: Final = 1
"""Raised whenever the same settings give other pictures."""

_BLOCK: Final = 64  # pictures
_WORTH_PROCESSES: Final = 800  # pictures: below, starting processes costs more than they save

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One picture before it is drawn."""

    split: str
    subject: int
    number: int


class Synth:
    """The loader of the data set ``synth``; it has the shape of :class:`~fer_cli.datasets.records.Loader`.

    Args:
        images: how many pictures, over all splits.
        size: their side in pixels.
        subjects: how many subjects; about 70% are in train, 10% in validation and 20% in test, none in two of them.
        imbalance: pictures of the largest class for one of the smallest, in every split; the classes between decay
            geometrically in the order of :data:`BY_FREQUENCY`.
        contempt: eight classes instead of seven.
        grey: grey pictures instead of colour.
        seed: decides subjects and pictures.
        jobs: processes that draw; None takes one a core where that pays. The result does not depend on it.

    Raises:
        FerError: a setting is out of range, or a split would lack a class.
    """

    def __init__(
        self,
        *,
        images: Annotated[int, Option("Number of faces.")] = 1600,
        size: Annotated[int, Option("Side in pixels.")] = 112,
        subjects: Annotated[int, Option("Number of subjects; each is in one split only.")] = 80,
        imbalance: Annotated[float, Option("Ratio of the largest class to the smallest.")] = 10.0,
        contempt: Annotated[bool, Option("With contempt: eight classes.")] = False,
        grey: Annotated[bool, Option("Greyscale images.")] = False,
        seed: int = 0,
        jobs: Annotated[int | None, Option("Processes that render. [default: one per core]")] = None,
    ) -> None:
        _check("--size", size, MIN_SIZE, MAX_SIZE)
        _check("--subjects", subjects, len(SPLITS), 1_000_000)
        _check("--images", images, 2 * subjects, 10_000_000, "two images a subject")
        _check("--imbalance", imbalance, 1, 10_000)
        _check("--seed", seed, 0, 2**63 - 1)
        if jobs is not None:
            _check("--jobs", jobs, 1, 1024)
        self.images, self.size, self.subjects, self.imbalance = images, size, subjects, float(imbalance)
        self.contempt, self.grey, self.seed = contempt, grey, seed
        self.jobs = jobs or (usable_cpus() if images >= _WORTH_PROCESSES else 1)
        self._items = plan(images, subjects, self.imbalance, BY_FREQUENCY[: 7 + contempt])

    @property
    def name(self) -> str:
        """``synth``, ``synth-contempt``, ``synth-grey`` or ``synth-contempt-grey``."""
        return "synth" + "-contempt" * self.contempt + "-grey" * self.grey

    @property
    def files(self) -> dict[str, Path]:
        """No files: the pictures come from the settings alone."""
        return {}

    @property
    def config(self) -> dict[str, Any]:
        """All settings but the number of processes, and the revision of the renderer."""
        return {
            "images": self.images,
            "size": self.size,
            "subjects": self.subjects,
            "imbalance": self.imbalance,
            "contempt": self.contempt,
            "grey": self.grey,
            "seed": self.seed,
            "renderer": REVISION,
        }

    @property
    def expected_rows(self) -> int:
        """How many rows will come."""
        return self.images

    def blocks(self) -> Iterator[Block]:
        """Yield pictures by split, subject and number."""
        groups = [self._items[start : start + _BLOCK] for start in range(0, len(self._items), _BLOCK)]
        for items, arrays in zip(groups, self._draw(groups), strict=True):
            yield Block(tuple(self._row(item) for item in items), *arrays)

    def report(self) -> LoadReport:
        """Tell classes, splits and action units."""
        people = {split: len({item.subject for item in self._items if item.split == split}) for split in SPLITS}
        return LoadReport(
            classes=in_order(BY_FREQUENCY[: 7 + self.contempt]),
            label_rule="synthetic AUs",
            family="synth",
            synthetic=True,
            subjects_remark=", ".join(f"{number} in {split}" for split, number in people.items()) + "; none in two",
            au_columns=AU_NAMES,
        )

    def _row(self, item: ImageEntry) -> Row:
        subject = f"s{item.subject:03d}"
        return Row(
            id=f"synth-{subject}-{item.number:04d}",
            split=item.split,
            label=EXPRESSIONS[item.number % len(EXPRESSIONS)],
            source="synth",
            width=self.size,
            height=self.size,
            subject=subject,
            source_hash=source_hash(f"synth {REVISION}, seed {self.seed}, subject {item.subject}, {item.number}"),
        )

    def _draw(self, groups: list[list[ImageEntry]]) -> Iterator[Arrays]:
        drawn = 0
        if self.jobs > 1 and len(groups) > 1:
            for arrays in self._draw_in_processes(groups):
                yield arrays
                drawn += 1
        # All of them where there is one process; the rest where processes died, as they do if a script that calls
        # this lacks its ``if __name__ == "__main__"``.
        for items in groups[drawn:]:
            yield draw_items(items, self.seed, self.size, self.grey)

    def _draw_in_processes(self, groups: list[list[ImageEntry]]) -> Iterator[Arrays]:
        """Yield drawn groups in order, a bounded number ahead; end early where the processes die."""
        jobs = min(self.jobs, len(groups))
        pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_follow_parent)
        ahead: deque[Future[Arrays]] = deque()
        waiting = iter(groups)
        try:
            while True:
                while len(ahead) < 2 * jobs and (items := next(waiting, None)) is not None:
                    ahead.append(pool.submit(draw_items, items, self.seed, self.size, self.grey))
                if not ahead:
                    return
                yield ahead.popleft().result()
        except BrokenProcessPool:
            return
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def plan(images: int, subjects: int, imbalance: float, classes: tuple[str, ...]) -> list[ImageEntry]:
    """Say which pictures a data set holds, by split, subject and number.

    Subjects are shared out among the splits, pictures in proportion to subjects, classes by their weights, always by
    largest remainders. A split's pictures, sorted by class, are then dealt to its subjects like cards: subjects get
    equally many, one at most apart, and each gets the widest choice of expressions.

    Raises:
        FerError: a split would lack a class.
    """
    weights = imbalance ** -(np.arange(len(classes)) / (len(classes) - 1))
    people = _shares(subjects, np.array([SPLIT_SHARES[split] for split in SPLITS]))
    people = [max(number, 1) for number in people]
    people[0] = subjects - people[1] - people[2]
    pictures = _shares(images, np.array(people, dtype=np.float64))
    items, first = [], 0
    for split, members, total in zip(SPLITS, people, pictures, strict=True):
        counts = _shares(total, weights)
        if min(counts) == 0:
            enough = math.ceil(images / total * weights.sum() / weights[-1])
            raise FerError(
                f"--images {images} with --imbalance {imbalance:g} leaves no {classes[counts.index(0)]} in {split}",
                hint=f"give --images {enough} or more, or a smaller --imbalance",
            )
        deal = np.repeat(np.arange(len(classes)), counts)
        hands = [deal[person::members].tolist() for person in range(members)]
        for person, hand in enumerate(hands):
            numbers = []
            for index in dict.fromkeys(hand):
                step, start = len(EXPRESSIONS), EXPRESSIONS.index(classes[index])
                numbers += [start + step * repeat for repeat in range(hand.count(index))]
            items += [ImageEntry(split, first + person, number) for number in sorted(numbers)]
        first += members
    return items


def draw_items(items: list[ImageEntry], seed: int, size: int, grey: bool) -> Arrays:
    """Draw pictures: images (n, size, size[, 3]), masks (n, size, size), action units (n, 15)."""
    images = np.empty((len(items), size, size) if grey else (len(items), size, size, 3), np.uint8)
    masks = np.empty((len(items), size, size), np.uint8)
    aus = np.empty((len(items), len(AU_NAMES)), np.float32)
    for row, item in enumerate(items):
        face = face_of(seed, item.subject, item.number)
        picture, masks[row] = render_face(face, size)
        images[row] = np.asarray(Image.fromarray(picture).convert("L")) if grey else picture
        aus[row] = [face.aus[name] for name in AU_NAMES]
    return images, masks, aus


def face_of(seed: int, subject: int, number: int) -> FaceParameters:
    """Return the face in one picture of the data set: a function of these three numbers."""
    rng = Generator(PCG64(SeedSequence(seed, spawn_key=(subject, number))))
    return FaceParameters(
        identity=_person(seed, subject),
        aus=sample_aus(EXPRESSIONS[number % len(EXPRESSIONS)], rng),
        smirk_side=int(rng.choice([-1, 1])),
        scene=sample_scene(rng),
    )


@lru_cache(maxsize=4)
def _person(seed: int, subject: int) -> Identity:
    return sample_identity(Generator(PCG64(SeedSequence(seed, spawn_key=(subject,)))))


def _shares(total: int, weights: NDArray[np.float64]) -> list[int]:
    """Share ``total`` out in proportion to ``weights`` by largest remainders."""
    exact = total * weights / weights.sum()
    whole = np.floor(exact + 1e-9).astype(int)
    late = np.argsort(-(exact - whole), kind="stable")[: total - int(whole.sum())]
    whole[late] += 1
    return [int(share) for share in whole]


def _check(option: str, value: float, low: float, high: float, why: str = "") -> None:
    if not low <= value <= high:  # a NaN is in no range
        least = f"{low:,}" + (f" ({why})" if why else "")
        raise FerError(f"{option} {value:g} is out of range", hint=f"give a number from {least} to {high:,}")


def _follow_parent() -> None:
    """Let a drawing process leave Ctrl-C to its parent, and end when the parent is gone, even by kill -9."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


DATASET: Final = DatasetDefinition(
    summary="Synthetic faces with known action units, subjects and region masks: a test bench.",
    help="Synthetic faces with known action units, subjects and region masks: a test bench that says nothing about "
    "real faces.",
    open=Synth,
)
