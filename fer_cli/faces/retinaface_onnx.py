"""RetinaFace as an ONNX file that ``fer export`` wrote, run by onnxruntime alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from fer_cli.artifacts.sections import Record
from fer_cli.core.errors import FerError
from fer_cli.core.machine import usable_cpus
from fer_cli.core.user_files import open_file
from fer_cli.faces.retinaface_answers import BOX, POINTS, Answers, faces_of, pixels_of

KEY: Final = "fer-detector"
"""Of the file's metadata: a :class:`DetectorRecord` as JSON."""
INPUT: Final = "pixels"
OUTPUTS: Final = ("places", "scores", "points")
_LARGEST: Final = 1 << 30  # bytes
_AGAIN: Final = "export the detector again with 'fer export retinaface-mobile0.25 -o FILE.onnx'"


class DetectorRecord(Record):
    """What an exported detector says of itself.

    ``weights`` is the SHA-256 of the weights that it was exported from; ``largest_difference`` is that between its
    scores and the network's, on ``images`` synthetic pictures.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    fer: str
    detector: Literal["retinaface-resnet50", "retinaface-mobile0.25"]
    weights: str = Field(pattern="^[0-9a-f]{64}$")
    licence: str
    images: int
    largest_difference: float


class OnnxNetwork:
    """An exported network, ready to answer.

    Args:
        session: onnxruntime's.
        record: what the file says of itself.
        path: of the file, for errors.
    """

    def __init__(self, session: Any, record: DetectorRecord, path: Path) -> None:  # noqa: ANN401 - it has no types
        self._session, self.record, self._path = session, record, path

    def batched_detect_faces(
        self, frames: NDArray[np.float32], confidence: float, overlap: float
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Return what :func:`fer_cli.faces.retinaface_answers.faces_of` says of frames (n, H, W, 3)."""
        return faces_of(self.answers(pixels_of(frames)), frames.shape[1:3], confidence, overlap)

    def answers(self, pixels: NDArray[np.float32]) -> Answers:
        """Return boxes, scores and points of pixels (n, 3, H, W).

        Raises:
            FerError: the file's graph gives something else.
        """
        try:
            places, scores, points = self._session.run(list(OUTPUTS), {INPUT: pixels})
        except Exception as error:  # onnxruntime's errors share no class but this one: all are the file's
            raise _unusable(f"cannot be run ({str(error).strip().splitlines()[0]})", self._path) from None
        number = scores.shape[1]
        if places.shape != (len(pixels), number, BOX) or points.shape != (len(pixels), number, POINTS):
            raise _unusable("its graph is not that of a detector", self._path)
        return places, scores, points


def open_network(path: Path) -> OnnxNetwork:
    """Open an ONNX file of a detector; torch is not imported.

    Raises:
        FerError: onnxruntime is not installed, the file is damaged, or it is no detector of fer's.
    """
    try:
        with open_file(path) as stream:
            data = stream.read(_LARGEST)
    except OSError as error:
        raise FerError(f"cannot be read: {error.strerror or error}", hint="check the path", path=path) from None
    return from_bytes(data, path)


def from_bytes(data: bytes, path: Path) -> OnnxNetwork:
    """Open the bytes of an ONNX file of a detector; ``path`` is for errors.

    Raises:
        FerError: onnxruntime is not installed, the file is damaged, or it is no detector of fer's.
    """
    try:
        import onnxruntime
    except ImportError:
        raise FerError("onnxruntime is not installed", hint="install it, or fer with its extra 'onnx'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised, and said in one line
    options.intra_op_num_threads = usable_cpus()
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        text = session.get_modelmeta().custom_metadata_map.get(KEY)
    except Exception as error:  # as above
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _unusable(f"is no ONNX file that can be read, or is damaged ({reason})", path) from None
    if text is None:
        raise _unusable("is an ONNX file, and not of a detector that fer exported", path)
    try:
        record = DetectorRecord.model_validate_json(text)
    except ValidationError as error:
        key = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise _unusable(f"its metadata's {key!r} cannot be read", path) from None
    takes = [one.name for one in session.get_inputs()]
    gives = [one.name for one in session.get_outputs()]
    if takes != [INPUT] or gives != list(OUTPUTS):
        raise _unusable("its graph is not that of a detector", path)
    return OnnxNetwork(session, record, path)


def _unusable(what: str, path: Path) -> FerError:
    return FerError(what, hint=_AGAIN, path=path)
