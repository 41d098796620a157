"""``python -m benchmarks.chaos fuzz [--inputs 5000] [--seed 0]``: hostile bytes for every reader of users' files.

Each input is a sound file that was damaged (bits, bytes, cut, doubled or spliced parts, numbers beyond reason, deep
nesting, packed anew), read in a fork of this process under a limit of memory and of time. A reader may read it or
refuse it with a ``FerError``, and must read the sound ones. Anything else is a fault: another error, a hang, memory
beyond the limit, a signal, or numbers that are not finite.
"""

from __future__ import annotations

import argparse
import bz2
import faulthandler
import gzip
import io
import json
import lzma
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save

from fer_cli.artifacts.manifest import MANIFEST, read_manifest
from fer_cli.artifacts.payload import read_array, read_json, read_table, read_tensors
from fer_cli.artifacts.store import Store
from fer_cli.core.assets import recipe
from fer_cli.core.errors import FerError
from fer_cli.core.recipes import load_recipe
from fer_cli.datasets.affectnet import read_id
from fer_cli.datasets.image_files import decode, probe
from fer_cli.datasets.pixels import parse_images
from fer_cli.datasets.synth.loader import Synth
from fer_cli.datasets.tables import open_table, text_lines
from fer_cli.evaluation.external_predictions import read_predictions
from fer_cli.stages.prepare import prepare
from fer_cli.systems.ahm.hierarchy import default_hierarchy, load_hierarchy
from fer_cli.systems.baseline.recipe import BaselineRecipe
from fer_cli.weights.dlib_file import read_layers
from fer_cli.weights.files import WeightsFile, load_strictly, load_tensors

MEMORY = 2 << 30
"""Bytes of address space that a reader may take beyond what this process has."""
SECONDS = 20
"""CPU seconds that it may take for one input."""
WORDS = (
    b"9" * 400,
    b"-1",
    b"nan",
    b"inf",
    b"1e999",
    b"[" * 3000,
    b"a." * 3000,
    b"\0",
    b"\xff\xff\xff\xff",
    b"\n" * 5000,
)
Generator = np.random.Generator


@dataclass(frozen=True, slots=True)
class Target:
    """A reader: sound bytes by their suffix, and what reads a file and checks what came of it."""

    sound: dict[str, bytes]
    read: Callable[[Path], object]


def _picture(form: str, *, grey: bool = False, **options: Any) -> bytes:  # noqa: ANN401 - options of Pillow's writers
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if grey else pixels).save(stream, form, **options)
    return stream.getvalue()


def _pictures() -> dict[str, bytes]:
    return {
        ".png": _picture("PNG"),
        ".jpg": _picture("JPEG"),
        ".progressive.jpg": _picture("JPEG", progressive=True),
        ".bmp": _picture("BMP"),
        ".gif": _picture("GIF", grey=True),
        ".webp": _picture("WEBP"),
        ".lossless.webp": _picture("WEBP", lossless=True),
        ".tif": _picture("TIFF"),
        ".lzw.tif": _picture("TIFF", compression="tiff_lzw"),
        ".deflate.tif": _picture("TIFF", compression="tiff_adobe_deflate"),
        ".ppm": _picture("PPM"),
        ".pgm": _picture("PPM", grey=True),
    }


def _read_picture(path: Path) -> None:
    seen = probe(path)
    pixels = decode(path, grey=False)
    assert pixels.dtype == np.uint8, pixels.dtype
    assert pixels.size == 3 * seen.width * seen.height, "its header said another size"


def _packed(text: bytes) -> dict[str, bytes]:
    return {
        ".csv": text,
        ".csv.gz": gzip.compress(text),
        ".csv.xz": lzma.compress(text),
        ".csv.bz2": bz2.compress(text),
    }


def _fer2013() -> bytes:
    rows = [f"{number % 7},{' '.join(str(number * k % 256) for k in range(64))},Training" for number in range(30)]
    return "\n".join(["emotion,pixels,Usage", *rows, ""]).encode()


def _read_pixels(path: Path) -> None:
    table = open_table(path, {"pixels": ("pixels",)})
    rows = list(table.rows)
    parse_images(path, [cells[table.columns["pixels"]] for _, cells in rows], [line for line, _ in rows], 8)


def _predictions() -> dict[str, bytes]:
    rows = [(f"test/{number}", round(0.1 + number / 100, 2)) for number in range(40)]
    text = "\n".join(["id,prob_happy,prob_sad", *(f"{name},{p},{1 - p:.2f}" for name, p in rows), ""]).encode()
    table = pa.table(
        {"id": [n for n, _ in rows], "prob_happy": [p for _, p in rows], "prob_sad": [1 - p for _, p in rows]}
    )
    stream = io.BytesIO()
    pq.write_table(table, stream)
    labels = "\n".join(["id,predicted", *(f"{name},happy" for name, _ in rows), ""]).encode()
    records = [{"id": name, "scores": {"happy": p, "sad": round(1 - p, 2)}} for name, p in rows]
    return {
        **_packed(text),
        ".labels.csv": labels,
        ".tsv": labels.replace(b",", b"\t"),
        ".parquet": stream.getvalue(),
        ".json": json.dumps(records).encode(),
        ".jsonl": "".join(f"{json.dumps(record)}\n" for record in records).encode(),
    }


