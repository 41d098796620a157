"""What holds for every command there is: the tests walk the command line itself, so that no command is forgotten."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from fer_cli.cli.app import app, run
from fer_cli.cli.common import print_table

ROOT: Final = Path(__file__).resolve().parents[2]
WITHOUT_STORE: Final = {"weights ls", "weights fetch", "weights import", "recipe ls"}
"""Commands that read and write no artifacts."""


def walk(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command below a group, and the group itself, with its names."""
    yield path, command
    if hasattr(command, "list_commands"):
        context = typer.Context(command, info_name=path[-1] if path else "fer")
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), *path, name)


EVERYTHING: Final = dict(walk(typer.main.get_command(app)))
GROUPS: Final = [path for path, command in EVERYTHING.items() if hasattr(command, "list_commands")]
COMMANDS: Final = [path for path in EVERYTHING if path not in GROUPS]


def options_of(path: tuple[str, ...]) -> dict[str, Any]:
    """Return a command's options by their first long name."""
    return {
        next(name for name in parameter.opts if name.startswith("--")): parameter
        for parameter in EVERYTHING[path].params
        if parameter.param_type_name == "option"
    }


def test_the_walk_finds_the_commands() -> None:
    names = {" ".join(path) for path in COMMANDS}
    assert {"prepare rafdb", "parse-masks", "train conv-cut", "eval", "compare", "plot confusion", "ls"} <= names
    assert len(names) > 35
    assert {" ".join(path) for path in GROUPS} == {"", "prepare", "plot", "train", "weights", "recipe"}


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_a_group_without_a_command_shows_its_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(path) == 2
    out = capsys.readouterr()
    assert out.err.startswith(" ".join(["Usage: fer", *path]))
    assert "Commands:" in out.err


@pytest.mark.parametrize("path", EVERYTHING, ids=" ".join)
def test_every_command_and_option_has_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: fer")
    assert len(text.splitlines()[2].strip()) > 20, "a sentence on what it does"
    assert "\x1b" not in text
    for parameter in EVERYTHING[path].params:
        assert parameter.help, parameter.name
        assert "".join(parameter.help.split()) in "".join(text.split()), f"{parameter.name}: not a word is cut"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_the_common_options(path: tuple[str, ...]) -> None:
    names = set(options_of(path))
    assert {"--json", "--debug"} <= names
    assert ("--store" in names) == (" ".join(path) not in WITHOUT_STORE)


def test_an_option_that_commands_share_is_declared_once() -> None:
    texts: defaultdict[str, set[str]] = defaultdict(set)
    for path in COMMANDS:
        for name, parameter in options_of(path).items():
            if (path[0], name) not in {
                ("prepare", "--device"),
                ("rm", "--force"),
            }:  # the detector's; nothing is rebuilt
                texts[name].add(parameter.help)
    for name in ("--json", "--debug", "--store", "--force", "--device", "--seed", "--split"):
        assert len(texts[name]) == 1, texts[name]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_is_in_the_documentation(path: tuple[str, ...]) -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    name = re.compile(rf"\bfer {re.escape(' '.join(path))}\b(?!-)")
    assert any(name.search(page.read_text(encoding="utf-8")) for page in pages)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}], ids=str)
def test_an_unknown_option_ends_with_2_and_one_line(
    path: tuple[str, ...],
    environment: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run([*path, "--no-such-option"]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert len(out.err.splitlines()) == 1
    assert out.err.startswith("fer: error: No such option: --no-such-option")
    assert f"see 'fer {' '.join(path)} --help'" in out.err
    assert "\x1b" not in out.err
    assert run([*path, "--no-such-option", "--json"]) == 2
    out = capsys.readouterr()
    assert len(out.out.splitlines()) == len(out.err.splitlines()) == 1
    value = json.loads(out.out)
    assert (value["schema"], value["command"], value["error"]["code"]) == (1, " ".join(path), 2)
    assert "--no-such-option" in value["error"]["message"]
    assert "\x1b" not in out.out
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_table_is_cut_nowhere_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    cell = "x" * 500
    print_table({"first": "left", "second": "left"}, [[cell, "end"]])
    assert f"{cell}  end" in capsys.readouterr().out
