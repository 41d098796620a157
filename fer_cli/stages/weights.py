"""Stage ``weights``: what each network can start from; fetching it; importing a file that came by another way."""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from fer_cli.artifacts.atomic_io import sha256_file
from fer_cli.core.errors import FerError, UsageError
from fer_cli.faces.compact_weights import find_compact
from fer_cli.models.backbones import check_name, open_backbone
from fer_cli.weights.catalogue import (
    BACKBONES,
    PACKAGES,
    Published,
    Record,
    cache_folder,
    forbidding,
    keep,
    published,
    read_record,
)
from fer_cli.weights.download import RELEASES, Release, find_release
from fer_cli.weights.files import UNKNOWN, WeightsFile, find_here, find_weights, load_tensors, weights_folder

OWN: Final = (*RELEASES, "compact")
"""Networks that are not timm's: parsers and detectors of faces."""
NOT_TOLD: Final = "unknown"
_NON_COMMERCIAL: Final = "non-commercial research"  # CelebAMask-HQ's terms, on which compact was trained


@dataclass(frozen=True, slots=True)
class Entry:
    """What one network can start from."""

    network: str
    source: str
    pretraining: str
    licence: str
    state: Literal["here", "not here", "offline", "damaged"]
    advice: str = ""  # what to do where it is not here
    path: Path | None = None
    size: int | None = None  # bytes
    sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return asdict(self) | {"path": None if self.path is None else str(self.path)}


@dataclass(frozen=True, slots=True)
class Fetched:
    """Weights that are on this machine now; ``already`` where they had been before."""

    network: str
    weights: WeightsFile
    sha256: str
    already: bool


@dataclass(frozen=True, slots=True)
class Imported:
    """A file of weights in its place, with its record; ``already`` where equal bytes had been there before."""

    path: Path
    record: Record
    already: bool


def list_weights(*, network: str | None = None) -> list[Entry]:
    """Return what fer's own networks, or the one that is named, can start from. Asks no network.

    Raises:
        FerError: nobody knows the name, or ``$FER_WEIGHTS`` is not a folder.
    """
    weights_folder()
    if network is not None:
        _check_network(network)
    return [_entry(name) for name in ((*BACKBONES, *OWN) if network is None else (network,))]


def fetch_weights(*, network: str) -> Fetched:
    """Bring a network's published weights to this machine, unless some are there.

    Raises:
        FerError: nobody knows the name, what is there is damaged, or the weights cannot be fetched.
    """
    _check_network(network)
    if (here := _find(network)) is not None:
        return Fetched(network, *here, already=True)
    if network in RELEASES:
        found = find_release(RELEASES[network], None, None, fetch=True)
    else:
        hub, name = published(network).hub, forbidding()
        if hub is not None and name is not None:
            raise FerError(
                f"the weights of {network} are not on this machine, and ${name} forbids downloading them",
                hint=f"download model.safetensors from huggingface.co/{hub} elsewhere, then {_by_file(network)}",
            )
        found = find_weights(network, "auto")
    assert found is not None
    return Fetched(network, found, found.sha256(), already=False)


