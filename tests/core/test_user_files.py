"""Files that users name: no pipe stops a command, and none of their text is deeper or longer than it may be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fer_cli.core.distributed import MAX_PROCESSES, Ranks, ranks
from fer_cli.core.errors import FerError
from fer_cli.core.recipes import About, load_recipe
from fer_cli.core.toml_lines import MAX_DEPTH, TomlDepthError, read_toml
from fer_cli.core.user_files import open_file
from fer_cli.datasets.image_files import decode, probe
from fer_cli.datasets.tables import open_table, read_header
from fer_cli.systems.ahm.hierarchy import load_hierarchy

READERS: dict[str, Callable[[Path], object]] = {
    "recipe": lambda path: load_recipe(path, About),
    "hierarchy": load_hierarchy,
    "table": lambda path: read_header(path, {"id"}.__contains__),
    "columns": lambda path: open_table(path, {"id": ("id",)}),
    "header of a picture": probe,
    "picture": lambda path: decode(path, grey=True),
}


@pytest.mark.parametrize("name", list(READERS))
@pytest.mark.timeout(10)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(FerError, match="is a pipe or a device"):
        READERS[name](path)


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    with open_file(tmp_path / "link") as file:
        assert file.read() == b"text"


def test_a_device_is_refused() -> None:
    with pytest.raises(FerError, match="is a pipe or a device"):
        open_file(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a" + ".a" * 400_000 + "=1", 1),
        ("\n[" + "a." * 400_000 + "a]", 2),
        ("a=" + "[" * 900_000, 1),
        ("a=1\n\nb=" + "{b=" * 1000, 3),
    ],
)
@pytest.mark.timeout(10)
def test_toml_of_thousands_of_levels_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(TomlDepthError) as fault:
        read_toml(text)
    assert fault.value.line == line


@pytest.mark.parametrize(
    "text",
    [
        "a=" + "[" * MAX_DEPTH + "]" * MAX_DEPTH,
        "a" + ".a" * MAX_DEPTH + "=1",
        "a='" + "." * 1000 + "[" * 1000 + "'",
        'a="' + r"\"" + "[" * 1000 + '"',
        "a=1  # " + "[.{" * 1000,
        'a = """\n' + "[" * 1000 + '"\n"""',
        "a=[" + "1.5,\n" * 1000 + "]",
        "[[a]]\nb.c=1.5\n" * 1000,
    ],
)
def test_strings_comments_and_numbers_are_no_levels(text: str) -> None:
    values, lines = read_toml(text)
    assert set(values) == {"a"} == {path[0] for path in lines if len(path) == 1}


@pytest.mark.parametrize("text", ["9" * 400, "65537", "-1", "\u0663", "1e3", ""])
@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"])
def test_numbers_of_processes_beyond_reason(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(FerError, match=f"the variable {name} is .*, not a number from 0 to 65,536"):
        ranks()


def test_the_most_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(MAX_PROCESSES))
    monkeypatch.setenv("RANK", str(MAX_PROCESSES - 1))
    assert ranks() == Ranks(MAX_PROCESSES - 1, MAX_PROCESSES, 0, 1)
