"""A model as one graph, from pixels to calibrated probabilities, and the files that it is written to."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fer_cli.core.errors import FerError
from fer_cli.prediction.model import BATCH, Model
from fer_cli.prediction.onnx_model import INPUT, KEY, OUTPUT, ExportRecord

OPSET: Final = 20
Pixels = NDArray[np.float32]
Answers = Callable[[Pixels], NDArray[np.float64]]
"""Pixels (n, C, S, S) as :class:`ExportRecord` says to probabilities (n, classes)."""
_PROGRAM_RECORD: Final = "fer.json"
_QUANTISED: Final = ("Conv", "Gemm", "MatMul")


class PixelsToProbabilities(nn.Module):
    """The networks of a model with what stands before and after them.

    Args:
        model: whose networks take images of one size.

    Raises:
        FerError: they do not.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        first = model.networks[0].preprocessing
        if any(network.preprocessing != first for network in model.networks):
            raise FerError(
                f"the networks of {model.reference} prepare images in different ways: they do not make one graph",
                hint="export each model by itself",
            )
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (first.mean, first.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", mean / std)
        self.networks = nn.ModuleList(network.network for network in model.networks)
        self.temperatures = model.temperatures
        self.weights = model.weights or (1 / len(model.networks),) * len(model.networks)
        self.temperature = model.temperature

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return probabilities (n, C) of float32 (n, 1 or 3, S, S) in [0, 255]."""
        x = pixels * self.scale - self.shift
        parts = zip(self.networks, self.temperatures, self.weights, strict=True)
        answers = [weight * torch.softmax(network(x) / temperature, 1) for network, temperature, weight in parts]
        mean = answers[0] if len(answers) == 1 else torch.stack(answers).sum(0)
        if self.temperature == 1:
            return mean
        return torch.softmax(torch.log(mean.clamp(min=torch.finfo(torch.float32).tiny)) / self.temperature, 1)


def onnx_bytes(graph: PixelsToProbabilities, record: ExportRecord) -> bytes:
    """Return a graph as an ONNX file in float32, by torch's exporter, for any number of images at once.

    Raises:
        FerError: onnx or onnxscript is not installed, the exporter cannot take the network, or the file is too large.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise _missing(error) from None
    with _exporting(record):
        program = torch.onnx.export(
            graph,
            _example(record),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=({0: "n"},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
        assert program is not None
        return bytes(program.model_proto.SerializeToString())


def program_of(graph: PixelsToProbabilities, record: ExportRecord) -> torch.export.ExportedProgram:
    """Return a graph as a program of ``torch.export``, for any number of images at once.

    Raises:
        FerError: torch cannot export the network.
    """
    with _exporting(record):
        shapes = ({0: torch.export.Dim("n", max=1 << 20)},)
        return torch.export.export(graph, _example(record), dynamic_shapes=shapes)


def program_bytes(program: torch.export.ExportedProgram, record: ExportRecord) -> bytes:
    """Return a program as a file (.pt2) with what it says of itself, ``fer.json``."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tensors that share their memory: which is whole does not matter on the CPU
        torch.export.save(program, stream, extra_files={_PROGRAM_RECORD: _text(record)})
    return stream.getvalue()


def program_answers(data: bytes) -> Answers:
    """Return what a program of ``torch.export`` says."""
    program = torch.export.load(io.BytesIO(data)).module()

    def answers(pixels: Pixels) -> NDArray[np.float64]:
        with torch.inference_mode():
            parts = [program(part) for part in torch.split(torch.from_numpy(pixels), BATCH)]
        return torch.cat(parts).double().numpy()

    return answers


def with_record(data: bytes, record: ExportRecord) -> bytes:
    """Return an ONNX file with what it says of itself."""
    import onnx

    proto = onnx.load_from_string(data)
    onnx.helper.set_model_props(proto, {KEY: _text(record)})
    proto.producer_name, proto.producer_version = KEY, record.fer
    return bytes(proto.SerializeToString())


def to_fp16(data: bytes) -> bytes:
    """Return an ONNX file whose weights and sums are float16; what goes in and comes out stays float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights too small for float16: what that costs is measured
        proto = convert_float_to_float16(onnx.load_from_string(data), keep_io_types=True)
    return bytes(proto.SerializeToString())


def to_int8(data: bytes, batches: Sequence[Pixels]) -> bytes:
    """Return an ONNX file whose convolutions and products are of 8 bits, with ranges measured beforehand (static).

    Args:
        data: the file in float32.
        batches: pixels of training images, as the graph takes them, from which the ranges are measured.
    """
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._left = iter(batches)

        def get_next(self) -> dict[str, Pixels] | None:
            batch = next(self._left, None)
            return None if batch is None else {INPUT: batch}

    with TemporaryDirectory() as folder:
        whole, ready, small = (str(Path(folder) / f"{name}.onnx") for name in ("whole", "ready", "small"))
        Path(whole).write_bytes(data)
        quant_pre_process(whole, ready, skip_symbolic_shape=True)
        q.quantize_static(
            ready,
            small,
            Reader(),
            quant_format=q.QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED),
            per_channel=True,
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
        )
        return Path(small).read_bytes()


def _example(record: ExportRecord) -> tuple[torch.Tensor]:
    return (torch.zeros(2, 1 if record.grey else 3, record.size, record.size),)


def _text(record: ExportRecord) -> str:
    return record.model_dump_json(by_alias=True, exclude_none=True)


@contextmanager
def _exporting(record: ExportRecord) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's, of its own workings
            yield
    except Exception as error:  # whatever the exporter stumbles over is the network's
        reason: Any = str(error).strip().splitlines() or [type(error).__name__]
        raise FerError(
            f"torch cannot export {record.reference} ({reason[0][:200]})",
            hint="run it again with --debug and report it",
        ) from error


def _missing(error: ImportError) -> FerError:
    return FerError(f"{error.name} is not installed", hint="install fer with its extra 'onnx'")
