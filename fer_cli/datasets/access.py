"""How to get a data set that may not be redistributed: where to apply, under which licence, and its layout on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fer_cli.core.errors import FerError


@dataclass(frozen=True, slots=True)
class Access:
    """What a person needs to know before there is a source.

    ``layouts`` are what is looked for, the official one first, and ``marks`` the same in a few words; ``notes`` is the
    help's own paragraph.
    """

    title: str
    home: str
    how: str
    licence: str
    marks: str
    layouts: tuple[str, ...]
    notes: str

    def absent(self, source: Path) -> FerError:
        """Return the error for a source that is not there, or holds nothing of the data set."""
        if source.is_file():
            return FerError("is a file", hint=f"unpack {self.title} and give the folder", path=source)
        return FerError(
            f"{self.title} was not found: looked for {self.marks}",
            hint=f"apply at {self.home} ({self.how}; {self.licence}), then unpack it there or give --source",
            path=source,
        )

    def help(self) -> str:
        """Return the text of ``fer prepare NAME --help``."""
        layouts = "\n".join(f"- {layout}" for layout in self.layouts)
        return (
            f"{self.title}: {self.notes}\n\n"
            f"Layouts, detected automatically:\n\n\b\n{layouts}\n\n"
            f"How to get it: {self.how}.\n\n\b\n{self.home}\n\nLicence: {self.licence}."
        )
