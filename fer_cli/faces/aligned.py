"""Any data set of image files with its faces aligned: what a loader lists, a face's place by its five points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
from PIL import Image

from fer_cli.artifacts.protocol import Alignment
from fer_cli.core.errors import FerError, UsageError
from fer_cli.datasets.image_files import decode_all
from fer_cli.datasets.image_hash import decoded_hash
from fer_cli.datasets.image_list import DEFAULT_SIZE
from fer_cli.datasets.records import Block, LoadReport, Pictured, PictureLoader
from fer_cli.datasets.registry import Option
from fer_cli.faces.alignment import FLAGS, NO_FACE, SEVERAL, TINY_FACE, open_aligner
from fer_cli.faces.detection import TINY

if TYPE_CHECKING:
    from fer_cli.faces.alignment import Aligner

_ROWS: Final = 16
_BYTES: Final = 128 << 20  # of decoded images that are held at once, or one image
_INSTEAD: Final = ("size", "size_if_mixed", "resize", "faces")  # keys of a loader's settings that alignment replaces
RULE: Final = (
    "Aligned faces are 112 px wide, or --size. Of several faces the largest counts, weighted by how central it is; "
    "faces under 24 px never do. The number of low-confidence faces is reported, and the index flags each."
)
"""What :mod:`fer_cli.faces.alignment` decides for the user, for the help of the data sets that can be aligned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceDetection:
    """The options by which faces in raw images are found."""

    detector: Annotated[
        str,
        Option(
            "retinaface-resnet50, retinaface-mobile0.25 (downloaded if missing), or auto: the first of them whose "
            "weights are on this machine."
        ),
    ] = "auto"
    weights: Annotated[str | None, Option("A file with the detector's weights.")] = None
    weights_sha256: Annotated[str | None, Option("SHA-256 that the file of weights must have.")] = None
    no_face: Annotated[
        str,
        Option(
            "For an image without a face, or with none of 24 px: centre keeps its middle, drop leaves it out, which "
            "makes the test set another, easier one."
        ),
    ] = "centre"
    device: Annotated[str, Option("The detector's device: auto, cpu, cuda, cuda:N or mps.")] = "auto"

    def refuse_unused(self) -> None:
        """Refuse options of detection where no face is aligned.

        Raises:
            UsageError: one of them is not its default.
        """
        if self != DEFAULT_DETECTION:
            raise UsageError(
                "--detector, --weights, --weights-sha256, --no-face and --device need --align", hint="add --align"
            )

    def align(
        self,
        loader: PictureLoader,
        *,
        size: int | None,
        name: str | None = None,
        grey: bool | None = None,
        jobs: int | None = None,
        asked: bool = True,
    ) -> Aligned:
        """Return the loader with its faces aligned.

        Where there is no detector the images are used as face crops, unless alignment was asked for.

        Raises:
            FerError: it was asked for, and no detector's weights are on this machine.
        """
        aligner = open_aligner(
            size=size or DEFAULT_SIZE,
            detector=self.detector,
            weights=self.weights,
            sha256=self.weights_sha256,
            without=self.no_face,
            device=self.device,
        )
        if aligner is None and asked:
            hint = "run 'fer weights fetch retinaface-mobile0.25', give --weights FILE, or omit --align"
            raise FerError("--align: no face detector's weights are on this machine", hint=hint)
        return Aligned(loader, aligner, name=name, grey=grey, jobs=jobs)


DEFAULT_DETECTION: Final = FaceDetection()


