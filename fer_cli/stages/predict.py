"""Stage ``predict``: expressions of the faces in photos, videos and cameras, by a trained model."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.atomic_io import make_directory, write_atomic
from fer_cli.artifacts.protocol import Tta
from fer_cli.artifacts.store import Store
from fer_cli.core import signals
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.progress import note, track
from fer_cli.prediction.rows import PredictionRow, Stream, Writer, format_of, text_writer, writing
from fer_cli.prediction.sources import Frame, Source, find_sources, frames

if TYPE_CHECKING:
    from fer_cli.prediction.faces import FaceFinder, Mode
    from fer_cli.prediction.model import Recogniser
    from fer_cli.prediction.video import VideoWriter

BATCH_BYTES: Final = 256 << 20
"""Decoded images that are held at once, in all, or one image."""


@dataclass(slots=True)
class PredictionSummary:
    """What came of it: of images, faces and rows how many, and how fast."""

    model: str
    classes: tuple[str, ...]
    images: int = 0
    faces: int = 0
    without_face: int = 0
    unreadable: int = 0
    left_out: tuple[str, ...] = ()
    expressions: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    rows: list[PredictionRow] = field(default_factory=list)
    """The first rows, for the terminal."""


def predict(
    *,
    store: Store,
    given: Sequence[str],
    model: str | None = None,
    faces: Mode = "auto",
    detector: str = "auto",
    detector_weights: str | None = None,
    detector_sha256: str | None = None,
    least: float = 0.0,
    every: float | None = None,
    batch: int = 16,
    tta: Tta = "none",
    output: Path | None = None,
    stream: Stream | None = None,
    form: str = "csv",
    draw: Path | None = None,
    device: str = "auto",
    shown: int = 20,
) -> PredictionSummary:
    """Find faces and say which expressions they show.

    Args:
        store: where the model is.
        given: photos, videos, folders, csv lists, ``camera``.
        model: reference of a model, a study, an ensemble or AHM, or an exported ONNX file; the one that comes with fer
            where it is None.
        faces: ``detect``, ``whole``, or ``auto``: detect, and whole images where no detector can be had.
        detector: its name, or auto.
        detector_weights: a file with its weights.
        detector_sha256: hash to expect of it.
        least: score of a detection that counts.
        every: seconds between two frames of a video that are looked at.
        batch: images at once.
        tta: ``none``, ``flip`` or ``ten-crop``, as ``fer eval`` has it; of a model of the store alone.
        output: a .csv, .jsonl or .parquet file to write.
        stream: where rows are written as ``form`` says as they come; None: nowhere.
        form: ``csv`` or ``jsonl``.
        draw: folder for the images and videos with what was seen in them.
        device: auto, or torch's name of it.
        shown: rows that the summary keeps.

    Raises:
        FerError: nothing could be read, the model or the detector is not there, or a file cannot be written.
        UsageError: options contradict each other.
    """
    if output is not None:
        format_of(output)
        if not output.parent.is_dir():
            raise FerError("there is no such folder", hint="make it first", path=output.parent)
    if every is not None and not 0 < every < float("inf"):
        raise UsageError(f"--every {every:g} is no number of seconds", hint="write 0.5s")
    sources = find_sources(given)
    targets = _targets(sources.found, draw)
    finder, recogniser = _opened(
        store, model, faces, detector, detector_weights, detector_sha256, least=least, device=device, tta=tta
    )
    summary = PredictionSummary(recogniser.reference, recogniser.classes, left_out=sources.left_out)
    begun = time.perf_counter()
    # Around the writers: what a signal raises at the end comes when their files are there.
    with signals.stop_on_signal("batch of images") as stop, ExitStack() as stack:
        writers: list[Writer] = []
        if output is not None:
            writers.append(stack.enter_context(writing(output, recogniser.classes)))
        if stream is not None:
            writers.append(text_writer(form, stream, recogniser.classes))
        photos = all(source.kind == "photo" for source in sources.found)
        advance = stack.enter_context(track("predict", len(sources.found) if photos else None, unit="images"))
        drawer = stack.enter_context(_Drawer(targets)) if draw is not None else None
        for some in _batches(sources.found, every, batch):
            for frame, rows in zip(some, _rows(some, finder, recogniser), strict=True):
                _count(summary, frame, rows, shown)
                for writer in writers:
                    writer.add(rows)
                if drawer is not None and frame.pixels is not None:
                    drawer.add(frame, rows)
            advance(len(some))
            if stop.signal is not None:
                note(f"stopped after {summary.images:,} images: what was written holds the rows of these")
                break
        if summary.images == summary.unreadable:
            reason = next((row.error for row in summary.rows), None)
            what = "nothing could be read" if summary.images != 1 else "it could not be read"
            raise FerError(f"{what} ({reason})" if reason else what, path=given[0])
    summary.seconds = time.perf_counter() - begun
    return summary


def _opened(
    store: Store,
    model: str | None,
    faces: Mode,
    detector: str,
    weights: str | None,
    sha256: str | None,
    *,
    least: float,
    device: str,
    tta: Tta,
) -> tuple[FaceFinder, Recogniser]:
    from fer_cli.prediction.faces import open_finder
    from fer_cli.prediction.opening import open_recogniser

    recogniser = open_recogniser(store, model, device, tta)
    finder = open_finder(
        faces, recogniser.crops, detector=detector, weights=weights, sha256=sha256, device=device, least=least
    )
    return finder, recogniser


def _batches(sources: Sequence[Source], every: float | None, size: int) -> Iterator[list[Frame]]:
    """Yield frames in runs that are looked at together: by number, and by the room that they take."""
    some: list[Frame] = []
    room = 0
    for source in sources:
        live = source.kind == "camera"
        for frame in frames(source, every):
            need = 0 if frame.pixels is None else frame.pixels.nbytes
            if some and (len(some) == size or room + need > BATCH_BYTES):
                yield some
                some, room = [], 0
            some.append(frame)
            room += need
            if live:  # nobody waits for a batch to fill
                yield some
                some, room = [], 0
    if some:
        yield some


def _rows(some: Sequence[Frame], finder: FaceFinder, model: Recogniser) -> list[list[PredictionRow]]:
    """Return the rows of each frame."""
    from fer_cli.prediction.faces import NO_FACE

    read = [frame for frame in some if frame.pixels is not None]
    found = finder.find([frame.pixels for frame in read if frame.pixels is not None])
    crops = [face.crop for faces in found for face in faces]
    probabilities = model.predict(crops).probabilities if crops else np.empty((0, len(model.classes)))
    answers = iter(probabilities)
    by_frame = {id(frame): faces for frame, faces in zip(read, found, strict=True)}
    rows: list[list[PredictionRow]] = []
    for frame in some:
        where = (frame.file, frame.number, frame.time)
        if frame.pixels is None:
            rows.append([PredictionRow(*where, error=frame.error)])
            continue
        of: list[PredictionRow] = []
        for number, face in enumerate(by_frame[id(frame)]):
            answer = next(answers)
            of.append(
                PredictionRow(
                    *where,
                    face=number,
                    box=face.box,
                    score=face.score,
                    expression=model.classes[int(answer.argmax())],
                    probabilities=dict(zip(model.classes, answer.tolist(), strict=True)),
                    flags=(*frame.flags, *face.flags),
                )
            )
        rows.append(of or [PredictionRow(*where, flags=(*frame.flags, NO_FACE))])
    return rows


def _count(summary: PredictionSummary, frame: Frame, rows: Sequence[PredictionRow], shown: int) -> None:
    summary.images += 1
    summary.unreadable += frame.error is not None
    faces = [row for row in rows if row.expression is not None]
    summary.faces += len(faces)
    summary.without_face += not faces and frame.error is None
    summary.expressions.update(row.expression for row in faces if row.expression is not None)
    summary.flags.update(flag for row in rows for flag in row.flags)
    summary.rows += rows[: max(0, shown - len(summary.rows))]


def _targets(sources: Sequence[Source], folder: Path | None) -> dict[str, Path]:
    """Return where each source's image or video is drawn to: under its own name, numbered where two have the same."""
    if folder is None:
        return {}
    if folder.exists() and not folder.is_dir():
        raise FerError("this is a file", hint="give --draw a folder", path=folder)
    taken: Counter[str] = Counter()
    targets = {}
    for source in sources:
        stem = source.path.stem if source.kind != "camera" else source.name.replace(":", "-")
        taken[stem] += 1
        numbered = stem if taken[stem] == 1 else f"{stem}-{taken[stem]}"
        targets[source.name] = folder / f"{numbered}{'.jpg' if source.kind == 'photo' else '.mp4'}"
    if clash := next((s for s in sources if targets[s.name].absolute() == s.path.absolute()), None):
        raise UsageError(f"--draw would write over {clash.name}", hint="give another folder")
    make_directory(folder)
    return targets


class _Drawer(ExitStack):
    """Draws photos one by one, and each video into one file."""

    def __init__(self, targets: dict[str, Path]) -> None:
        super().__init__()
        self._targets = targets
        self._video: tuple[str, ExitStack, VideoWriter] | None = None

    def add(self, frame: Frame, rows: Sequence[PredictionRow]) -> None:
        """Draw one image."""
        from fer_cli.prediction.drawing import drawn

        assert frame.pixels is not None
        target, pixels = self._targets[frame.file], drawn(frame.pixels, rows)
        if frame.time is None:
            write_atomic(target, _jpeg(pixels))
            return
        if self._video is None or self._video[0] != frame.file:
            from fer_cli.prediction.video import writing_video

            self.close()
            self._video = (frame.file, self, self.enter_context(writing_video(target)))
        self._video[2].add(pixels, frame.time)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=92)
    return stream.getvalue()
