"""A face detector as an ONNX file, checked against its network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from fer_cli import __version__
from fer_cli.core.errors import FerError
from fer_cli.datasets.synth.faces import render_face
from fer_cli.datasets.synth.loader import face_of
from fer_cli.export.graph import OPSET
from fer_cli.faces.retinaface import SIDES_OF_PHOTOS, open_torch
from fer_cli.faces.retinaface_answers import CENTRE, pixels_of
from fer_cli.faces.retinaface_onnx import INPUT, KEY, OUTPUTS, DetectorRecord, from_bytes
from fer_cli.weights.download import RELEASES
from fer_cli.weights.files import WeightsFile

if TYPE_CHECKING:
    from fer_cli.faces.retinaface_network import RetinaFaceNetwork

TOLERANCE: Final = 1e-4
"""Between the scores of a network and of its exported file, and between places in shares of their anchors' sides."""
_IMAGES: Final = 3  # of each side


def export_detector(name: str, weights: WeightsFile, path: Path) -> tuple[bytes, DetectorRecord]:
    """Return a detector as an ONNX file for images of any size, and what it says of itself.

    Args:
        name: one of :data:`fer_cli.faces.retinaface.DETECTORS`.
        weights: its own.
        path: where it will be, for errors.

    Raises:
        FerError: onnx or onnxscript is not installed, the weights are damaged, or the file answers otherwise.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise FerError(f"{error.name} is not installed", hint="install fer with its extra 'onnx'") from None
    network = open_torch(name, weights, "cpu")
    with warnings.catch_warnings(action="ignore"):  # the exporter's, of its own workings
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3, SIDES_OF_PHOTOS[0], SIDES_OF_PHOTOS[0]),),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=({0: "n", 2: "height", 3: "width"},),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    record = DetectorRecord.model_validate(
        {
            "fer": __version__,
            "detector": name,
            "weights": weights.sha256(),
            "licence": RELEASES[name].licence,
            "images": _IMAGES * len(SIDES_OF_PHOTOS),
            "largest_difference": 0.0,
        }
    )

    def with_record() -> bytes:
        onnx.helper.set_model_props(proto, {KEY: record.model_dump_json(by_alias=True)})
        return bytes(proto.SerializeToString())

    difference = _difference(network, with_record(), path)
    if not difference <= TOLERANCE:  # written so that NaN is refused too
        raise FerError(
            f"the exported {name} answers otherwise than the network: scores differ by up to {difference:.2g}",
            hint="nothing was written: report it",
        )
    record = record.model_copy(update={"largest_difference": difference})
    return with_record(), record


def _difference(network: RetinaFaceNetwork, data: bytes, path: Path) -> float:
    """Return by how much scores, and places and points in shares of their anchors' sides, differ at most; or NaN."""
    exported, differences = from_bytes(data, path), []
    for side in SIDES_OF_PHOTOS:
        for number in range(_IMAGES):
            pixels = pixels_of(_picture(side, number))
            with torch.inference_mode():
                ours = [part.numpy() for part in network(torch.from_numpy(pixels))]
            for mine, other, unit in zip(ours, exported.answers(pixels), (CENTRE, 1.0, CENTRE), strict=True):
                differences.append(np.abs(mine - other).max() * unit)
    return float(np.max(differences))


def _picture(side: int, number: int) -> NDArray[np.float32]:
    """Return a picture (1, side, side, 3), blue first: a synthetic face in noise."""
    frame = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    middle, reach = side // 2, side // 4
    face = render_face(face_of(0, number, number), 2 * reach)[0]
    frame[middle - reach : middle + reach, middle - reach : middle + reach] = face[..., ::-1]
    return frame[None].astype(np.float32)