def _read_predictions(path: Path) -> None:
    predictions = read_predictions(path)
    if (scores := predictions.probabilities) is not None:
        scores = scores[~np.isnan(scores).all(axis=1)]  # rows without an answer
        assert np.isfinite(scores).all(), "scores that are not finite"
        assert np.allclose(scores.sum(axis=1), 1, atol=0.05), "scores that do not sum to 1"


def _ids() -> dict[str, bytes]:
    sound = {}
    for name, value in (("number", np.array(3)), ("text", np.array("3")), ("list", np.array([3.0]))):
        stream = io.BytesIO()
        np.save(stream, value)
        sound[f".{name}.npy"] = stream.getvalue()
    return sound


def _read_id(path: Path) -> None:
    faults: list[FerError] = []
    number = read_id(path, faults)
    if faults:
        raise faults[0]
    assert number is not None, "neither read nor refused"
    assert 0 <= number <= 10, number


def _array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.arange(600, dtype=np.float32).reshape(20, 30))
    return stream.getvalue()


def _network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )


def _weights() -> dict[str, bytes]:
    state = _network().state_dict()
    stream, legacy = io.BytesIO(), io.BytesIO()
    torch.save(state, stream)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    return {".safetensors": save(state), ".pth": stream.getvalue(), ".legacy.pth": legacy.getvalue()}


def _read_weights(path: Path) -> None:
    network = _network()
    load_strictly(network, load_tensors(WeightsFile(path, "file", "unknown")), path)
    for name, tensor in network.state_dict().items():
        assert bool(tensor.isfinite().all()), f"{name} is not finite"


def _dlib() -> bytes:
    shape = b"\x01\x04\x01\x01\x01\x01\x01\x01"
    return (
        b"\x01\x05con_5\x01\x01"
        + shape
        + np.ones(4, "<f4").tobytes()
        + b"\x01\x04fc_2"
        + b"\x01\x01" * 3
        + shape
        + np.ones(4, "<f4").tobytes()
    )


def _manifest() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        loader = Synth(images=160, subjects=14, size=48, imbalance=2.0, jobs=1)
        return (prepare(store=Store(Path(folder)), loader=loader).artifact.path / MANIFEST).read_bytes()


def _read_manifest(path: Path) -> None:
    folder = path.with_suffix(".artifact")
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_bytes(path.read_bytes())
    try:
        read_manifest(folder)
    finally:
        (folder / MANIFEST).unlink()
        folder.rmdir()


def targets() -> dict[str, Target]:
    """Return every reader by its name."""
    manifest = _manifest()
    stream = io.BytesIO()
    pq.write_table(pa.table({"id": ["a", "b"] * 20, "score": np.arange(40) / 40}), stream)
    listed = b"".join(b"train/%d.jpg %d\n" % (number, number % 7) for number in range(50))
    arrays = {".safetensors": save({"a": torch.arange(12.0), "b": torch.ones(2, 3)})}
    return {
        "picture": Target(_pictures(), _read_picture),
        "pixels": Target(_packed(_fer2013()), _read_pixels),
        "predictions": Target(_predictions(), _read_predictions),
        "list": Target(
            {".txt": listed, ".txt.gz": gzip.compress(listed)}, lambda path: sum(1 for _ in text_lines(path))
        ),
        "recipe": Target(
            {".toml": recipe("baseline/gpu.toml").read_bytes()}, lambda path: load_recipe(path, BaselineRecipe)
        ),
        "hierarchy": Target({".toml": default_hierarchy().text.encode()}, load_hierarchy),
        "npy id": Target(_ids(), _read_id),
        "npy": Target({".npy": _array()}, lambda path: np.asarray(read_array(path)).sum()),
        "parquet": Target({".parquet": stream.getvalue()}, _read_table),
        "tensors": Target(arrays, read_tensors),
        "json": Target({".json": manifest}, read_json),
        "manifest": Target({".json": manifest}, _read_manifest),
        "weights": Target(_weights(), _read_weights),
        "dlib": Target({".dat": _dlib()}, read_layers),
    }


def _read_table(path: Path) -> None:
    read_table(path).to_pylist()


