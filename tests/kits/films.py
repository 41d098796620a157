"""A small data set shaped like CK+: 118 subjects, 327 labelled sequences, the last three frames of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import PartRole
from fer_cli.artifacts.store import Store
from fer_cli.datasets.records import Block, LoadReport, Row
from fer_cli.stages.prepare import prepare

CLASSES = ("happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
SEQUENCES = {"anger": 45, "contempt": 18, "disgust": 59, "fear": 25, "happy": 69, "sad": 28, "surprise": 83}
FRAMES = 3
SIDE = 24


class Films:
    """Frames of a sequence differ by noise alone; ``known`` tells which of subject and sequence the source names."""

    def __init__(self, subjects: int, sequences: int | None, known: tuple[str, ...]) -> None:
        self.subjects, self.sequences, self.known = subjects, sequences, known

    @property
    def name(self) -> str:
        return "films"

    @property
    def files(self) -> dict[str, Path]:
        return {}

    @property
    def config(self) -> dict[str, Any]:
        return {"subjects": self.subjects, "sequences": self.sequences, "known": list(self.known)}

    @property
    def expected_rows(self) -> int | None:
        return None

    def blocks(self) -> Iterator[Block]:
        generator = np.random.default_rng(0)
        patterns = generator.uniform(60, 190, (len(CLASSES), SIDE, SIDE))
        # Not in the order of their names, as sources come from a file system.
        subjects = [f"S{number:03}" for number in generator.permutation(999)[: self.subjects]]
        labels = [label for label, number in SEQUENCES.items() for _ in range(number)]
        labels = [labels[place] for place in generator.permutation(len(labels))]
        if self.sequences is not None:
            labels = [CLASSES[place % len(CLASSES)] for place in range(self.sequences)]
        for place, label in enumerate(labels):
            subject = subjects[place % self.subjects]
            sequence = f"{subject}_{place // self.subjects + 1:03}"
            face = patterns[CLASSES.index(label)] + generator.normal(0, 30, (SIDE, SIDE))
            images = np.clip(face + generator.normal(0, 4, (FRAMES, SIDE, SIDE)), 0, 255).astype(np.uint8)
            rows = [
                Row(
                    id=f"{sequence}_{frame:08}",
                    split="train",
                    label=label,
                    source="films",
                    subject=subject if "subject" in self.known else None,
                    sequence=sequence if "sequence" in self.known else None,
                )
                for frame in range(FRAMES)
            ]
            yield Block(tuple(rows), images)

    def report(self) -> LoadReport:
        return LoadReport(
            classes=CLASSES,
            label_rule="film labels",
            parts=[PartRole(part="all", use="train", carved=("validation", "test"))],
            carve_validation=True,
            carve_test=True,
        )


def film_dataset(
    store: Store,
    *,
    subjects: int = 118,
    sequences: int | None = None,
    known: tuple[str, ...] = ("subject", "sequence"),
) -> Artifact:
    return prepare(store=store, loader=Films(subjects, sequences, known)).artifact