def import_weights(
    *,
    file: Path,
    network: str,
    source: str | None = None,
    pretraining: str | None = None,
    licence: str | None = None,
    sha256: str | None = None,
    force: bool = False,
) -> Imported:
    """Put a file of weights where fer finds it: ``$FER_WEIGHTS`` where that is set, else fer's cache.

    It must fit the network strictly. A safetensors file is kept byte for byte, so that artifacts made from it equal
    those made from the same file elsewhere; another one is rewritten as safetensors.

    Args:
        file: safetensors, or a ``.pth`` of tensors alone; the published file for a network of ``RELEASES``.
        network: timm's name of a backbone, or one of ``RELEASES``.
        source: where the file is from.
        pretraining: what it was trained on.
        licence: under which terms.
        sha256: what the file's hash must be, in either case.
        force: replace other weights that are there.

    Raises:
        UsageError: ``sha256`` is no SHA-256.
        FerError: nobody knows the name, the file does not fit it or has another hash, other weights are there, or
            they cannot be written.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"--sha256 {sha256!r} is not a SHA-256", hint="give 64 hex digits, as sha256sum does")
    folder = weights_folder() or cache_folder()
    _check_network(network)
    if network == "compact":
        hint = "'fer parse-masks --parser compact --weights FILE' takes others"
        raise FerError("the weights of compact come with fer", hint=hint)
    if not file.is_file():
        raise FerError("no such file", hint="give a .safetensors or .pth file", path=file)
    original = sha256_file(file)
    if sha256 is not None and original != sha256.lower():
        what = f"its sha256 is {original[:16]}, expected {sha256[:16].lower()}"
        raise FerError(what, hint="download it again, or correct --sha256", path=file)
    if (release := RELEASES.get(network)) is not None:
        source, pretraining, licence = source or release.url, pretraining or release.what, licence or release.licence
        data, place = _published(file, original, release), folder / release.file
    else:
        data, place = _safetensors(file, network), folder / f"{network}.safetensors"
    record = Record(
        network=network,
        source=source or None,
        pretraining=pretraining or None,
        licence=licence or None,
        original=file.name,
        original_sha256=original,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    record, already = keep(place, data, record, force=force)
    return Imported(place, record, already)


def _check_network(name: str) -> None:
    if name not in OWN:
        if close := difflib.get_close_matches(name, OWN, n=1, cutoff=0.8):
            raise FerError(f"fer knows no network {name!r}", hint=f"did you mean {close[0]}?")
        check_name(name)


def _entry(network: str) -> Entry:
    source, pretraining, licence, fetchable = _origin(network)
    try:
        here = _find(network)
    except FerError as error:
        advice = f"{error.what}; {error.hint}"
        path = None if error.path is None else Path(error.path)
        return Entry(network, source, pretraining, licence, "damaged", advice, path)
    if here is None:
        if not fetchable:
            return Entry(network, source, pretraining, licence, "not here", f"needs a file: {_by_file(network)}")
        if forbidding() is not None:
            return Entry(network, source, pretraining, licence, "offline", f"needs a file: {_by_file(network)}")
        return Entry(network, source, pretraining, licence, "not here", f"'fer weights fetch {network}'")
    found, sha256 = here
    if network not in OWN:
        source, pretraining = found.source, found.pretraining
        if found.kind != "hub":
            record = _record(found)
            licence = (None if record is None else record.licence) or NOT_TOLD
        if found.kind == "package":
            licence = PACKAGES[network.partition(".")[0]].licence
    size = found.path.stat().st_size
    return Entry(network, source, pretraining, licence, "here", "", found.path, size, sha256)


def _origin(network: str) -> tuple[str, str, str, bool]:
    """Return source, pretraining and licence of what is published, and whether it can be fetched."""
    if (release := RELEASES.get(network)) is not None:
        return release.source, release.what, release.licence, True
    if network == "compact":
        return "bundled", "ImageNet-1k, CelebAMask-HQ", _NON_COMMERCIAL, False
    told: Published = published(network)
    package = PACKAGES.get(network.partition(".")[0])
    source = f"hub {told.hub}" if told.hub else "unknown to timm" if package is None else f"package {package.name}"
    return source, told.pretraining or UNKNOWN, told.licence or NOT_TOLD, told.hub is not None


def _by_file(network: str) -> str:
    package = PACKAGES.get(network.partition(".")[0])
    install = "" if package is None else f"install the package {package.name}, or "
    return f"{install}'fer weights import FILE --for {network}'"


def _find(network: str) -> tuple[WeightsFile, str] | None:
    """Return a network's weights on this machine and their hash."""
    if network == "compact":
        found: WeightsFile | None = find_compact(None, None)
    elif network in RELEASES:
        found = find_release(RELEASES[network], None, None, fetch=False)
    else:
        found = find_here(network)
    return None if found is None else (found, found.sha256())


def _record(found: WeightsFile) -> Record | None:
    return read_record(found.path) if found.path.parent in (weights_folder(), cache_folder()) else None


def _published(file: Path, sha256: str, release: Release) -> bytes:
    if sha256 != release.sha256:
        raise FerError(
            f"its sha256 is {sha256[:16]}, expected {release.sha256[:16]}",
            hint=f"download {release.url}; '--weights FILE --weights-sha256 HEX' of the command takes other weights",
            path=file,
        )
    return file.read_bytes()


def _safetensors(file: Path, network: str) -> bytes:
    """Return the file as safetensors, once all its tensors have gone into the network."""
    import torch
    from safetensors.torch import save

    weights = WeightsFile(file, "file", UNKNOWN)
    open_backbone(network, size=None, weights=weights)
    if file.suffix == ".safetensors":
        return file.read_bytes()
    tensors = {
        name: value.clone(memory_format=torch.contiguous_format) for name, value in load_tensors(weights).items()
    }
    return save(tensors, metadata={"format": "pt"})
