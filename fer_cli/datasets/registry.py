"""The data sets that ``fer prepare`` knows, and how a loader declares its options.

A new data set is a module with a :class:`DatasetDefinition` and one line in :data:`DATASETS`; a package of its own
needs no line here but an entry point ``NAME = "module:ATTRIBUTE"`` of the group :data:`GROUP`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_type_hints

from fer_cli.core.citations import Citation
from fer_cli.core.errors import FerError
from fer_cli.core.registry import Registry

if TYPE_CHECKING:
    from fer_cli.datasets.records import Loader

GROUP: Final = "fer_cli.datasets"


@dataclass(frozen=True, slots=True)
class Option:
    """How a loader's parameter appears on the command line; the second item of its ``Annotated`` type.

    ``flags`` are its names there, such as ``--grey/--colour``; by default ``--`` and the parameter's name.
    """

    help: str
    flags: str = ""


Source = Annotated[Path, Option("The file or folder. [default: $FER_DATA/NAME, else ./data/NAME]")]
AllowIncomplete = Annotated[
    bool, Option("Accept a source with missing splits or rows; the manifest records what is missing.")
]
Size = Annotated[
    int | None, Option("Side in pixels to resize to. [default: that of the source, or of 90% of its images, else 112]")
]
Jobs = Annotated[int | None, Option("Threads that decode images. [default: one per core, at most 4]")]
Labels = Annotated[
    str | None, Option("What the source's labels mean, as CODE=EXPRESSION,...: 0=anger,1=happy or freude=happy.")
]
REQUIRED: Final = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Parameter:
    """One option of a data set, as its loader declares it. ``default`` is ``REQUIRED`` where there is none."""

    name: str
    type: Any
    default: object
    option: Option


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDefinition:
    """A data set that can be prepared.

    Attributes:
        summary: one line for the list of data sets.
        help: what ``fer prepare NAME --help`` says above the options.
        open: opens a source and returns its loader. Its keyword parameters are the options; each is annotated with
            ``Annotated[type, Option(...)]``, or with a dataclass whose fields are. A parameter ``source: Source`` is
            where the data lies; a data set without one is generated. A parameter ``seed`` receives ``--seed``.
        default_source: whether ``$FER_DATA/NAME`` is the source where none is given.
        citations: what a paper cites that uses it.
        loaders: the classes of loaders that ``open`` returns; ``open`` itself where it is the class.
    """

    summary: str
    help: str
    open: Callable[..., Loader]
    default_source: bool = True
    citations: tuple[Citation, ...] = ()
    loaders: tuple[type, ...] = ()

    def takes(self, name: str) -> bool:
        """Return whether the loader has this parameter."""
        return name in inspect.signature(self.open).parameters

    def loads(self, loader: str) -> bool:
        """Return whether a class of this name, as a manifest keeps it, is this data set's loader."""
        classes = self.loaders or ((self.open,) if isinstance(self.open, type) else ())
        return loader in {one.__name__ for one in classes}

    @property
    def generated(self) -> bool:
        """Whether the images are computed, not read from a source."""
        return not self.takes("source")

    def parameters(self) -> list[Parameter]:
        """Return the options in the order of the loader's parameters; those of a dataclass are listed one by one."""
        parameters: list[Parameter] = []
        hints = _hints(self.open)
        for name, parameter in inspect.signature(self.open).parameters.items():
            if is_dataclass(hints[name]):
                nested = get_type_hints(hints[name], include_extras=True)
                parameters += [
                    _parameter(field.name, nested[field.name], field.default) for field in fields(hints[name])
                ]
            elif name != "seed":
                parameters.append(_parameter(name, hints[name], parameter.default))
        return parameters

    def open_with(self, **values: object) -> Loader:
        """Open a source with options by name, as :meth:`parameters` lists them.

        Raises:
            FerError: the source is at fault.
        """
        source = values.get("source")
        if isinstance(source, Path) and source.exists() and not (source.is_file() or source.is_dir()):
            raise FerError("is a pipe or a device, not a file or a folder", hint="save it as a file first", path=source)
        for name, hint in _hints(self.open).items():
            if is_dataclass(hint) and isinstance(hint, type):
                values[name] = hint(
                    **{field.name: values.pop(field.name) for field in fields(hint) if field.name in values}
                )
        return self.open(**values)


def _hints(function: Callable[..., object]) -> dict[str, Any]:
    hints = get_type_hints(function.__init__ if isinstance(function, type) else function, include_extras=True)  # type: ignore[misc]
    return {name: hint for name, hint in hints.items() if name != "return"}


def _parameter(name: str, hint: Any, default: object) -> Parameter:  # noqa: ANN401 - a type
    kind, option = get_args(hint)
    return Parameter(name, kind, default, option)


def default_source(name: str) -> Path:
    """Return where a data set is looked for: ``$FER_DATA/NAME``, else ``./data/NAME``."""
    return Path(os.environ.get("FER_DATA") or "data") / name


DATASETS: Final[Registry[DatasetDefinition]] = Registry(
    "data set",
    GROUP,
    "fer_cli.datasets.registry:DatasetDefinition",
    {
        "rafdb": "fer_cli.datasets.rafdb:DATASET",
        "ckplus": "fer_cli.datasets.ckplus:DATASET",
        "sfew": "fer_cli.datasets.sfew:DATASET",
        "affectnet": "fer_cli.datasets.affectnet:DATASET",
        "expw": "fer_cli.datasets.expw:DATASET",
        "fer2013": "fer_cli.datasets.fer2013:DATASET",
        "ferplus": "fer_cli.datasets.ferplus:DATASET",
        "folder": "fer_cli.datasets.folder:DATASET",
        "synth": "fer_cli.datasets.synth.loader:DATASET",
    },
)
