"""The documentation is true: links resolve, commands parse, keys exist, references are current, words are today's."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from typer.main import get_command

from fer_cli.cli.app import app, run
from fer_cli.core.recipe_reference import key_reference
from fer_cli.core.recipes import load_recipe
from fer_cli.systems import registry
from tests.docs.markdown import (
    GENERATED,
    PAGES,
    ROOT,
    Command,
    anchors,
    commands,
    inline_code,
    links,
    name,
    shell_lines,
)
from tools import reference

WRITTEN: Final = [page for page in PAGES if page.parent != GENERATED]
COMMANDS: Final = [command for page in WRITTEN for command in commands(page)]
RECIPES: Final = sorted(ROOT.glob("recipes/*/*.toml"))
SCRIPTS: Final = sorted([*ROOT.glob("recipes/*/*.sh"), *ROOT.glob("recipes/*/*.sbatch")])
KEYS: Final = {
    key.key for system in registry.SYSTEMS.bundled for key in key_reference(registry.load(system).recipe_type)
}
TOP: Final[Any] = get_command(app)

CHEAP: Final = (
    "prepare synth --images 160",
    "plot classes",
    "plot hierarchy default --out hierarchy.svg",
    "fit-ahm --print-hierarchy",
    "train baseline --print-config",
    "weights ls",
    "weights ls resnet18",
    "doctor",
    "ls",
    "show",
    "verify",
    "gc",
)
"""Commands of the documentation that take next to nothing, in the order in which they are run."""

OLD_WORDS: Final = (
    "a little kind",
    "drawn faces",
    "goes on where",
    "in the box",
    "kinship",
    "laid over",
    "learned from",
    "made anew",
    "mostly find",
    "parsed otherwise",
    "persons",
    "stands alone: no",
    "data.repeat",
    "train.select",
    "schedule.floor",
    "model.kept",
    "model.taken",
    "loss.largest",
    "--beside",
    "--where",
    "--frames",
)
"""Words that were given up; the changelog alone may name them, to say what they are called now."""


def find(words: Sequence[str], command: Any = TOP, parent: Any = None) -> tuple[Any, Any, list[str]]:
    """Return the command that words name, its parent's context, and the words that are left.

    Capital letters in the place of a subcommand stand for any: ``fer prepare NAME``.
    """
    if not hasattr(command, "list_commands") or not words or words[0].startswith("-"):
        return command, parent, list(words)
    here = command.make_context("fer", [], parent=parent, resilient_parsing=True)
    name = command.list_commands(here)[0] if words[0].isupper() else words[0]
    inner = command.get_command(here, name)
    assert inner is not None, f"there is no command {words[0]!r}"
    return find(words[1:], inner, here)


def parse(words: Sequence[str]) -> None:
    """Parse words by the real command line, and run nothing."""
    command, parent, rest = find(words)
    command.make_context("fer", rest, parent=parent)


def changes(words: list[str]) -> list[str]:
    """Return what ``--set`` changes in a command."""
    return [words[place + 1] for place, word in enumerate(words) if word == "--set"]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        assert target.is_relative_to(ROOT), f"{link}: leads out of the repository"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.whole], ids=str)
def test_commands_parse(command: Command) -> None:
    parse(command.words)


@pytest.mark.parametrize("command", [one for one in COMMANDS if not one.whole], ids=str)
def test_mentioned_commands_and_options_exist(command: Command) -> None:
    found, _, rest = find(command.words)
    options = {"--help", *(option for one in found.params for option in (*one.opts, *one.secondary_opts))}
    assert [word for word in rest if word.startswith("-") and word.partition("=")[0] not in options] == []
    assert not hasattr(found, "list_commands") or all(word.startswith("-") for word in rest)


@pytest.mark.parametrize(
    "command", [one for one in COMMANDS if one.words[:1] == ("train",) and name(one.page) != "CONTRIBUTING.md"], ids=str
)
def test_recipes_of_commands_load(command: Command) -> None:
    """A recipe with the changes of a command is one: the keys exist and the values fit."""
    words = list(command.words)
    if len(words) < 2 or words[1] not in registry.SYSTEMS.bundled:
        return
    system = registry.load(words[1])
    given = words[words.index("--recipe") + 1] if "--recipe" in words else None
    path = system.default_recipe if given is None else ROOT / given
    if given is not None and path.suffix != ".toml":  # the name of one that comes with fer
        path = ROOT / "recipes" / f"{given}.toml"
    if given != "FILE":
        load_recipe(path, system.recipe_type, [change for change in changes(words) if change != "KEY=VALUE"])


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_keys_of_recipes_exist(page: Path) -> None:
    if name(page) == "CHANGELOG.md":
        return
    tables = sorted({key.partition(".")[0] for key in KEYS})
    shown = [change for words, _ in shell_lines(page) for change in changes(words)]
    shown += [code.removeprefix("--set ") for code in inline_code(page)]
    for text in shown:
        if text.endswith((".py", ".safetensors")):
            continue
        if match := re.fullmatch(rf"((?:{'|'.join(tables)})\.[a-z_0-9]+)(?:\.[a-z]+)?(?:=.*)?", text):
            assert match[1] in KEYS, f"{text}: no recipe has this key"


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_keys_in_scripts_exist(path: Path) -> None:
    tables = "|".join(sorted({key.partition(".")[0] for key in KEYS}))
    shown = re.findall(rf"\b((?:{tables})\.\w+)=", path.read_text(encoding="utf-8"))
    assert [key for key in shown if key not in KEYS] == []


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_a_recipe_says_a_command_that_parses(path: Path) -> None:
    about = tomllib.loads(path.read_text(encoding="utf-8"))["about"]
    words = about["command"].split()
    assert words[0] == "fer"
    parse(words[1:])


def test_every_command_has_an_example() -> None:
    shown = {" ".join(command.words) + " " for command in COMMANDS}
    for words, _, _ in reference.all_commands():
        wanted = " ".join(words) + " "
        assert any(one.startswith(wanted) for one in shown), f"fer {wanted}stands in no page"


def test_cheap_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = {" ".join(command.words) for command in COMMANDS}
    for line in CHEAP:
        assert line in shown, f"fer {line} stands in no page any more"
        assert run(line.split()) == 0, f"fer {line}: {capsys.readouterr().err}"
    assert (tmp_path / "hierarchy.svg").stat().st_size > 10_000


@pytest.mark.parametrize("page", reference.PAGES)
def test_references_are_current(page: str) -> None:
    text = (GENERATED / page).read_text(encoding="utf-8")
    assert text == reference.PAGES[page](), "run python -m tools.reference"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_pages_use_todays_words(page: Path) -> None:
    if name(page) == "CHANGELOG.md":
        return
    text = " ".join(page.read_text(encoding="utf-8").lower().split())
    assert [word for word in OLD_WORDS if word in text] == []


def test_messages_use_todays_words() -> None:
    """Every text in the code, its docstrings too."""
    old = []
    for path in sorted((ROOT / "fer_cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = " ".join(node.value.lower().split())
                old += [f"{name(path)}:{node.lineno}: {word}" for word in OLD_WORDS if word in text]
    assert old == []
