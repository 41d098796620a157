"""Checksums by block: what is read is what was written, or one line says what is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.checksums import StoredArray
from fer_cli.artifacts.payload import ArrayWriter
from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS
from fer_cli.datasets.dataset import IMAGES, open_dataset
from fer_cli.stages.prepare import prepare
from tests.kits.toy import CLASSES, Toy

ROWS = np.random.default_rng(0).integers(0, 256, (90, 5, 7), np.uint8)
BLOCK = 128


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("atomic_io", "checksums"):
        monkeypatch.setattr(f"fer_cli.artifacts.{module}.BLOCK_BYTES", BLOCK)


def stored(path: Path, rows: np.ndarray[Any, Any] = ROWS) -> Callable[[], StoredArray]:
    """Write rows and return what opens them with the checksums that they have now."""
    with ArrayWriter(path, rows.shape[1:], rows.dtype, len(rows), reserve=True) as writer:
        writer.write(0, rows)
        writer.finish(len(rows))
    checksums = atomic_io.hash_blocks(path)[1]
    return lambda: StoredArray(path, checksums, lambda block, found: FerError(f"block {block}", path=path))


INDICES: list[Any] = [
    *(0, 7, -1, np.int64(89), slice(3, 9), slice(None), slice(80, 2, -7), slice(5, 5), [1, 2, -3], [], ...),
    *(
        np.array([5, 88, 5, -90]),
        np.arange(90) % 7 == 3,
        (3, 2),
        (slice(2, 40, 5), 1),
        (np.array([1, 60]), slice(2), 3),
    ),
    *((..., 0), None, ROWS > 250),
]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("index", INDICES, ids=lambda index: str(index)[:30])
def test_an_index_gives_what_an_array_gives_and_needs_no_other_block(index: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    reopen = stored(path)
    np.testing.assert_array_equal(reopen()[index], ROWS[index])
    whole = path.read_bytes()
    marked = np.zeros(ROWS.shape, np.bool_)
    marked[index] = True
    wanted: NDArray[np.bool_] = np.asarray(marked.reshape(len(ROWS), -1).any(axis=1))
    offset, row = len(whole) - ROWS.nbytes, ROWS[0].nbytes
    for block in range(1, -(-len(whole) // BLOCK)):
        data = bytearray(whole)
        data[block * BLOCK] ^= 4
        path.write_bytes(data)
        first, last = ((at - offset) // row for at in (block * BLOCK, min(len(whole), (block + 1) * BLOCK) - 1))
        if wanted[max(first, 0) : last + 1].any():
            with pytest.raises(FerError, match=f"block {block}$"):
                reopen()[index]
        elif isinstance(index, int | np.integer | list | np.ndarray) and np.ndim(index) < 2:
            np.testing.assert_array_equal(reopen()[index], ROWS[index])


@pytest.mark.usefixtures("small_blocks")
def test_there_is_no_way_past_the_check(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    reopen = stored(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    ways: list[Callable[[Any], object]] = [
        *(np.asarray, np.array, np.sum, np.concatenate, list, lambda a: a.mean(), lambda a: a + 1, lambda a: 255 - a),
        *(lambda a: a.astype(float), lambda a: a == a, lambda a: a.tobytes(), lambda a: np.stack([a[0], a[-1]])),
        *(np.add.reduce, lambda a: a.max(), lambda a: np.maximum(a, 3), lambda a: a.reshape(-1)),
    ]
    for way in ways:
        with pytest.raises(FerError, match="block "):
            way(reopen())
    with pytest.raises(TypeError):
        memoryview(reopen())
    assert np.array_equal(reopen()[:-10], ROWS[:-10])
    assert (reopen().shape, reopen().dtype, reopen().ndim, len(reopen())) == (ROWS.shape, ROWS.dtype, 3, 90)


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_done_to_the_bytes_is_found(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.npy"
    reopen = stored(path)
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole) - 1))
    piece = data.draw(st.binary(min_size=1, max_size=min(90, len(whole) - start)))
    path.write_bytes(whole[:start] + piece + whole[start + len(piece) :])
    if path.read_bytes() == whole:
        return
    with pytest.raises(FerError, match="block "):
        np.asarray(reopen())


def test_damage_of_images_is_one_line_with_the_block_and_the_command(store: Any) -> None:
    classes = EXPRESSIONS[:3]
    toy = Toy(images=210, grey=True, seed=0, classes=classes)
    artifact = prepare(store=store, loader=toy, command="fer prepare toy --seed 0").artifact
    path = artifact.path / IMAGES
    images = np.load(path)
    half = len(images) // 2
    images[:half], images[half : 2 * half] = images[half : 2 * half].copy(), images[:half].copy()
    np.save(path, images)
    assert path.stat().st_size == artifact.manifest.files[[f.path for f in artifact.manifest.files].index(IMAGES)].size
    with pytest.raises(FerError) as caught:
        open_dataset(artifact).images[150]
    message = str(caught.value)
    assert message.startswith(f"{path}: block 0 (from byte 0) of {artifact.reference} has checksum ")
    assert message.endswith("make it again: fer prepare toy --seed 0 --force")
    assert "\n" not in message


def test_a_whole_hash_guards_what_is_no_array_of_blocks(store: Any) -> None:
    artifact = prepare(store=store, loader=Toy(images=70, grey=True, seed=0, classes=CLASSES)).artifact
    shutil.copy(artifact.path / IMAGES, artifact.path / "x")
    data = bytearray((artifact.path / IMAGES).read_bytes())
    data[-5] ^= 1
    (artifact.path / IMAGES).write_bytes(data)
    with pytest.raises(FerError, match="sha256"):
        artifact.file(IMAGES)
