"""Malformed input from the command line: exit code 1, one line that names the file, and nothing left behind."""

from __future__ import annotations

import gzip
import lzma
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_cli.artifacts.maintenance import leftovers
from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.stages.extract import extract
from fer_cli.systems.ahm.hierarchy import default_hierarchy
from tests.kits.fer2013 import LINES, TEXT, votes_lines, write_lines, zipped
from tests.kits.toy import toy_dataset

Case = Callable[[Path], tuple[list[str], str]]
CASES: dict[str, Case] = {}
VOTES = [[6, 4, 0, 0, 0, 0, 0, 0, 0, 0]] * 9
PARTS = [line.rsplit(",", 1)[1] for line in LINES[1:]]


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def table(folder: Path, change: Callable[[list[str]], list[str]], words: str) -> tuple[list[str], str]:
    path = write_lines(folder / "fer2013.csv", change(list(LINES)))
    return ["prepare", "fer2013", "--source", str(path), "--allow-incomplete"], words.format(path=path)


def with_line(number: int, text: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[: number - 1], text, *lines[number:]]


def raw(folder: Path, name: str, data: bytes, words: str) -> tuple[list[str], str]:
    path = folder / name
    path.write_bytes(data)
    return ["prepare", "fer2013", "--source", str(path), "--allow-incomplete"], words.format(path=path)


PIXELS = LINES[1].split(",")[1]


@case
def unknown_id(folder: Path) -> tuple[list[str], str]:
    return table(folder, with_line(3, LINES[2].replace("6,", "9,", 1)), "{path}:3: ")


@case
def too_few_pixels(folder: Path) -> tuple[list[str], str]:
    return table(folder, with_line(2, f"0,{' '.join(PIXELS.split()[: 47 * 48])},Training"), "{path}:2: ")


@case
def value_of_256(folder: Path) -> tuple[list[str], str]:
    return table(folder, with_line(2, f"0,256 {PIXELS.split(' ', 1)[1]},Training"), "{path}:2: ")


@case
def negative_value(folder: Path) -> tuple[list[str], str]:
    return table(folder, with_line(2, f"0,-1 {PIXELS.split(' ', 1)[1]},Training"), "{path}:2: ")


@case
def missing_column(folder: Path) -> tuple[list[str], str]:
    return table(folder, with_line(1, "emotion,pixel,Usage"), "{path}:1: ")


@case
def unknown_usage(folder: Path) -> tuple[list[str], str]:
    return table(folder, with_line(4, f"3,{PIXELS},Tests"), "{path}:4: ")


@case
def latin_1(folder: Path) -> tuple[list[str], str]:
    return raw(folder, "a.csv", TEXT.replace(b"Training", b"Tr\xe9ining", 1), "{path}:2: ")


@case
def truncated_xz(folder: Path) -> tuple[list[str], str]:
    return raw(folder, "a.csv.xz", lzma.compress(TEXT)[:-40], "{path}")


@case
def truncated_gz(folder: Path) -> tuple[list[str], str]:
    return raw(folder, "a.csv.gz", gzip.compress(TEXT)[:-40], "{path}")


@case
def empty_file(folder: Path) -> tuple[list[str], str]:
    return raw(folder, "a.csv", b"", "{path}")


@case
def header_alone(folder: Path) -> tuple[list[str], str]:
    return raw(folder, "a.csv", b"emotion,pixels,Usage\n", "{path}")


@case
def nul_bytes(folder: Path) -> tuple[list[str], str]:
    return raw(folder, "a.csv", TEXT.replace(b"Training", b"Tr\0ining", 1), "{path}:2: ")


@case
def zip_without_a_table(folder: Path) -> tuple[list[str], str]:
    path = zipped(folder / "a.zip", {"../../escape.csv.txt": b"x"})
    return ["prepare", "fer2013", "--source", str(path)], str(path)


@case
def incomplete_without_leave(folder: Path) -> tuple[list[str], str]:
    path = write_lines(folder / "fer2013.csv", LINES)
    return ["prepare", "fer2013", "--source", str(path)], "--allow-incomplete"


