"""Things known by name: those of this package, and those that other packages add by an entry point."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeVar

from fer_cli.core.errors import FerError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects by name, each imported when it is asked for.

    Args:
        noun: what they are, for messages: ``data set``.
        group: the group of entry points through which other packages add to it.
        kind: the class of each object.
        bundled: name -> ``module:attribute`` of those of this package, in the order in which they are listed.
    """

    def __init__(self, noun: str, group: str, kind: type[T], bundled: Mapping[str, str]) -> None:
        self._noun, self._group, self._kind, self._bundled = noun, group, kind, bundled
        self._loaded: dict[str, T] = {}

    @cached_property
    def _installed(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points

        return {point.name: point for point in entry_points(group=self._group) if point.name not in self._bundled}

    def names(self) -> list[str]:
        """Return all names: this package's first, then those of other packages. Imports none of the modules."""
        return [*self._bundled, *sorted(self._installed)]

    def load(self, name: str) -> T:
        """Import an object.

        Raises:
            UsageError: the name is unknown.
            FerError: the package that adds it cannot be imported, or adds an object of another class.
        """
        if name not in self._loaded:
            self._loaded[name] = self._bundled_object(name) if name in self._bundled else self._installed_object(name)
        return self._loaded[name]

    def _bundled_object(self, name: str) -> T:
        module, _, attribute = self._bundled[name].partition(":")
        entry = getattr(import_module(module), attribute)
        assert isinstance(entry, self._kind), name
        return entry

    def _installed_object(self, name: str) -> T:
        point = self._installed.get(name)
        if point is None:
            near = difflib.get_close_matches(name, self.names(), n=1)
            raise UsageError(
                f"unknown {self._noun} {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self.names())}",
            )
        package = point.value if point.dist is None else point.dist.name
        try:
            entry = point.load()
        except Exception as error:
            raise FerError(
                f"{self._noun} {name!r} of the package {package} cannot be imported: {type(error).__name__}: {error}",
                hint="update or remove that package",
            ) from error
        if not isinstance(entry, self._kind):
            raise FerError(
                f"{self._noun} {name!r}: {point.value} of the package {package} is not a {self._kind.__name__}",
                hint="update or remove that package",
            )
        return entry
