"""Tags and notes: what a user says of artifacts, now or later. No part of an artifact: they never change a version.

They stand in one small file of the store, by kind and version, so that a rename or a copy of the store keeps them.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, ValidationError

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.sections import Record
from fer_cli.artifacts.store import LOCKS
from fer_cli.core.errors import FerError, UsageError

if TYPE_CHECKING:
    from fer_cli.artifacts.artifact import Artifact
    from fer_cli.artifacts.store import Store

ANNOTATIONS: Final = "annotations.json"
LONGEST_NOTE: Final = 500
_TAG: Final = re.compile(r"\w[\w.:-]{0,39}")


class Annotation(Record):
    """What a user says of one artifact."""

    tags: tuple[str, ...] = ()
    note: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return not (self.tags or self.note)


class _Annotations(Record):
    """The whole of the file."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    artifacts: dict[str, Annotation] = Field(default_factory=dict)


def tag(text: str) -> str:
    """Return a tag in its composed form (NFC).

    Raises:
        UsageError: it is none.
    """
    composed = unicodedata.normalize("NFC", text)
    if not _TAG.fullmatch(composed):
        hint = "use letters, digits, '.', '_', ':' and '-', 40 at most, with a letter or a digit first"
        raise UsageError(f"{text!r} is not a tag", hint=hint)
    return composed


def note_text(text: str) -> str:
    """Return a note in its composed form (NFC), on one line.

    Raises:
        UsageError: it is too long, or holds what cannot be printed.
    """
    composed = " ".join(unicodedata.normalize("NFC", text).split())
    if len(composed) > LONGEST_NOTE:
        raise UsageError(f"a note of {len(composed)} characters", hint=f"take {LONGEST_NOTE} at most")
    if not composed.isprintable():
        raise UsageError("a note holds characters that cannot be printed", hint="leave them out")
    return composed


class Annotations:
    """The tags and notes of a store."""

    def __init__(self, store: Store) -> None:
        self._path = store.root / ANNOTATIONS
        self._lock = store.root / LOCKS / "annotations"
        self._all = self._read()

    def of(self, kind: str, version: str) -> Annotation:
        """Return what is said of an artifact."""
        return self._all.artifacts.get(f"{kind}/{version}", Annotation())

    def change(
        self,
        artifact: Artifact,
        *,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        note: str | None = None,
    ) -> Annotation:
        """Add and remove tags of an artifact, and replace its note where one is given; an empty one removes it.

        Raises:
            UsageError: a tag or the note cannot be one.
            FerError: the file is damaged.
        """
        added, removed = {tag(text) for text in add}, {tag(text) for text in remove}
        text = None if note is None else note_text(note)
        key = f"{artifact.kind}/{artifact.version}"
        with self._changing() as entries:
            before = entries.get(key, Annotation())
            now = Annotation(
                tags=tuple(sorted({*before.tags, *added} - removed)), note=before.note if text is None else text
            )
            entries.pop(key, None)
            if not now.is_empty:
                entries[key] = now
        return now

    def forget(self, kind: str, version: str) -> None:
        """Remove what is said of an artifact that is no more."""
        if not self.of(kind, version).is_empty:
            with self._changing() as entries:
                entries.pop(f"{kind}/{version}", None)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Annotation]]:
        from filelock import FileLock

        atomic_io.make_directory(self._lock.parent)
        with FileLock(self._lock):
            entries = dict(self._read().artifacts)
            before = dict(entries)
            yield entries
            if entries != before:
                ordered = _Annotations(artifacts=dict(sorted(entries.items())))
                text = json.dumps(ordered.record(), indent=2, ensure_ascii=False)
                atomic_io.write_atomic(self._path, f"{text}\n".encode())
            self._all = _Annotations(artifacts=entries)

    def _read(self) -> _Annotations:
        try:
            return _Annotations.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return _Annotations()
        except ValidationError as error:
            hint = "correct it, or move it away: it holds the tags and notes of the store"
            raise FerError("is not a list of tags and notes", hint=hint, path=self._path) from error
