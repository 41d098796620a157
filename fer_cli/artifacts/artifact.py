"""An artifact that is whole: its manifest, and the files of its payload, checked as they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.manifest import FileEntry, Input, Manifest
from fer_cli.core.errors import FerError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from fer_cli.artifacts.checksums import StoredArray

_MAIN_TABLES: Final = ("index.parquet", "predictions.parquet", "scores.parquet", "path.parquet")


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact on disk whose manifest is sound and whose files have the sizes that it names.

    Of one that is ``lineage_only`` the manifest alone is here: what was imported was made from it elsewhere.
    """

    path: Path
    manifest: Manifest
    lineage_only: bool = False

    @property
    def kind(self) -> str:
        """The artifact's kind, one of :data:`KINDS`."""
        return self.manifest.kind

    @property
    def name(self) -> str:
        """The name that it has in the store."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The hash of all that it was made from."""
        return self.manifest.version

    @property
    def reference(self) -> str:
        """The reference that finds exactly this artifact."""
        return f"{self.kind}/{self.name}@{self.version}"

    def file(self, name: str) -> Path:
        """Return the path of one of the payload's files, its hash checked; arrays are read with :meth:`array`.

        Raises:
            FerError: the artifact has no such file, or its bytes are not those that were written.
        """
        entry, path = self._entry(name), self.path / name
        if (found := atomic_io.sha256_file(path)) != entry.sha256:
            raise FerError(f"sha256 {found[:16]}, expected {entry.sha256[:16]}", hint=again(self.manifest), path=path)
        return path

    def array(self, name: str) -> StoredArray:
        """Return an ``.npy`` file of the payload as a memory map, of which each block is checked when first read.

        Raises:
            FerError: the artifact has no such file, or what is read of it is not what was written.
        """
        from fer_cli.artifacts.checksums import StoredArray

        entry, path = self._entry(name), self.path / name

        def damaged(block: int, found: str) -> FerError:
            start, expected = block * atomic_io.BLOCK_BYTES, entry.blocks[8 * block : 8 * block + 8]
            return FerError(
                f"block {block} (from byte {start:,}) of {self.reference} has checksum {found}, expected {expected}",
                hint=again(self.manifest),
                path=path,
            )

        return StoredArray(path, entry.blocks, damaged)

    def _entry(self, name: str) -> FileEntry:
        if self.lineage_only:
            raise self.not_here()
        entry = next((entry for entry in self.manifest.files if entry.path == name), None)
        if entry is None:
            raise FerError(f"{self.reference} has no {name}", hint="it was built without this file; see 'fer show'")
        return entry

    def not_here(self) -> FerError:
        """Return the error of using the payload of what is lineage only."""
        again = self.manifest.command_again()
        return FerError(f"{self.reference} is lineage only, no payload here", hint=f"make it here: {again}")

    def has(self, name: str) -> bool:
        """Tell whether the payload has a file of this name."""
        return any(entry.path == name for entry in self.manifest.files)

    def to_arrow(self, name: str | None = None) -> pa.Table:
        """Return a table of the payload: the named one, else the artifact's main one (of a dataset its index).

        Raises:
            FerError: it has no such table.
        """
        from fer_cli.artifacts.payload import read_table

        tables = [entry.path for entry in self.manifest.files if entry.path.endswith(".parquet")]
        name = name or next((main for main in _MAIN_TABLES if main in tables), None)
        if name is None or name not in tables:
            what = f"no table {name!r}" if name else "no table"
            raise FerError(f"{self.reference} has {what}", hint=f"it has {', '.join(tables) or 'none'}")
        return read_table(self.file(name))

    def to_pandas(self, name: str | None = None) -> pd.DataFrame:
        """Return a table of the payload as :meth:`to_arrow` does, for pandas.

        Raises:
            FerError: it has no such table, or pandas is not installed.
        """
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise FerError("pandas is not installed", hint="install pandas, or take to_arrow()") from error
        return self.to_arrow(name).to_pandas()

    def as_input(self) -> Input:
        """Return the lineage entry for whatever is made from this artifact."""
        return Input(kind=self.kind, name=self.name, version=self.version, content=self.manifest.content)

    def to_json(self) -> dict[str, str]:
        """Return what ``--json`` prints of an artifact."""
        return {"kind": self.kind, "name": self.name, "version": self.version, "path": str(self.path)}


def again(manifest: Manifest) -> str:
    """Return the hint of an error: how to make anew what is damaged."""
    return f"the {manifest.kind} artifact is damaged: make it again: {manifest.command_again()}"
