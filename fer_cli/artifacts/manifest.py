"""What an artifact says of itself: a strict, sealed JSON file."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fer_cli.core.errors import FerError

SCHEMA: Final = 3
"""Of the manifest and all its sections (:mod:`fer_cli.artifacts.sections`): raised when one changes its form."""
PAYLOAD_FORMATS: Final = {
    "dataset": 1,
    "masks": 1,
    "features": 1,
    "ahm": 1,
    "model": 1,
    "study": 2,
    "search": 1,
    "ensemble": 1,
    "soft-targets": 1,
    "evaluation": 1,
}
"""Of each kind: raised when the files of its payload change their meaning."""
KINDS: Final = tuple(PAYLOAD_FORMATS)
MANIFEST: Final = "manifest.json"
VERSION_LENGTH: Final = 12
_DAMAGED: Final = "rebuild the artifact with --force, or check the whole store with 'fer verify'"


class _Strict(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, strict=True, populate_by_name=True)


class FileEntry(_Strict):
    """One file of the payload. A ``view`` (the report) is checked like the rest but is no part of the result.

    ``blocks`` are the checksums of an array's blocks (:mod:`fer_cli.artifacts.checksums`), empty for other files.
    """

    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    view: bool = False
    blocks: str = Field(default="", pattern="^([0-9a-f]{8})*$")


class Input(_Strict):
    """Where a result comes from: another artifact, or files of the user's (``kind`` = "files")."""

    kind: str
    name: str
    version: str = ""
    content: str = Field(pattern="^[0-9a-f]{64}$")

    def in_utf8(self) -> Input:
        """Return it with its name as :func:`in_utf8` writes it: a file's may hold any bytes."""
        return self.model_copy(update={"name": in_utf8(self.name)})


class Code(_Strict):
    """Which code made the artifact."""

    version: str
    commit: str | None = None
    modified: bool | None = None


class Manifest(_Strict):
    """The whole of ``manifest.json``.

    ``order`` tells which artifact is the newest: it is larger than that of every other one when this one is written or
    confirmed as up to date. Times of files do not count: copying changes them.

    ``content`` is a hash over the payload's result files: equal content is an equal result. ``seal`` is a hash over
    everything else in the manifest, so that damage to the manifest itself is found too.
    """

    schema_version: Literal[3] = Field(default=SCHEMA, alias="schema")
    kind: str
    name: str
    version: str
    created: str
    order: int
    stage: str
    revision: int
    payload_format: int
    inputs: dict[str, Input]
    config: dict[str, Any]
    protocol: dict[str, Any]
    seeds: list[int]
    summary: dict[str, Any]
    measured: dict[str, Any]
    warnings: list[str]
    code: Code
    environment: dict[str, Any]
    files: list[FileEntry]
    content: str
    seal: str = ""

    def sealed(self) -> Manifest:
        """Return a copy that carries the hash of all other fields."""
        return self.model_copy(update={"seal": self.compute_seal()})

    def compute_seal(self) -> str:
        """Return the hash over all fields but the seal."""
        return digest(self.model_dump(by_alias=True, exclude={"seal"}))

    def command_again(self) -> str:
        """Return the command that makes this artifact again, and where its settings are found."""
        command = f"{_command_again(self.model_dump(by_alias=True))} --force"
        if self.measured.get("command"):
            return command
        return f"{command}, with the settings that 'fer show {self.kind}/{self.name}@{self.version}' lists"

    def to_bytes(self) -> bytes:
        """Return the one spelling of this manifest on disk."""
        text = json.dumps(self.model_dump(by_alias=True), indent=2, ensure_ascii=False)
        return f"{text}\n".encode("utf-8", "backslashreplace")  # which is JSON's own escape of a lone surrogate


def canonical_json(value: object) -> bytes:
    """Return the one spelling of a JSON value that hashes are taken of."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def in_utf8(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value whose texts are all UTF-8: bytes of a path that are not (lone surrogates) become escapes."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {in_utf8(key): in_utf8(inner) for key, inner in value.items()}
        case list():
            return [in_utf8(inner) for inner in value]
        case _:
            return value


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON value, as hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def content_digest(files: list[FileEntry]) -> str:
    """Return the hash over the result files of a payload, independent of their order."""
    return digest(sorted([entry.path, entry.size, entry.sha256] for entry in files if not entry.view))


class OldSchemaError(FerError):
    """A manifest of an older schema: sound, as far as anyone knows, but not read any more.

    ``inputs`` are the store's directories, relative to its root, that the artifact was made from.
    """

    def __init__(self, schema: int, command: str, inputs: tuple[Path, ...], path: Path) -> None:
        super().__init__(
            f"old schema: manifest of schema {schema}, this fer reads schema {SCHEMA}",
            hint=f"make it again: {command}",
            path=path,
        )
        self.inputs = inputs


def _text(value: object, *keys: str) -> str:
    """Return what stands under some keys of a JSON tree of unknown form, as text; empty where it is not there."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return "" if value is None or isinstance(value, dict | list) else str(value)


