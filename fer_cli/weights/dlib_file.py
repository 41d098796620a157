"""Reader of ``dlib_face_recognition_resnet_model_v1.dat``, in which dlib publishes its face recognition network.

The file is dlib's own serialisation: a tag for each layer, whole numbers of one to eight bytes, float32 numbers. None
of it is executable, and nothing of it is run here. Layers stand in the order of the forward pass.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from fer_cli.core.errors import FerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIX: Final = ".dat"
SHA256: Final = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
"""Of the published file."""
MOST_BYTES: Final = 64_000_000
"""The largest file that is read; the published one has 22,466,066 bytes."""
Kind = Literal["con", "affine", "fc"]
_TAG: Final = re.compile(rb"\x01[\x03-\x20](con|affine|fc)_\d*", re.DOTALL)
_BEFORE: Final[dict[str, int]] = {"con": 1, "affine": 1, "fc": 3}
"""Whole numbers between a layer's tag and the shape of its tensor: a version, and the sizes of a matrix before it."""
_NEGATIVE: Final = 0x80


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's parameters as they stand in the file.

    ``values`` is flat for a convolution, its filters (out, in, h, w) and then its biases, and for an affine layer, its
    factors and then its offsets; (inputs, outputs) for a matrix.
    """

    kind: Kind
    values: NDArray[np.float32]


def read_layers(path: Path) -> list[Layer]:
    """Return the layers with parameters of a network that dlib wrote, in the order of the forward pass.

    Raises:
        FerError: the file cannot be read, is too large, ends early, or holds no such layer.
    """
    import numpy as np  # not above: what is known of a recipe's weights is looked up without it

    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise _fault(path, f"has {size:,} bytes, which no network of dlib's for faces has")
        data = path.read_bytes()
    except OSError as error:
        raise FerError(f"cannot be read ({error.strerror or error})", hint="make it readable", path=path) from error

    layers, position = [], 0
    while (tag := _TAG.search(data, position)) is not None:
        kind = _KINDS[tag[1]]
        position = tag.end()
        for _ in range(_BEFORE[kind]):
            _, position = _whole_number(data, position, path)
        shape = []
        for _ in range(4):
            number, position = _whole_number(data, position, path)
            shape.append(number)
        count = math.prod(shape)
        if min(shape) < 0 or (kind == "fc" and shape[2:] != [1, 1]) or count * 4 > len(data) - position:
            raise _fault(path, f"ends early, or is damaged, at byte {position:,}")
        values = np.frombuffer(data, "<f4", count, position).astype(np.float32)
        position += count * 4
        layers.append(Layer(kind, values.reshape(shape[:2]) if kind == "fc" else values))
    if not layers:
        raise _fault(path, "holds no layer of a network of dlib's")
    return layers


_KINDS: Final[dict[bytes, Kind]] = {b"con": "con", b"affine": "affine", b"fc": "fc"}


def _whole_number(data: bytes, position: int, path: Path) -> tuple[int, int]:
    """Return the number at a position and where the next one begins.

    The low half of the first byte counts the bytes of the number, which come with the least first; its highest bit is
    the sign.
    """
    if position >= len(data) or not 1 <= (length := data[position] & 0x0F) <= 8 or position + length >= len(data):
        raise _fault(path, f"ends early, or is damaged, at byte {position:,}")
    end = position + 1 + length
    number = int.from_bytes(data[position + 1 : end], "little")
    return (-number if data[position] & _NEGATIVE else number), end


def _fault(path: Path, what: str) -> FerError:
    return FerError(what, hint="give the unpacked dlib_face_recognition_resnet_model_v1.dat", path=path)
