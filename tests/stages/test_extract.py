"""Extraction: what it computes, and that stopping, killing, resuming and sharing change nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.journal import Journal, process_blocks
from fer_cli.artifacts.maintenance import leftovers, verify_directory
from fer_cli.artifacts.payload import ArrayWriter, read_array
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.work import Work
from fer_cli.core.distributed import Ranks
from fer_cli.core.errors import FerError, PreemptedError, UsageError
from fer_cli.datasets.dataset import open_dataset
from fer_cli.inference import extraction
from fer_cli.models.backbones import open_backbone
from fer_cli.models.features import open_features
from fer_cli.stages.extract import extract
from tests.kits.toy import toy_dataset

TINY = "test_efficientnet"


def run(store: Store, **options: object) -> Artifact:
    settings: dict[str, object] = {"backbone": TINY, "size": 32, "weights": "none", "batch": 16, **options}
    return extract(store=store, **settings).artifact  # type: ignore[arg-type]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "BLOCK", 32)


@pytest.mark.parametrize("grey", [True, False], ids=["grey", "colour"])
def test_features_are_those_of_the_network(store: Store, grey: bool) -> None:
    dataset = open_dataset(toy_dataset(store, images=40, grey=grey))
    features = open_features(run(store, views=["flip", "original"]), dataset.artifact)
    assert list(features.views) == ["original", "flip"]
    network = open_backbone(TINY, size=32, weights=None)
    pixels = torch.from_numpy(np.array(dataset.images)).float()
    x = pixels[:, None].expand(-1, 3, -1, -1) if grey else pixels.permute(0, 3, 1, 2)
    x = torch.nn.functional.interpolate(
        x, (32, 32), mode=network.preprocessing.interpolation, antialias=True, align_corners=False
    )
    mean, std = (torch.tensor(v)[:, None, None] for v in (network.preprocessing.mean, network.preprocessing.std))
    x = (x.clamp(0, 255) / 255 - mean) / std
    with torch.no_grad():
        for view, images in (("original", x), ("flip", x.flip(-1))):
            expected = network.features(images).numpy()
            np.testing.assert_allclose(features.views[view], expected, rtol=1e-4, atol=1e-4)
    assert not np.allclose(features.views["original"], features.views["flip"])


def test_maps_and_half_precision(store: Store) -> None:
    dataset = toy_dataset(store, images=20)
    maps = run(store, level="stage2", dtype="float16")
    assert maps.name == f"toy-{TINY}-32-stage2-random-float16"
    array = read_array(maps.file("original.npy"))
    assert array.shape == (20, *maps.manifest.summary["shape"])
    assert array.dtype == np.float16
    assert array.ndim == 4
    features = open_features(maps, dataset)
    assert features.rows("original", np.arange(5)).shape == (5, features.dimension)
    full = read_array(run(store, level="stage2").file("original.npy"))
    np.testing.assert_allclose(array, full, rtol=2e-3, atol=2e-3)


def test_features_of_another_dataset_are_refused(store: Store) -> None:
    """As many images, of the same size: the count alone would let them pass."""
    own = toy_dataset(store, images=20)
    features = run(store)
    other = toy_dataset(store, images=20, seed=1)
    assert open_features(features, own).views.keys() == {"original"}
    with pytest.raises(
        FerError, match=f"has the features of toy@{own.version}, not of {other.reference}; extract its own"
    ):
        open_features(features, other)


def test_a_second_run_does_nothing(store: Store) -> None:
    toy_dataset(store, images=20)
    first = extract(store=store, backbone=TINY, size=32, weights="none")
    second = extract(store=store, backbone=TINY, size=32, weights="none")
    assert (first.up_to_date, second.up_to_date) == (False, True)
    assert extract(store=store, backbone=TINY, size=32, weights="none", force=True).up_to_date is False


@pytest.mark.usefixtures("small_blocks")
def test_stopped_work_goes_on_where_it_was(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_dataset(store, images=150)
    other = Store(tmp_path / "other")
    toy_dataset(other, images=150)
    reference = run(other, views=["original", "flip"]).manifest.content
    saved = 0
    save = extraction._save

    def counting(*arguments: object) -> dict[str, int]:
        nonlocal saved
        saved += 1
        if saved == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return save(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(extraction, "_save", counting)
    with pytest.raises(PreemptedError, match="stopped by SIGTERM") as caught:
        run(store, views=["original", "flip"])
    assert caught.value.exit_code == 75
    assert not store.directories(["features"])
    before = saved
    assert before < 5
    assert run(store, views=["original", "flip"]).manifest.content == reference
    assert saved == 5, "each of the five blocks was computed once"


@pytest.mark.usefixtures("small_blocks")
def test_a_block_that_the_disk_lost_is_computed_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_dataset(store, images=150)
    other = Store(tmp_path / "other")
    toy_dataset(other, images=150)
    reference = run(other).manifest.content
    with monkeypatch.context() as patch:
        patch.setattr(Work, "commit", lambda self, **how: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(store)
    partial = next(store.root.glob("features/*/.partial-*"))
    data = bytearray((partial / "original.npy").read_bytes())
    data[-1] ^= 1
    (partial / "original.npy").write_bytes(data)
    with (partial / "journal-0.jsonl").open("a") as stream:
        stream.write('{"block": 99, "crc32": {"original": 0}}\n{"block": 1, "cr')
    artifact = run(store)
    assert artifact.manifest.content == reference
    assert verify_directory(artifact.path) == []
    assert [path.name for path in artifact.path.iterdir() if "journal" in path.name] == []


@pytest.mark.usefixtures("small_blocks")
def test_what_a_forced_run_left_is_not_taken_for_its_work(store: Store) -> None:
    toy_dataset(store, images=70)
    reference = run(store).manifest.content
    partial = store.root / "features" / f"toy-{TINY}-32-random"
    partial = partial / f".partial-{store.find(None, ['features']).version}"
    partial.mkdir()
    (partial / "original.npy").write_bytes(b"stale")
    (partial / "journal-0.jsonl").write_text("stale")
    assert run(store, force=True).manifest.content == reference


def test_two_processes_share_the_work(store: Store, tmp_path: Path) -> None:
    toy_dataset(store, images=1100)
    other = Store(tmp_path / "other")
    toy_dataset(other, images=1100)
    reference = run(other, batch=64)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "fer_cli", "extract", "--backbone", TINY, "--size", "32", "--weights", "none", "--batch", "64"]
    done = subprocess.run(
        [*command, "--store", str(store.root)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    shared = store.find(None, ["features"])
    assert shared.version == reference.version
    assert shared.manifest.measured["processes"] == 2
    np.testing.assert_allclose(
        read_array(shared.file("original.npy")), read_array(reference.file("original.npy")), rtol=1e-4, atol=1e-5
    )
    assert done.stdout.count("written") == 1, "one process speaks"


def test_what_cannot_be_done_is_said_in_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FerError, match="no dataset artifact yet; make one with 'fer prepare'"):
        run(store)
    toy_dataset(store, images=20)
    cases: list[tuple[dict[str, object], type[FerError], str]] = [
        ({"views": ["mirror"]}, UsageError, "--views 'mirror' is not a view; take original,flip"),
        ({"views": []}, UsageError, "--views is empty"),
        ({"dtype": "int8"}, UsageError, "--dtype 'int8' is not a type"),
        ({"batch": 0}, UsageError, "--batch 0 is not a number of images"),
        ({"size": 5000}, UsageError, "--size 5000 is out of range"),
        ({"device": "cuda:7"}, FerError, "this machine has no such device"),
        ({"device": "toaster"}, FerError, "is not a device"),
        (
            {"backbone": "test_resnett", "weights": "auto"},
            FerError,
            "timm has no backbone 'test_resnett'; did you mean",
        ),
        ({"backbone": "test_convnext", "size": 17}, FerError, "test_convnext cannot process images of 17 px"),
    ]
    for options, kind, words in cases:
        with pytest.raises(kind) as caught:
            run(store, **options)
        assert words in str(caught.value)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(FerError, match="needs 0.0 MB, 0.0 MB are free; free some"):
        run(store)
    assert not store.directories(["features"])
    assert not leftovers(store, superseded=False)


def test_features_that_are_not_finite_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_dataset(store, images=20)
    monkeypatch.setattr(
        "fer_cli.models.backbones.Backbone.features", lambda self, x: torch.full((len(x), 4), float("inf"))
    )
    with pytest.raises(FerError, match="not finite in images 0 to 19"):
        run(store)


def test_reserved_space_is_real(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "a.npy", (1000,), np.float32, 1000, reserve=True):
        assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 4_000_000


def test_progress_lines_name_rate_and_rest(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from fer_cli.core import progress

    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress.track("extract toy", 1000) as advance:
        for now in (2.0, 4.0, 6.0, 12.0):  # noqa: B007 - the clock reads it
            advance(100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "extract toy: 200/1,000 images, 50/s, 16 s left",
        "extract toy: 400/1,000 images, 33/s, 18 s left",
    ]


def test_a_block_is_noted_only_after_its_rows_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that loses power keeps what was forced to the disk: the journal must never be ahead of the rows."""
    events: list[str] = []
    for name, owner in (("write", ArrayWriter), ("sync", ArrayWriter), ("note", Journal)):
        real = getattr(owner, name)

        def logged(*arguments: object, _real: Any = real, _name: str = name) -> object:
            events.append(_name)
            return _real(*arguments)

        monkeypatch.setattr(owner, name, logged)
    features = {view: np.ones((2, 3), np.float32) for view in ("original", "flip")}
    with ExitStack() as stack:
        writers = {
            view: stack.enter_context(ArrayWriter(tmp_path / f"{view}.npy", (3,), np.float32, 2, reserve=True))
            for view in features
        }
        done, _ = process_blocks(
            tmp_path,
            2,
            extraction.BLOCK,
            run="run",
            title="features",
            ranks=Ranks(0, 1, 0, 1),
            compute=lambda rows: features,
            save=lambda block, rows: extraction._save(0, rows, writers),
            is_sound=lambda block, checksums: False,
        )
    assert done == 2
    assert events == ["write", "sync", "write", "sync", "note"]