def damaged(data: bytes, rng: Generator) -> bytes:
    """Return a sound file's bytes after one to four damages; a packed text is now and then damaged within."""
    unpack = {b"\x1f\x8b": gzip, b"\xfd7": lzma, b"BZ": bz2}.get(data[:2])
    if unpack is not None and rng.random() < 0.5:
        return bytes(unpack.compress(damaged(unpack.decompress(data), rng)))
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at, to = sorted(int(place) for place in rng.integers(0, len(out) + 1, 2))
        match int(rng.integers(0, 9)):
            case 0 if out:
                out[min(at, len(out) - 1)] ^= 1 << int(rng.integers(0, 8))
            case 1:
                out[at : at + 4] = rng.integers(0, 256, 4, dtype=np.uint8).tobytes()
            case 2:
                del out[at:]
            case 3:
                del out[at : min(to, at + 64)]
            case 4:
                out[at:at] = out[at : min(to, at + 4096)] * int(rng.integers(1, 20))
            case 5:
                word = WORDS[int(rng.integers(0, len(WORDS)))]
                out[at : at + int(rng.integers(0, 2)) * len(word)] = word
            case 6:
                value = int(rng.choice([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
                out[at : at + 4] = value.to_bytes(4, "little" if rng.random() < 0.5 else "big")
            case 7:  # a number of the text becomes one beyond reason
                digits = [place for place, byte in enumerate(out[:20_000]) if 48 <= byte <= 57]
                if digits:
                    place = digits[int(rng.integers(0, len(digits)))]
                    out[place : place + 1] = (b"9" * 400, b"1e308", b"-0", b"nan", b"9" * 5000)[int(rng.integers(0, 5))]
            case _:
                out[at:to], out[:0] = out[:0], out[at:to][:4096]
    return bytes(out)


def _attempt(target: Target, path: Path) -> str:
    """Read one file; return ``read``, ``refused``, or what is at fault."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        target.read(path)
    except FerError as error:
        return "refused" if "\n" not in str(error) else "a message of two lines"
    except MemoryError:
        return "memory"
    except BaseException as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0][:160]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "read"


def _serve(target: Target, paths: list[Path], answer: int) -> None:
    """Read files one by one in this process, a fork, and write what became of each to a pipe."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - its descriptor is what is wanted
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    faulthandler.disable()
    warnings.simplefilter("ignore")
    size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for path in paths:
        os.write(answer, pickle.dumps(_attempt(target, path)).ljust(512, b"\0"))


def outcomes(target: Target, paths: list[Path]) -> Iterator[str]:
    """Yield what became of each file; the one that a fork died of is at fault, and a new fork goes on after it."""
    done = 0
    while done < len(paths):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reader)
                _serve(target, paths[done:], writer)
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            while len(record := stream.read(512)) == 512:
                yield pickle.loads(record)
                done += 1
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if done < len(paths):
            yield "hang" if code == -signal.SIGPROF else f"ended with {code}"
            done += 1


def fuzz(inputs: int, seed: int, folder: Path, keep: Path | None = None) -> dict[str, Counter[str]]:
    """Give every reader its share of the inputs; return what became of them, by reader.

    Args:
        inputs: in all.
        seed: of the damages.
        folder: an empty one.
        keep: where inputs at fault are copied to.
    """
    found: dict[str, Counter[str]] = {}
    readers = targets()
    for place, (name, target) in enumerate(readers.items()):
        rng = np.random.default_rng([seed, place])
        share = inputs // len(readers) + (place < inputs % len(readers))
        whole = [folder / f"{place}-sound{suffix}" for suffix in target.sound]
        for path, data in zip(whole, target.sound.values(), strict=True):
            path.write_bytes(data)
        paths = []
        for number in range(share):
            suffix = list(target.sound)[number % len(target.sound)]
            paths.append(folder / f"{place}-{number}{suffix}")
            paths[-1].write_bytes(damaged(target.sound[suffix], rng))
        counts = found[name] = Counter()
        for path, outcome in zip(whole + paths, outcomes(target, whole + paths), strict=True):
            if outcome not in {"read", "refused"} or (path in whole and outcome == "refused"):
                counts[f"{outcome} ({path.name})"] += 1
                if keep is not None:
                    (keep / path.name).write_bytes(path.read_bytes())
            elif path not in whole:
                counts[outcome] += 1
        for path in whole + paths:
            path.unlink()
    return found


def main() -> None:
    """Run all readers; exit with 1 where one was at fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the inputs at fault")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(options.inputs, options.seed, Path(folder), options.keep)
    at_fault = 0
    print(f"{'reader':12} {'trials':>6} {'read':>6} {'refused':>7} {'faults':>6}")
    for name, counts in found.items():
        faults = {what: n for what, n in counts.items() if what not in {"read", "refused"}}
        number = sum(faults.values())
        at_fault += number
        print(f"{name:12} {counts.total():6} {counts['read']:6} {counts['refused']:7} {number:6}")
        print("".join(f"    {what}\n" for what in faults), end="")
    print(f"{options.inputs:,} inputs, seed {options.seed}: {at_fault} faults, {time.perf_counter() - begun:.0f} s")
    sys.exit(int(at_fault > 0))
