"""Things known by name: those of this package, and those that other packages add by an entry point."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fer_cli.core.errors import FerError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects by name, each imported when it is asked for.

    An entry ``module:attribute`` names the object, or its class, which is then called without arguments.

    Args:
        noun: what they are, for messages: ``data set``.
        group: the group of entry points through which other packages add to it.
        kind: ``module:class`` that each object is an instance of; imported only to check other packages' objects.
        bundled: name -> entry of those of this package, in the order in which they are listed.

    Attributes:
        bundled: the names of those of this package.
    """

    def __init__(self, noun: str, group: str, kind: str, bundled: Mapping[str, str]) -> None:
        self._noun, self._group, self._kind, self._bundled = noun, group, kind, bundled
        self.bundled = tuple(bundled)
        self._loaded: dict[str, T] = {}

    @cached_property
    def _installed(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points

        return {point.name: point for point in entry_points(group=self._group) if point.name not in self._bundled}

    def __contains__(self, name: str) -> bool:
        return name in self._bundled or name in self._installed

    def names(self) -> list[str]:
        """Return all names: this package's first, then those of other packages. Imports none of the modules."""
        return [*self._bundled, *sorted(self._installed)]

    def package(self, name: str) -> str:
        """Return the summary and name of the other package that adds an object, without importing it; else nothing."""
        distribution = None if name in self._bundled else self._installed[name].dist
        return "" if distribution is None else f"{distribution.metadata['Summary'] or ''} [{distribution.name}]".strip()

    def load(self, name: str) -> T:
        """Import an object.

        Raises:
            UsageError: the name is unknown.
            FerError: the package that adds it cannot be imported, or adds an object of another class or name.
        """
        if name not in self._loaded:
            if name in self._bundled:
                self._loaded[name] = _instance(_import(self._bundled[name]))
            elif name in self._installed:
                self._loaded[name] = self._load_installed(name)
            else:
                near = difflib.get_close_matches(name, self.names(), n=1)
                hint = f"did you mean {near[0]}?" if near else f"use {', '.join(self.names())}"
                raise UsageError(f"no {self._noun} {name!r}", hint=hint)
        return self._loaded[name]

    def _load_installed(self, name: str) -> T:
        point = self._installed[name]
        what = f"{self._noun} {name!r} of the package {point.value if point.dist is None else point.dist.name}"
        try:
            entry = _instance(point.load())
        except Exception as error:
            raise FerError(f"{what} cannot be imported: {error}", hint="update or remove that package") from error
        kind: type[T] = _import(self._kind)
        if not isinstance(entry, kind) or getattr(entry, "name", name) != name:
            raise FerError(f"{what} is not a {kind.__name__} of this name", hint="update or remove that package")
        return entry


def _import(entry: str) -> Any:  # noqa: ANN401 - whatever the module holds
    module, _, attribute = entry.partition(":")
    return getattr(import_module(module), attribute)


def _instance(entry: Any) -> Any:  # noqa: ANN401 - an object or its class
    return entry() if isinstance(entry, type) else entry
