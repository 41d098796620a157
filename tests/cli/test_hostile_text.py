"""Text that we did not write reaches every output as it stands: it steers neither terminal, page, figure nor table."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.store import Store
from fer_cli.cli import terminal
from fer_cli.cli.app import run
from fer_cli.cli.common import Printer, headline, print_pairs, print_table
from fer_cli.core import progress
from fer_cli.core.errors import one_line
from fer_cli.prediction.rows import FORMATS, PredictionRow, text_writer, writing
from fer_cli.stages.compare import csv_bytes
from fer_cli.stages.prepare import prepare
from fer_cli.systems.registry import load
from tests.kits.compare import answers, scored
from tests.kits.hostile import ALL, NAMES, SURROGATE, HostilePage, HostileToy, changed_by_hand, steering
from tests.kits.official import save
from tests.kits.toy import toy_dataset
from tests.kits.train import words

HOSTILE = "[/bold][red]x[/nothing]\x1b[31m\r\n\x07:smile:\u202e[link=a]"
Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run ``fer`` and return its output; nothing in all that it printed steers a terminal, and it is no traceback."""

    def call(*command: object, codes: tuple[int, ...] = (0,)) -> str:
        capsys.readouterr()
        code = run([str(word) for word in command])
        out, errors = capsys.readouterr()
        assert code in codes, (command, code, errors)
        assert not steering(out + errors), (command, steering(out + errors))
        assert "Traceback" not in errors
        return out

    return call


@pytest.mark.parametrize("text", [f"{HOSTILE} {ALL}", SURROGATE], ids=["all", "surrogate"])
def test_no_text_of_a_manifest_steers_the_terminal(store: Store, said: Said, text: str) -> None:
    """Every kind of artifact with the text in every place of its manifest, as value and as key, sealed again."""
    toy_dataset(store, images=70)
    scored(store, "one", [answers(70, 0.6, 1), answers(70, 0.7, 2)], seeds=(0, 1))
    for directory in store.directories():
        taken = changed_by_hand(store.open(directory), text)
        assert taken > 10 or text == SURROGATE, directory
    for directory in store.directories():
        assert said("show", directory, "--store", store.root).count(one_line(text)) > 5 or text == SURROGATE
    for command in (["ls"], ["gc"], ["doctor"]):
        said(*command, "--store", store.root)
    said("verify", "--store", store.root, codes=(0, 3))
    for command in (
        ["plot", "confusion"],
        ["plot", "classes"],
        ["compare", "one"],
        ["audit"],
        ["split", "--folds", "3"],
    ):
        said(*command, "--store", store.root, codes=(0, 1, 2, 3))


def test_what_is_printed_is_the_text_itself(capsys: pytest.CaptureFixture[str]) -> None:
    shown = "[/bold][red]x[/nothing]\\x1b[31m\\r\\n\\x07:smile:\\u202e[link=a]"
    headline(HOSTILE, "written")
    print_pairs([(HOSTILE, HOSTILE)])
    print_table({HOSTILE: "left"}, [[HOSTILE]], HOSTILE)
    assert capsys.readouterr().out.count(shown) == 6


def test_a_long_name_is_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table({"name": "left", "size": "right"}, [["n" * 5000, "1"]])
    print_pairs([("n" * 5000, "w" * 5000)])
    out = capsys.readouterr().out
    assert out.count("n" * 5000) == 2
    assert "w" * 5000 in out
    assert "…" not in out


