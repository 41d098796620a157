"""Requests that were answered before: an equal one is answered again without the work of planning it.

A stage looks whether its artifact is there once it has a plan, and a plan may need torch, a network's configuration
and the hashes of large files: seconds, for an answer that is known. So the command line keeps, next to the artifacts,
which request led to which. Everything that could change a plan is part of a request: the options, the artifacts and
files that they name, the weights on this machine, the code, the versions of the libraries, the machine and the
environment. A request that differs in anything is planned in full.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import REQUESTS, open_parent
from fer_cli.artifacts.manifest import KINDS, digest
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.store import Store
from fer_cli.core import assets, machine, provenance
from fer_cli.core.errors import FerError
from fer_cli.weights.catalogue import PACKAGES, cache_folder

_LIBRARIES: Final = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "facexlib",
    *sorted(package.name for package in PACKAGES.values()),
)
_VARIABLES: Final = ("FER_", "HF_", "XDG_CACHE_HOME", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HOME")


@dataclass(frozen=True, slots=True)
class Request:
    """What a command was asked, and all that its plan may depend on."""

    store: Store
    digest: str

    @classmethod
    def to(cls, store: Store, command: str, options: Mapping[str, Any], inputs: Sequence[Artifact]) -> Request:
        """Return the request of a command.

        Args:
            store: where its artifacts are.
            command: its name.
            options: their values; a value that is the path of a file stands for the file as it is now.
            inputs: the artifacts that its references name.
        """
        parts = {
            "command": command,
            "options": options,
            "threads": machine.threads_asked_for(),
            "files": [_identity(path) for path in _paths(options)],
            "inputs": [[artifact.reference, artifact.manifest.content] for artifact in inputs],
            "weights": [_identity(path) for path in sorted(_weights())],
            "code": [_identity(path) for path in sorted(_code())],
            "libraries": [provenance.version_of(name) for name in _LIBRARIES],
            "machine": _machine(),
            "environment": {key: os.environ[key] for key in sorted(os.environ) if key.startswith(_VARIABLES)},
        }
        return cls(store, digest(json.loads(json.dumps(parts, default=str))))

    @property
    def _path(self) -> Path:
        return self.store.root / REQUESTS / f"{self.digest}.json"

    def answer(self) -> list[Result] | None:
        """Return the artifacts that an equal request led to, confirmed as the newest; None where one has changed."""
        try:
            request, answer = json.loads(self._path.read_bytes())
            artifacts = [self.store.open(self.store.root / reference) for reference, _ in answer]
            contents = [artifact.manifest.content for artifact in artifacts]
            if request != self.digest or contents != [content for _, content in answer]:
                return None
            for artifact in artifacts:
                for role, source in artifact.manifest.inputs.items():
                    if source.kind in KINDS:
                        open_parent(self.store, artifact, role)
                self.store.mark_newest(artifact)
        except (OSError, ValueError, TypeError, FerError):
            return None
        return [Result(artifact, up_to_date=True) for artifact in artifacts]

    def remember(self, results: Sequence[Result]) -> None:
        """Keep what this request led to."""
        answer = [
            [f"{artifact.kind}/{artifact.name}/{artifact.version}", artifact.manifest.content]
            for artifact in (result.artifact for result in results)
        ]
        with suppress(OSError):  # a store that is read-only, or full: the next time is planned in full
            atomic_io.make_directory(self._path.parent)
            atomic_io.write_atomic(self._path, json.dumps([self.digest, answer]).encode())


def answer(
    store: Store,
    command: str,
    options: Mapping[str, Any],
    references: Mapping[str, tuple[str | None, Sequence[str]]],
    build: Callable[[Mapping[str, Any]], Sequence[Result]],
    *,
    force: bool,
) -> Sequence[Result]:
    """Return what a command builds, without planning it where an equal request was answered before.

    Args:
        store: where artifacts are.
        command: its name.
        options: their values, those that choose no result (such as the batch size) too.
        references: parameter of the stage -> reference that was given, and the kinds that it may name.
        build: calls the stage with the references, which name the newest artifact where none was given.
        force: build in any case.

    Raises:
        FerError: there is no such artifact, or from ``build``.
    """
    given = {parameter: reference for parameter, (reference, _) in references.items()}
    if os.environ.get("WORLD_SIZE", "1") != "1" or options.get("weights") == "try":  # may be there the next time
        return build(given)
    try:
        inputs = [store.find(reference, kinds) for reference, kinds in references.values()]
    except FerError:
        if any(given.values()):
            raise
        return build(given)  # which says what is wrong, after what is wrong with options
    request = Request.to(store, command, options, inputs)
    if not force and (known := request.answer()) is not None:
        return known
    newest = dict(zip(references, (artifact.reference for artifact in inputs), strict=True))
    results = build({parameter: given[parameter] or newest[parameter] for parameter in references})
    request.remember(results)
    return results


def _identity(path: Path) -> list[object]:
    """Return what changes whenever a file does."""
    try:
        status = path.stat()
    except OSError:
        return [str(path)]
    return [str(path), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _paths(value: object) -> Iterator[Path]:
    """Yield the files among the values of options."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, str | Path):
        with suppress(OSError, ValueError):  # text that cannot be a path
            if Path(value).is_file():
                yield Path(value).resolve()


def _weights() -> Iterable[Path]:
    """Yield the weights on this machine, wherever they are looked for."""
    yield from cache_folder().rglob("*")
    if folder := os.environ.get("FER_WEIGHTS"):
        yield from Path(folder).glob("*")
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    for pattern in ("models--*/refs/*", "models--*/snapshots/*/*"):
        yield from hub.glob(pattern)


def _code() -> Iterable[Path]:
    """Yield fer's own files: code, recipes and weights."""
    yield from Path(__file__).resolve().parents[1].rglob("*.py")
    yield from assets.recipe("").rglob("*.toml")
    yield from assets.asset("").rglob("*.*")


def _machine() -> list[str]:
    """Return what decides device and precision where they are chosen automatically."""
    with suppress(OSError):
        processor = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
        flags = next((line for line in processor.splitlines() if line.startswith(("flags", "Features"))), "")
        return [platform.machine(), flags, *sorted(str(path) for path in Path("/dev").glob("nvidia*"))]
    return [platform.platform(), platform.processor()]