def _command_again(raw: dict[str, Any]) -> str:
    """Return the command that makes an artifact of an older schema again, from its stage and what it recorded."""
    inputs = {role: _text(raw, "inputs", role, "name") for role in ("dataset", "features", "model", "predictions")}
    system, seeds = _text(raw, "config", "system"), raw.get("seeds")
    listed = ",".join(map(str, seeds)) if isinstance(seeds, list) else ""
    match _text(raw, "stage"):
        case "prepare":
            command = _text(raw, "measured", "command") or "fer prepare"
        case "split":
            command = _text(raw, "measured", "command") or f"fer split {inputs['dataset']}"
        case "ensemble":
            command = _text(raw, "measured", "command") or "fer ensemble"
        case "train":
            command = f"fer train {system} {inputs['dataset']}{f' --seeds {listed}' if listed else ''}"
        case "search":
            command = _text(raw, "measured", "command")
        case "fit-ahm":
            command = f"fer fit-ahm {inputs['features']}"
        case "eval":
            command = f"fer eval {inputs['model']}" if inputs["model"] else "fer eval --predictions FILE"
        case stage:
            command = f"fer {stage} {inputs['dataset']}"
    return " ".join(command.split())


def order_of(directory: Path) -> int | None:
    """Return an artifact's place in the order of making and use; None where its manifest is damaged and cannot tell.

    An artifact of an older schema has the time of its making, in ns, which is what ``order`` is but for clocks that
    went wrong.
    """
    try:
        raw = json.loads((directory / MANIFEST).read_bytes())
        if raw["schema"] != SCHEMA:
            return int(datetime.fromisoformat(raw["created"]).timestamp() * 1e9)
        return int(raw["order"]) if raw["seal"] == digest({key: raw[key] for key in raw if key != "seal"}) else None
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def _inputs_of_old(raw: dict[str, Any]) -> tuple[Path, ...]:
    inputs = raw.get("inputs")
    sources = inputs.values() if isinstance(inputs, dict) else ()
    parts = [[_text(source, key) for key in ("kind", "name", "version")] for source in sources]
    return tuple(Path(*part) for part in parts if all(part) and part[0] in KINDS)


def read_manifest(directory: Path) -> Manifest:
    """Read, parse and check ``directory/manifest.json``.

    Raises:
        OldSchemaError: it is of an older schema; the error names the command that makes the artifact again.
        FerError: it is unreadable, of a newer schema, or damaged; the error names the file.
    """
    path = directory / MANIFEST
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FerError("there is no artifact here", hint="see 'fer ls'", path=directory) from error
    return parse_manifest(data, path)


def parse_manifest(data: bytes, path: Path) -> Manifest:
    """Parse and check the bytes of a ``manifest.json``, which are, or would be, at ``path``.

    Raises:
        OldSchemaError: it is of an older schema.
        FerError: it is no manifest, of a newer schema, or damaged.
    """
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FerError(f"the manifest is not valid JSON ({error})", hint=_DAMAGED, path=path) from error
    if not isinstance(raw, dict):
        raise FerError(f"the manifest is a JSON {type(raw).__name__}, not an object", hint=_DAMAGED, path=path)
    if (schema := raw.get("schema")) != SCHEMA:
        if isinstance(schema, int) and 0 < schema < SCHEMA:
            raise OldSchemaError(schema, _command_again(raw), _inputs_of_old(raw), path)
        raise FerError(
            f"manifest of schema {schema!r}, this fer reads schema {SCHEMA}",
            hint="use the version of fer that wrote it",
            path=path,
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise FerError(f"manifest key {key!r}: {first['msg']}", hint=_DAMAGED, path=path) from error
    try:
        seal = manifest.compute_seal()
    except ValueError as error:  # 1e999 is infinity, which no JSON can say
        raise FerError(f"the manifest holds a number beyond reading ({error})", hint=_DAMAGED, path=path) from error
    if manifest.seal != seal:
        raise FerError("the manifest does not match its own seal", hint=_DAMAGED, path=path)
    if manifest.payload_format != (ours := PAYLOAD_FORMATS.get(manifest.kind)):
        what = f"{manifest.kind} of payload format {manifest.payload_format}, this fer reads {ours or 'no such kind'}"
        raise FerError(what, hint="use the version of fer that wrote it, or rebuild it", path=path)
    return manifest