def test_columns_are_as_wide_as_what_the_terminal_shows(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["happy", "笑い😀", "e\u0301\u0301t\u0301e\u0301", "ｈａｐｐｙ", "\u202e"]
    print_pairs([(name, "|") for name in names])
    print_table({"name": "left", "": "left"}, [[name, "|"] for name in names])
    lines = [line for line in capsys.readouterr().out.splitlines() if "|" in line]
    pairs, rows = lines[: len(names)], lines[len(names) :]
    assert {cell_len(line.partition("|")[0]) for line in pairs} == {2 + 10 + 2}
    assert {cell_len(line.partition("|")[0]) for line in rows} == {10 + 2}


def test_notes_progress_and_errors_are_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "EVERY", 0.0)
    progress.note(ALL)
    progress.warn(ALL)
    progress.LOGGER.warning(ALL)
    with progress.track(ALL, 3) as advance:
        advance()
    said = capsys.readouterr().err
    assert said.count(one_line(ALL)) == 4
    assert not steering(said)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress.track(HOSTILE, 3) as advance:  # no markup in it counts, which would end it with a traceback
        advance()
    capsys.readouterr()
    name = ALL.replace("\0", "")  # which no argument of a command can hold
    for command in (
        ["show", name],
        ["plot", "hierarchy", f"{name}.toml"],
        [name],
        ["train", "baseline", "--set", name],
    ):
        assert run([*command, "--debug"]) in {1, 2}
        assert not steering(capsys.readouterr().err), command


