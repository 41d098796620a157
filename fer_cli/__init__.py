"""fer: facial expression recognition, as the command ``fer`` and as ``import fer_cli as fer``.

The stages are functions that return their artifacts and print nothing; notes and warnings go to the logger
``fer_cli``, progress to a display (:mod:`fer_cli.core.progress`). Each name below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fer_cli.api import (
        Model,
        load_model,
        open_dataset,
        open_features,
        open_masks,
        prepare,
        show_progress,
    )
    from fer_cli.artifacts.artifact import Artifact
    from fer_cli.artifacts.result import Result
    from fer_cli.artifacts.store import Store, open_store
    from fer_cli.core.errors import FerError
    from fer_cli.stages.audit_dataset import audit_dataset
    from fer_cli.stages.audit_model import audit_model
    from fer_cli.stages.compare import compare
    from fer_cli.stages.ensemble import ensemble
    from fer_cli.stages.evaluate import evaluate_model as evaluate
    from fer_cli.stages.extract import extract
    from fer_cli.stages.fit_ahm import fit_ahm
    from fer_cli.stages.parse_masks import parse_masks
    from fer_cli.stages.plot import plot
    from fer_cli.stages.split import split
    from fer_cli.stages.train import train

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "FerError",
    "Model",
    "Result",
    "Store",
    "audit_dataset",
    "audit_model",
    "compare",
    "ensemble",
    "evaluate",
    "extract",
    "fit_ahm",
    "load_model",
    "open_dataset",
    "open_features",
    "open_masks",
    "open_store",
    "parse_masks",
    "plot",
    "prepare",
    "show_progress",
    "split",
    "train",
]

_ELSEWHERE: Final = {
    "Artifact": "artifacts.artifact",
    "FerError": "core.errors",
    "Result": "artifacts.result",
    "Store": "artifacts.store",
    "open_store": "artifacts.store",
    "evaluate": "stages.evaluate:evaluate_model",
    **{
        name: f"stages.{name}"
        for name in (
            *("audit_dataset", "audit_model", "compare", "ensemble", "extract", "fit_ahm"),
            *("parse_masks", "plot", "split", "train"),
        )
    },
}
"""Name -> module under this package, and the attribute where it is called otherwise; all others are in ``api``."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any of the names above
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _ELSEWHERE.get(name, "api").partition(":")
    value = getattr(import_module(f"fer_cli.{module}"), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