def votes_case(folder: Path, votes: list[str], words: str) -> tuple[list[str], str]:
    source = write_lines(folder / "fer2013.csv", LINES)
    path = write_lines(folder / "fer2013new.csv", votes)
    return ["prepare", "ferplus", "--source", str(source), "--allow-incomplete"], words.format(path=path)


@case
def votes_of_another_length(folder: Path) -> tuple[list[str], str]:
    return votes_case(folder, votes_lines(PARTS, VOTES)[:-1], "fer2013new.csv")


@case
def votes_over_ten(folder: Path) -> tuple[list[str], str]:
    lines = votes_lines(PARTS, [*VOTES[:4], [9, 2, *[0] * 8], *VOTES[5:]])
    return votes_case(folder, lines, "{path}:6: ")


@case
def votes_of_another_usage(folder: Path) -> tuple[list[str], str]:
    return votes_case(folder, votes_lines([*PARTS[:4], "PublicTest", *PARTS[5:]], VOTES), ":6: ")


@case
def votes_that_are_missing(folder: Path) -> tuple[list[str], str]:
    path = write_lines(folder / "fer2013.csv", LINES)
    return ["prepare", "ferplus", "--source", str(path)], "fer2013new.csv"


def tree(folder: Path, spoil: Callable[[Path], str]) -> tuple[list[str], str]:
    """Write a sound tree of pictures, then spoil one thing; ``spoil`` returns the words that must be said."""
    root = folder / "faces"
    generator = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in ("happy", "sad"):
            place = root / split / label
            place.mkdir(parents=True)
            for number in range(4):
                pixels = generator.integers(0, 256, (16, 16), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return ["prepare", "folder", "--source", str(root)], spoil(root)


@case
def unknown_class_folder(folder: Path) -> tuple[list[str], str]:
    def spoil(root: Path) -> str:
        (root / "train" / "sad").rename(root / "train" / "bored")
        return "bored"

    return tree(folder, spoil)


def spoilt_picture(folder: Path, write: Callable[[Path], object]) -> tuple[list[str], str]:
    def spoil(root: Path) -> str:
        path = root / "train" / "sad" / "2.png"
        path.unlink()
        write(path)
        return str(path)

    return tree(folder, spoil)


@case
def picture_of_0_bytes(folder: Path) -> tuple[list[str], str]:
    return spoilt_picture(folder, lambda path: path.write_bytes(b""))


@case
def truncated_picture(folder: Path) -> tuple[list[str], str]:
    def write(path: Path) -> None:
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(path)
        path.write_bytes(path.read_bytes()[:-30])

    return spoilt_picture(folder, write)


@case
def text_as_a_picture(folder: Path) -> tuple[list[str], str]:
    return spoilt_picture(folder, lambda path: path.write_text("hello"))


@case
def picture_of_16_bits(folder: Path) -> tuple[list[str], str]:
    return spoilt_picture(folder, lambda path: Image.fromarray(np.zeros((16, 16), np.uint16)).save(path))


@case
def cmyk_picture(folder: Path) -> tuple[list[str], str]:
    return spoilt_picture(folder, lambda path: Image.new("CMYK", (16, 16)).save(path, "JPEG"))


@case
def newline_in_a_name(folder: Path) -> tuple[list[str], str]:
    def spoil(root: Path) -> str:
        path = root / "train" / "sad" / "2.png"
        path.rename(path.with_name("a\nb.png"))
        return r"a\nb.png"

    return tree(folder, spoil)


@case
def symlink_loop(folder: Path) -> tuple[list[str], str]:
    def spoil(root: Path) -> str:
        (root / "train" / "sad" / "again").symlink_to(root / "train")
        return "again"

    return tree(folder, spoil)


@case
def csv_that_names_a_missing_picture(folder: Path) -> tuple[list[str], str]:
    path = write_lines(folder / "list.csv", ["path,label", "absent.png,happy"])
    return ["prepare", "folder", "--source", str(path)], f"{path}:2: "


@case
def csv_with_a_picture_twice(folder: Path) -> tuple[list[str], str]:
    Image.new("L", (16, 16)).save(folder / "a.png")
    path = write_lines(folder / "list.csv", ["path,label", "a.png,happy", "a.png,sad"])
    return ["prepare", "folder", "--source", str(path)], f"{path}:3: "


@pytest.mark.parametrize("name", list(CASES))
def test_malformed_sources(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, words = CASES[name](tmp_path)
    store = Store(tmp_path / "store")
    before = sorted(tmp_path.rglob("*"), key=str) if name != "symlink_loop" else []
    assert run([*arguments, "--store", str(store.root)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fer: error: ")]
    assert len(errors) == 1
    assert words in errors[0]
    assert "; " in errors[0], "what to do"
    assert not store.directories()
    assert not leftovers(store, superseded=False)
    if before:
        after = [path for path in sorted(tmp_path.rglob("*"), key=str) if not path.is_relative_to(store.root)]
        assert after == before, "nothing is written beside the store"


HIERARCHIES = {
    "not reciprocal, as the paper prints it": ('["1/5", 1],', '["1/3", 1],', "reciprocal"),
    "CR over 0.1": ('[5, 1, 3],\n  [3, "1/3", 1],', '[5, 1, "1/7"],\n  [3, 7, 1],', "consisten"),
    "an action unit in two parts": ('AU9 = "nose wrinkler"', 'AU9 = "nose wrinkler"\nAU5 = "again"', "AU5"),
    "not TOML": ("[parts.brows]", "[parts.brows", ""),
}


def features_of_toys(store: Store) -> None:
    toy_dataset(store, images=210)
    extract(store=store, backbone="test_efficientnet", size=32, weights="none")


def test_malformed_hierarchies(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features_of_toys(store)
    text = default_hierarchy().text
    path = tmp_path / "mine.toml"
    for what, (old, new, words) in HIERARCHIES.items():
        assert old in text, what
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        capsys.readouterr()
        assert run(["fit-ahm", "--hierarchy", str(path), "--store", str(store.root)]) == 1, what
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"fer: error: {path}:"), error
        assert error.removeprefix(f"fer: error: {path}:").partition(":")[0].isdigit(), "the line is named"
        assert words in error
    assert not store.directories(["ahm"])
    assert not leftovers(store, superseded=False)


def test_features_whose_data_set_has_changed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    features_of_toys(store)
    dataset = store.find("dataset/toy", ["dataset"])
    changed = toy_dataset(Store(store.root.parent / "other"), images=210, seed=1)
    for path in dataset.path.iterdir():
        path.unlink()
    for path in changed.path.iterdir():
        (dataset.path / path.name).write_bytes(path.read_bytes())
    capsys.readouterr()
    assert run(["fit-ahm", "--store", str(store.root)]) == 1
    assert "it was renamed or exchanged" in capsys.readouterr().err
    assert not store.directories(["ahm"])


def test_a_limit_on_file_sizes_stands_for_a_full_disk(tmp_path: Path) -> None:
    """A real refusal by the kernel, in the middle of writing: what was there before is unharmed."""
    store = tmp_path / "store"
    small = toy_dataset(Store(store), images=70)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    arguments = ["prepare", "synth", "--images", "160", "--subjects", "14", "--size", "48", "--imbalance", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "fer_cli", *arguments, "--jobs", "1", "--store", str(store)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
        env=os.environ,
    )
    assert done.returncode == 1, done.stderr
    assert "ulimit -f" in done.stderr.splitlines()[-1]
    assert Store(store).directories() == [small.path]
    assert not leftovers(Store(store), superseded=False)


def test_a_store_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store").write_text("a file, not a folder")
    arguments = ["prepare", "synth", "--images", "160", "--subjects", "14", "--size", "48", "--imbalance", "2"]
    assert run([*arguments, "--jobs", "1", "--store", str(tmp_path / "store")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"fer: error: {tmp_path / 'store'}")
