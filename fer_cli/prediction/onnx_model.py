"""Exported models: an ONNX file of ``fer export``, run by onnxruntime alone, with what it says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, ValidationError

from fer_cli.artifacts.sections import Record
from fer_cli.core.errors import FerError
from fer_cli.core.machine import usable_cpus
from fer_cli.core.user_files import open_file
from fer_cli.prediction.model import BATCH, CropForm, Predictions, pixels_of, toned

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

KEY: Final = "fer"
"""Of the file's metadata: an :class:`ExportRecord` as JSON."""
INPUT: Final = "pixels"
OUTPUT: Final = "probabilities"
Precision = Literal["fp32", "fp16", "int8"]
_LARGEST: Final = 2 << 30  # bytes of a protobuf message
_AGAIN: Final = "export the model again with 'fer export'"
_INTERPOLATION: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class SourceRecord(Record):
    """One artifact, or files of a user's, that the model was made from, and what it is to what was made of it."""

    role: str
    kind: str
    name: str
    version: str
    content: str


class CheckRecord(Record):
    """How the file was compared with the network that it was exported from, on images of the model's own data set.

    ``largest_difference`` is that of any class's probability; ``same_class`` is the share of images whose most probable
    class is the same; the accuracies are of the same images, of the network and of the file. Where the data set was not
    there the images are faces that fer drew: it, its split and the accuracies are None.
    """

    dataset: str | None = None
    split: Literal["train", "validation", "test"] | None = None
    images: int = Field(ge=1)
    largest_difference: float
    same_class: float
    network_accuracy: float | None = None
    accuracy: float | None = None


class ExportRecord(Record):
    """What an exported file says of itself.

    The graph takes ``pixels``, float32 (n, 1 or 3, size, size) in [0, 255], one channel where the model's images are
    ``grey``; it subtracts ``mean`` and divides by ``std``, which are of pixels in [0, 1], divides logits by
    ``temperatures`` and returns ``probabilities``, float32 (n, C): of several networks the mean by ``weights``, at
    ``temperature`` (:func:`fer_cli.training.ensemble.mixed`). What is left to do before it: to resize an image by
    ``interpolation``, antialiased, to a square from whose middle ``size`` is left when the share ``crop`` of its side
    is cropped away.

    ``side`` and ``points`` are what a face crop must look like (:class:`fer_cli.prediction.model.CropForm`). ``alone``:
    an answer depends on the other images of its batch, so that each is to come alone.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    fer: str
    reference: str
    content: str
    classes: tuple[str, ...] = Field(min_length=2)
    grey: bool
    size: int = Field(gt=0, le=4096)
    crop: float = Field(ge=0, lt=0.95)
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, ...] = Field(min_length=3, max_length=3)
    std: tuple[float, ...] = Field(min_length=3, max_length=3)
    temperatures: tuple[float, ...] = Field(min_length=1)
    weights: tuple[float, ...] | None = None
    temperature: float = Field(default=1.0, gt=0)
    side: int | None = Field(default=None, gt=0, le=4096)
    points: tuple[tuple[float, float], ...] = Field(min_length=5, max_length=5)
    alone: bool
    precision: Precision
    opset: int | None = None
    lineage: tuple[SourceRecord, ...]
    check: CheckRecord | None = None

    @property
    def crops(self) -> CropForm:
        """What the model takes."""
        return CropForm(self.side, self.grey, np.array(self.points, dtype=np.float64))

    def pixels(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 (1 or 3, size, size) in [0, 255] of an image (H, W) or (H, W, 3)."""
        whole = round(self.size / (1 - self.crop))
        seen = toned(image, self.crops)
        channels = [seen] if seen.ndim == 2 else [seen[..., channel] for channel in range(3)]
        planes = np.stack([_resized(channel, whole, _INTERPOLATION[self.interpolation]) for channel in channels])
        margin = (whole - self.size) // 2
        planes = planes[:, margin : margin + self.size, margin : margin + self.size]
        return planes if self.grey or len(planes) == 3 else np.repeat(planes, 3, axis=0)


