"""What a paper cites: each entry is declared beside the system or the data set that it is of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from fer_cli import __version__

_KEY: Final = re.compile(r"[a-z][a-z0-9-]*")
_FIELD: Final = re.compile(r"[a-z]+")
_DOI: Final = re.compile(r"10\.[0-9.]+/[^\s{}\\%]+")


@dataclass(frozen=True, slots=True)
class Citation:
    r"""One entry. What is not known is left out.

    Attributes:
        key: what ``\\cite`` names; it never changes.
        kind: the entry's type.
        title: as published.
        authors: each as ``Family, Given``; ``others`` last where a source names only some.
        year: of publication; None where it is not known.
        more: further fields, such as ``journal``, ``pages`` or ``doi``.
    """

    key: str
    kind: Literal["article", "inproceedings", "misc", "software"]
    title: str
    authors: tuple[str, ...]
    year: int | None = None
    more: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what BibTeX would read as something else.

        Raises:
            ValueError: a key, the name of a field or a DOI is not one.
        """
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"{self.key!r} is not a key: a-z, 0-9 and '-'")
        if wrong := [name for name in self.more if not _FIELD.fullmatch(name)]:
            raise ValueError(f"{self.key}: {wrong[0]!r} is not the name of a field")
        if "doi" in self.more and not _DOI.fullmatch(self.more["doi"]):
            raise ValueError(f"{self.key}: {self.more['doi']!r} is not a DOI")


FER: Final = Citation(
    "fer",
    "software",
    "fer: facial expression recognition from the command line",
    ("{The fer developers}",),
    more={"version": __version__},
)
"""This program, as in ``CITATION.cff``."""
