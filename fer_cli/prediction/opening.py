"""Opening whatever answers: an exported ONNX file, or a model of the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_cli.core.errors import FerError, UsageError

if TYPE_CHECKING:
    from fer_cli.artifacts.protocol import Tta
    from fer_cli.artifacts.store import Store
    from fer_cli.prediction.model import Model
    from fer_cli.prediction.onnx_model import OnnxModel

SUFFIX: Final = ".onnx"
ZIP: Final = ".zip"


def open_recogniser(store: Store, reference: str | None, device: str, tta: Tta = "none") -> Model | OnnxModel:
    """Open a model of the store, or an ONNX file, for which torch is not imported.

    Args:
        store: where models are.
        reference: of one, or the path of an exported file; the model that comes with fer where it is None.
        device: auto, or torch's name of it.
        tta: test-time augmentation, of a model of the store alone.

    Raises:
        FerError: there is no such model, it is damaged, or what it needs is not on this machine.
        UsageError: an ONNX file is to run on another device than the CPU, or with test-time augmentation.
    """
    if reference is not None and reference.lower().endswith(ZIP):
        hint = "'fer import' takes one of 'fer export --to zip' into the store"
        raise FerError("is a zip, not a model", hint=hint, path=reference)
    if reference is not None and (reference.lower().endswith(SUFFIX) or Path(reference).is_file()):
        from fer_cli.prediction.onnx_model import open_onnx

        if device not in {"auto", "cpu"}:
            raise UsageError(f"--device {device}: an ONNX file runs on the CPU here", hint="leave --device out")
        if tta != "none":
            raise UsageError(f"--tta {tta} is for models of the store", hint="leave it out with an ONNX file")
        return open_onnx(Path(reference))
    from fer_cli.prediction.model import chosen_model, open_model

    return replace(open_model(store, chosen_model(store, reference), device), tta=tta)