class Aligned:
    """A loader whose images go through an aligner.

    Args:
        loader: whose images they are; only its list of them is read, not its blocks.
        aligner: None where there is no detector: the loader's own blocks then pass as they are, and the report says
            that images were used as face crops.
        name: the artifact's name, by default the loader's with ``-aligned``; without an aligner always the loader's.
        grey: one channel, or three; by default one if no image has colour.
        jobs: threads that decode; by default one a core, at most four. The result does not depend on it.
    """

    def __init__(
        self,
        loader: PictureLoader,
        aligner: Aligner | None,
        *,
        name: str | None = None,
        grey: bool | None = None,
        jobs: int | None = None,
    ) -> None:
        self._loader = loader
        self._aligner = aligner
        self._name = loader.name if aligner is None else name or f"{loader.name}-aligned"
        self._grey = grey
        self._jobs = jobs
        self._flags: Counter[str] = Counter()
        self._read = 0

    @property
    def name(self) -> str:
        """The name that was given, or the loader's with ``-aligned``."""
        return self._name

    @property
    def files(self) -> dict[str, Path]:
        """The loader's; the detector's weights are known by their hash."""
        return self._loader.files

    @property
    def config(self) -> dict[str, Any]:
        """The loader's settings, and those of the alignment in place of its resizing."""
        own = self._loader.config
        kind = type(self._loader).__name__
        if self._aligner is None:
            return {"of": kind, **own, "alignment": None}
        kept = {key: value for key, value in own.items() if key not in _INSTEAD}
        return {"of": kind, **kept, "grey": self._grey, "alignment": self._aligner.record()}

    @property
    def expected_rows(self) -> int | None:
        """The loader's: more than will come where images without a face are dropped."""
        return self._loader.expected_rows

    def blocks(self) -> Iterator[Block]:
        """Yield the images in the loader's order, some at a time."""
        if self._aligner is None:
            yield from self._loader.blocks()
            return
        pictures = self._loader.pictures()
        grey = self._grey if self._grey is not None else all(picture.grey for picture in pictures)
        for chunk in _chunks(pictures):
            rows, images = [], []
            decoded = decode_all([picture.path for picture in chunk], grey=False, jobs=self._jobs)
            hashes = [decoded_hash(image) for image in decoded]
            found = self._aligner.take(decoded)
            del decoded  # before the next ones come
            for picture, pixels, taken in zip(chunk, hashes, found, strict=True):
                self._flags.update(taken.flags)
                if taken.pixels is not None:
                    flags = (*picture.row.flags, *taken.flags)
                    rows.append(replace(picture.row, flags=flags, decoded_hash=pixels))
                    images.append(np.asarray(Image.fromarray(taken.pixels).convert("L")) if grey else taken.pixels)
            self._read += len(chunk)
            if rows:
                yield Block(tuple(rows), np.stack(images))
        if self._read == sum(self._flags[flag] for flag in (NO_FACE, TINY_FACE)) and self._aligner.without == "drop":
            raise FerError(
                f"no face was found in any of {self._read:,} images, and all were dropped",
                hint="check the images, or omit --no-face drop",
            )

    def report(self) -> LoadReport:
        """Return the loader's report, with what became of images whose face was in doubt."""
        report = self._loader.report()
        if self._aligner is None:
            text = "no detector's weights are here: the images were used as face crops, not aligned"
            report.warnings.append(f"{text} ('fer weights ls' says what to download)")
            report.alignment = Alignment(kind="crops")
            report.alignment_record = {"detector": None}
            return report
        record = self._aligner.record()
        dropped = self._aligner.without == "drop"
        report.faces = None  # how the loader itself would have made them
        for flag, what in FLAGS.items():
            if not (count := self._flags[flag]):
                continue
            became = ""
            if flag in (NO_FACE, TINY_FACE):
                became = ": dropped" if dropped else ": the middle of the image was taken"
                if dropped:
                    report.dropped[what] = count
            report.warnings.append(f"in {count:,} of {self._read:,} images {what}{became} (flag {flag})")
        counts = {"pictures": self._read, **{flag: self._flags[flag] for flag in FLAGS}}
        without = sum(self._flags[flag] for flag in (NO_FACE, TINY_FACE))
        if dropped and without:
            report.label_rule += f", less {without:,} without a face"
        report.alignment = Alignment(
            kind="aligned",
            detector=record["detector"],
            weights=record["weights"],
            size=record["size"],
            pictures=self._read,
            several_faces=self._flags[SEVERAL],
            without_face=without,
            smallest_face=float(TINY),
            dropped=dropped,
        )
        report.alignment_record = {**record, "weights": self._aligner.detector.provenance(), "counts": counts}
        return report


def _chunks(pictures: Sequence[Pictured]) -> Iterator[list[Pictured]]:
    """Split images into runs that are decoded at once: by number, and by the room that they take."""
    chunk: list[Pictured] = []
    room = 0
    for picture in pictures:
        need = picture.row.width * picture.row.height * 3
        if chunk and (len(chunk) == _ROWS or room + need > _BYTES):
            yield chunk
            chunk, room = [], 0
        chunk.append(picture)
        room += need
    if chunk:
        yield chunk