def _resized(channel: NDArray[np.uint8], side: int, how: Image.Resampling) -> NDArray[np.float32]:
    values = channel.astype(np.float32)
    if channel.shape == (side, side):
        return values
    resized = np.asarray(Image.fromarray(values).resize((side, side), how), dtype=np.float32)
    return resized.clip(0, 255)


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """An exported model, ready to answer.

    Args:
        session: onnxruntime's.
        record: what the file says of itself.
        path: of the file, for errors.
    """

    session: Any  # onnxruntime has no types
    record: ExportRecord
    path: Path

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.record.classes

    @property
    def crops(self) -> CropForm:
        """What it takes."""
        return self.record.crops

    @property
    def reference(self) -> str:
        """Of the artifact that it was exported from, and the precision that it was brought to."""
        return f"{self.record.reference} ({self.record.precision}, {self.path.name})"

    def predict(self, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8] | PILImage | Path | str]) -> Predictions:
        """Classify face crops; faces are not searched for.

        Args:
            images: uint8 (n, H, W) or (n, H, W, 3), or a list of arrays (H, W) or (H, W, 3), PIL images or paths. A
                model that was trained on grey images sees them without colour.

        Raises:
            FerError: a file cannot be read as an image, an array is none, or the file's graph gives no probabilities.
        """
        crops = [self.record.pixels(pixels_of(image)) for image in images]
        probabilities = np.empty((len(crops), len(self.classes)))
        step = 1 if self.record.alone else BATCH
        for start in range(0, len(crops), step):
            probabilities[start : start + step] = self._answers(np.stack(crops[start : start + step]))
        return Predictions(probabilities, [self.classes[index] for index in probabilities.argmax(1)])

    def _answers(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        try:
            (answers,) = self.session.run([OUTPUT], {INPUT: pixels})
        except Exception as error:  # onnxruntime's errors share no class but this one: all are the file's
            raise _unusable(f"cannot be run ({_first_line(error)})", self.path) from None
        values = np.asarray(answers, dtype=np.float64)
        sums = values.sum(-1)
        if values.shape != (len(pixels), len(self.classes)) or not (np.abs(sums - 1) < 1e-2).all() or values.min() < 0:
            raise _unusable("its graph gives no probabilities of its classes", self.path)
        probabilities: NDArray[np.float64] = values / sums[:, None]
        return probabilities


def open_onnx(path: Path) -> OnnxModel:
    """Open an ONNX file that ``fer export`` wrote; torch is not imported.

    Raises:
        FerError: onnxruntime is not installed, the file is damaged, or it is another's.
    """
    try:
        with open_file(path) as stream:
            data = stream.read(_LARGEST)
    except OSError as error:
        raise FerError(f"cannot be read: {error.strerror or error}", hint="check the path", path=path) from None
    return from_bytes(data, path)


def from_bytes(data: bytes, path: Path, *, threads: int | None = None) -> OnnxModel:
    """Open the bytes of an ONNX file that ``fer export`` wrote; ``path`` is for errors.

    Raises:
        FerError: onnxruntime is not installed, the file is damaged, or it is another's.
    """
    try:
        import onnxruntime
    except ImportError:
        raise FerError("onnxruntime is not installed", hint="install it, or fer with its extra 'onnx'") from None
    if not data:
        raise _unusable("is empty", path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised, and said in one line
    options.intra_op_num_threads = threads or usable_cpus()
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        text = session.get_modelmeta().custom_metadata_map.get(KEY)
    except Exception as error:  # as above
        raise _unusable(f"is no ONNX file that can be read, or is damaged ({_first_line(error)})", path) from None
    if text is None:
        raise FerError(
            "is an ONNX file without fer's metadata: nothing says which classes it knows and what it takes",
            hint="predict with a file that 'fer export' wrote",
            path=path,
        )
    record = _record(text, path)
    takes = [(one.name, one.type, list(one.shape)[1:]) for one in session.get_inputs()]
    gives = [(one.name, list(one.shape)[1:]) for one in session.get_outputs()]
    expected = [1 if record.grey else 3, record.size, record.size]
    if takes != [(INPUT, "tensor(float)", expected)] or gives != [(OUTPUT, [len(record.classes)])]:
        raise _unusable("its graph is not the one that its metadata speaks of", path)
    return OnnxModel(session, record, path)


def _record(text: str, path: Path) -> ExportRecord:
    try:
        record = ExportRecord.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise _unusable(f"its metadata's {key!r} cannot be read ({first['msg']})", path) from None
    if len(set(record.classes)) != len(record.classes):
        raise _unusable("its metadata names a class twice", path)
    return record


def _unusable(what: str, path: Path) -> FerError:
    return FerError(what, hint=_AGAIN, path=path)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