@pytest.fixture(scope="module")
def hostile_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A data set with hostile classes, ids and subjects, a model of it, and two evaluations of others on the like."""
    store = Store(tmp_path_factory.mktemp("hostile"))
    prepare(store=store, loader=HostileToy())
    assert run([str(word) for word in words(store, "baseline", "toy")]) == 0
    return store


def test_every_command_shows_names_as_they_are(hostile_store: Store, said: Said, tmp_path: Path) -> None:
    place = ["--store", hostile_store.root]
    for command in (["ls"], ["show", "toy"], ["show", "model"], ["verify"], ["gc"]):
        said(*command, *place)
    shown = json.loads(said("show", "toy", "--json", *place))
    assert shown["manifest"]["protocol"]["classes"] == list(NAMES.values())
    said("audit", "toy", *place, codes=(3,))
    assert one_line(NAMES["back"]) in said("audit", "model", *place, codes=(0, 3))
    assert one_line(NAMES["tex"]) in said("eval", "--report", "--resamples", "100", *place)
    [report] = hostile_store.root.glob("evaluation/*/*/report.html")
    page = HostilePage(report.read_text(encoding="utf-8"))
    for kind in NAMES.keys() - {"long", "right to left"}:
        assert " ".join(one_line(NAMES[kind]).split()) in page.words(), kind
    pictures: dict[str, list[object]] = {
        "confusion": [],
        "roc": [],
        "classes": ["toy", "--faces", 1],
        "curves": [],
        "tsne": ["model"],
    }
    for what, options in pictures.items():
        said("plot", what, *options, "--out", tmp_path / f"{what}.svg", *place)
        text = (tmp_path / f"{what}.svg").read_text(encoding="utf-8")
        ET.fromstring(text)
        assert not steering(text.replace("\u200e", "")), what


def test_comparisons_of_hostile_names(store: Store, said: Said, tmp_path: Path) -> None:
    classes = tuple(NAMES.values())
    rng = np.random.default_rng(0)
    true = np.arange(6 * len(classes)) % len(classes)
    ids = [f"{classes[k % len(classes)][:300]}{k}" for k in range(len(true))]
    for name in ("one", "other"):
        guess = np.where(rng.random(len(true)) < 0.6, true, rng.integers(len(classes), size=len(true)))
        settings = {"model": {"backbone": ALL + name}, ALL: {ALL: ALL}}
        scored(store, name, guess, true=true, ids=ids, classes=classes, settings=settings, unsound=[ALL])
    command = ["compare", "one-seed0", "other-seed0", "--allow-unsound", "--store", store.root]
    text = said(*command)
    assert all(one_line(name) in text for name in NAMES.values())
    assert "…" not in text
    text = said(*command, "--format", "markdown")
    for block in re.findall(r"(?:^\|.*\|$\n)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in block.splitlines()}) == 1
    page = HostilePage(said(*command, "--format", "html"))
    assert one_line(NAMES["script"]) in page.words()
    assert_latex(said(*command, "--format", "latex"))
    said(*command, "--items", tmp_path / "items.csv", "--out", tmp_path / "tables.txt")
    with (tmp_path / "items.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert len({len(row) for row in rows}) == 1
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {row[1].removeprefix("'") for row in rows[1:]} <= set(ids)
    tables = (tmp_path / "tables.txt").read_text(encoding="utf-8")
    assert not steering(tables)
    assert "…" not in tables


def assert_latex(text: str) -> None:
    """Assert that rows have equal numbers of cells, braces match, and no sign or option of TeX is left over."""
    for body in re.findall(r"\\midrule\n(.*?)\\bottomrule", text, re.S):
        rows = [line for line in body.splitlines() if line]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in rows}) == 1
        assert all(line.endswith(r" \\") for line in rows)
        assert not [line for line in rows if line.startswith(("[", "*"))]
    assert not re.search(r"\\item [\[*]", text)
    plain = re.sub(r"\\[{}%#&_$]|\\text\w+\{\}|\\symbol\{34\}", "", text)
    assert plain.count("{") == plain.count("}")
    assert not re.search(r'[#%~^|<>"]', plain[plain.index("\n") :])
    assert plain.replace("$-$", "").count("$") == 0
    assert "\\input" not in text


def test_spreadsheets_run_no_name() -> None:
    cells = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "a=1", "1", "", SURROGATE]
    assert next(csv.reader(csv_bytes([cells]).decode().splitlines(keepends=True)))[:4] == [
        "'=1+1",
        "'+1",
        "'-1",
        "'@SUM(A1)",
    ]
    text = csv_bytes([cells]).decode()
    assert "'\tx" in text
    assert "'\rx" in text
    assert ",a=1,1,," in text


@pytest.mark.parametrize("kind", ["colours", "line", "bidi", "markup", "handler", "tex", "table"])
def test_hostile_files_are_read_or_refused_in_one_line(store: Store, said: Said, tmp_path: Path, kind: str) -> None:
    """Names of pictures, folders and files, and what recipes, hierarchies, lists and predictions say."""
    place = ["--store", store.root]
    name = NAMES[kind]
    safe = name.replace("/", "∕").replace("\0", "")[:60]
    source = tmp_path / "faces"
    rng = np.random.default_rng(0)
    for label in ("happy", "sad"):
        for k in range(6):
            path = source / label / f"{safe}{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            save(path, rng.integers(0, 255, (20, 20), dtype=np.uint8))
    said("prepare", "folder", "--source", source, *place, codes=(0, 1))
    (source / f"{safe} other").mkdir()
    save(source / f"{safe} other" / "a.png", rng.integers(0, 255, (20, 20), dtype=np.uint8))
    said("prepare", "folder", "--source", source, *place, codes=(0, 1))
    said("prepare", "folder", "--source", source, "--labels", f"{safe} other=happy", *place, codes=(0, 1, 2))
    recipe, quoted = tmp_path / f"{safe}.toml", toml_quoted(name)
    recipe.write_text(f"[about]\npaper = {quoted}\n[model]\nbackbone = {quoted}\n", encoding="utf-8")
    said("train", "baseline", "--recipe", recipe, "--print-config", codes=(0, 1))
    recipe.write_text(f"schema = 1\nname = {quoted}\n[{quoted}]\n", encoding="utf-8")
    said("plot", "hierarchy", recipe, "--out", tmp_path / "a.svg", codes=(0, 1))
    table = tmp_path / f"{safe}.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", name, "split"], [name, name, name]])
    said("eval", "--predictions", table, *place, codes=(1,))
    pictures = tmp_path / "pictures.csv"
    with pictures.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label", name], [name, "happy", name], ["b.png", name, name]])
    said("prepare", "folder", "--source", pictures, *place, codes=(1,))
    said("split", "--ids", table, *place, codes=(1,))
    if "\0" not in name:
        said("weights", "import", table, "--for", name, "--source", name, codes=(1, 2))
        said("show", name, *place, codes=(1,))
        said("compare", name, *place, "--format", name, codes=(1, 2))


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 alone")
def test_paths_that_are_not_utf8_are_read_and_shown_as_escapes(
    store: Store, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = os.fsdecode(b"\xff\x1b[31m")
    place = ["--store", store.root]
    for k, label in enumerate(("happy", "sad") * 10):
        save(tmp_path / odd / label / f"{k}.png", np.random.default_rng(k).integers(0, 255, (20, 20), dtype=np.uint8))
    monkeypatch.setattr("sys.argv", ["fer", "prepare", "folder", "--source", str(tmp_path / odd)])  # it is recorded
    said("prepare", "folder", "--source", tmp_path / odd, "--name", "odd", *place)
    assert f"{tmp_path}/\\udcff\\x1b[31m" in said("show", "odd", *place)
    said("split", "odd", "--folds", "2", "--export", tmp_path / f"{odd}.csv", *place)
    said("split", "odd", "--ids", tmp_path / f"{odd}.csv", *place)
    ids = [row["id"] for row in csv.DictReader((tmp_path / f"{odd}.csv").open()) if row["split"] == "test"]
    answers = tmp_path / f"{odd} answers.csv"
    answers.write_text("id,predicted\n" + "".join(f"{name},happy\n" for name in ids), encoding="utf-8")
    said("eval", "--predictions", answers, "--data", "odd", "--report", "--resamples", "100", *place)
    [report] = store.root.glob("evaluation/*/*/report.html")
    assert "\\udcff\\x1b[31m answers.csv" in HostilePage(report.read_text(encoding="utf-8")).words()
    assert "0 faults" in said("verify", *place)


@pytest.mark.parametrize("form", FORMATS)
def test_rows_of_predictions_name_any_file(tmp_path: Path, form: str) -> None:
    """A file of rows has the names as they are; bytes that are not UTF-8 are escapes."""
    names = [*NAMES.values(), os.fsdecode(b"\xff")]
    rows = [PredictionRow(name, expression="happy", probabilities={"happy": 1.0}) for name in names]
    with writing(tmp_path / f"rows.{form}", ["happy"]) as writer:
        writer.add(rows)
    if form == "parquet":
        read = read_table(tmp_path / "rows.parquet")["file"].to_pylist()
    else:
        with (tmp_path / f"rows.{form}").open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file) if form == "csv" else map(json.loads, file.read().rstrip("\n").split("\n"))
            read = [line["file"] for line in lines]
    assert read[:-1] == names[:-1]
    assert read[-1].replace("\udcff", "\\udcff") == "\\udcff"


def test_printed_rows_of_predictions_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("csv", "jsonl"):
        text_writer(form, Printer(), ["happy"]).add([PredictionRow(name) for name in NAMES.values()])
        printed = capsys.readouterr().out
        assert not steering(printed)
        assert "\\x9b1m" in printed


def toml_quoted(text: str) -> str:
    """Return a text as TOML writes it, all but plain characters as escapes."""
    return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in text) + '"'


def test_a_recipe_is_printed_as_toml_that_reads_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    usual = load("baseline").default_recipe.read_text(encoding="utf-8")
    text = "".join(name for kind, name in NAMES.items() if kind != "long")
    recipe = tmp_path / "own.toml"
    recipe.write_text(re.sub("(?m)^paper = .*$", lambda _: f"paper = {toml_quoted(text)}", usual), encoding="utf-8")
    printed = []
    for _ in range(2):
        assert run(["train", "baseline", "--recipe", str(recipe), "--print-config"]) == 0
        printed.append(capsys.readouterr().out)
        recipe.write_text(printed[-1], encoding="utf-8")
    assert printed[0] == printed[1]
    assert not steering(printed[0])
    assert tomllib.loads(printed[0])["about"]["paper"] == text


def test_only_one_module_prints() -> None:
    """Whatever a command says goes through :mod:`fer_cli.cli.common`, which escapes it."""
    folder = Path(__file__).parents[2] / "fer_cli"
    allowed = {folder / "cli" / name for name in ("common.py", "terminal.py", "app.py")}
    calls = ("print", "typer.echo", "sys.stdout.write")
    found = [
        f"{path.name}:{node.lineno}"
        for path in sorted(set(folder.rglob("*.py")) - allowed)
        if re.search(r"print\(|echo|stdout", text := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in calls
    ]
    assert not found
