"""A small data set of noise with a class signal, for tests that want an artifact and no faces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.store import Store
from fer_cli.datasets.records import Block, LoadReport, Row
from fer_cli.stages.prepare import prepare

CLASSES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")


class Toy:
    """Every image is noise on a pattern of its class; train, validation and test in the shares 6:2:2."""

    def __init__(self, *, images: int, grey: bool, seed: int, classes: tuple[str, ...]) -> None:
        self.images, self.grey, self.seed, self.classes = images, grey, seed, classes

    @property
    def name(self) -> str:
        return "toy"

    @property
    def files(self) -> dict[str, Path]:
        return {}

    @property
    def config(self) -> dict[str, Any]:
        return {"images": self.images, "grey": self.grey, "seed": self.seed, "classes": list(self.classes)}

    @property
    def expected_rows(self) -> int | None:
        return self.images

    def blocks(self) -> Iterator[Block]:
        generator = np.random.default_rng(self.seed)
        shape = (24, 24) if self.grey else (24, 24, 3)
        patterns = generator.uniform(60, 190, (len(self.classes), *shape))
        for start in range(0, self.images, 64):
            rows, images = [], []
            for index in range(start, min(self.images, start + 64)):
                label = index % len(self.classes)
                split = ("train", "train", "train", "validation", "test")[index // len(self.classes) % 5]
                rows.append(Row(id=f"toy-{index:05}", split=split, label=self.classes[label], source="toy"))
                images.append(np.clip(patterns[label] + generator.normal(0, 70, shape), 0, 255))
            yield Block(tuple(rows), np.array(images).astype(np.uint8))

    def report(self) -> LoadReport:
        return LoadReport(classes=self.classes, label_rule="toy labels")


def toy_dataset(
    store: Store, *, images: int = 400, grey: bool = True, seed: int = 0, classes: tuple[str, ...] = CLASSES
) -> Artifact:
    return prepare(store=store, loader=Toy(images=images, grey=grey, seed=seed, classes=classes)).artifact
