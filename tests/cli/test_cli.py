"""The command line's promises: help, laziness, one JSON object, one line an error, exit codes, nothing done twice."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fer_cli.artifacts.store import Store
from fer_cli.cli import app as application
from fer_cli.cli.app import run
from fer_cli.core.errors import FerError, PreemptedError
from tests.kits.toy import toy_dataset

TINY = ["--backbone", "test_efficientnet", "--size", "32", "--weights", "none"]


def fer(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fer_cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from fer_cli.cli.app import run; run(['--help']); run(['extract', '--help'])\n"
        "heavy = {'torch', 'sklearn', 'matplotlib', 'pyarrow', 'scipy', 'timm', 'PIL', 'numpy'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_no_command_imports_torch_before_it_needs_it(store: Store) -> None:
    toy_dataset(store, images=70)
    code = (
        "import sys; from fer_cli.cli.app import run\n"
        f"assert run(['ls', '--store', {str(store.root)!r}]) == 0\n"
        f"assert run(['show', '--store', {str(store.root)!r}]) == 0\n"
        f"assert run(['prepare', 'fer2013', '--store', {str(store.root)!r}]) == 1\n"
        "print('HEAVY', sorted({'torch', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def only_json(text: str) -> dict[str, Any]:
    lines = text.splitlines()
    assert len(lines) == 1, lines
    value = json.loads(lines[0])
    assert isinstance(value, dict)
    assert value["schema"] == 1
    return value


def test_the_chain_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every input left out, the whole way, each command twice: the second time there is nothing to do."""
    monkeypatch.chdir(tmp_path)
    chain = [
        ["prepare", "synth", "--images", "160", "--subjects", "14", "--size", "48", "--imbalance", "2", "--jobs", "1"],
        ["extract", *TINY, "--views", "original,flip"],
        ["fit-ahm", "--lambdas", "0.1,1,10"],
        ["eval", "--report", "--resamples", "200"],
    ]
    kinds = []
    for command in chain:
        first, second = only_json_after(capsys, command), only_json_after(capsys, command)
        assert first["command"] == (" ".join(command[:2]) if command[0] == "prepare" else command[0])
        assert set(first["artifact"]) == {"kind", "name", "version", "path"}
        assert first["artifact"] == second["artifact"]
        assert (first["up_to_date"], second["up_to_date"]) == (False, True)
        assert Path(first["artifact"]["path"], "manifest.json").is_file()
        kinds.append(first["artifact"]["kind"])
    assert kinds == ["dataset", "features", "ahm", "evaluation"]
    report = Path(only_json_after(capsys, ["eval", "--report", "--resamples", "200"])["report"])
    assert "<html" in report.read_text(encoding="utf-8")
    for what in ("confusion", "classes", "hierarchy", "tsne"):
        extra = ["--perplexity", "5"] if what == "tsne" else []
        picture = Path(only_json_after(capsys, ["plot", what, *extra])["out"])
        assert picture.name.startswith(f"fer-{what}-")
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert only_json_after(capsys, ["verify"])["damage"] == []
    assert len(only_json_after(capsys, ["ls"])["artifacts"]) == 4
    shown = only_json_after(capsys, ["show", "evaluation/" + only_json_after(capsys, ["ls"])["artifacts"][0]["name"]])
    assert shown["lineage"]["made_from"][0]["made_from"][0]["made_from"][0]["kind"] == "dataset"


def only_json_after(capsys: pytest.CaptureFixture[str], command: list[str]) -> dict[str, Any]:
    assert run([*command, "--json"]) == 0
    return only_json(capsys.readouterr().out)


def test_words_for_people_have_no_escapes_when_piped(store: Store) -> None:
    toy_dataset(store, images=70)
    for command in (["ls"], ["show"], ["verify"], ["doctor"]):
        done = fer(*command, "--store", str(store.root))
        assert done.returncode == 0
        assert "\x1b" not in done.stdout + done.stderr
        assert done.stdout


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Run fer with a terminal as stdout and stderr and return what it showed."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fer_cli", *arguments],
        stdout=slave,
        stderr=slave,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    process.wait(timeout=60)
    os.close(master)
    return shown.decode()


def test_colour_and_a_bar_on_a_terminal_and_none_with_no_color(tmp_path: Path) -> None:
    arguments = ["prepare", "synth", "--images", "160", "--subjects", "14", "--size", "32", "--imbalance", "2"]
    arguments += ["--jobs", "1", "--force", "--store", str(tmp_path)]
    shown = on_a_terminal(*arguments)
    assert "\x1b[1m" in shown, "the artifact in bold"
    assert "prepare synth" in shown, "a progress bar"
    plain = on_a_terminal(*arguments, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain), "no colours"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["extract", "--nonsense"], 2, "see 'fer extract --help'"),
        (["extract", "--batch", "many"], 2, "see 'fer extract --help'"),
        (["extract", "--views", "up"], 2, "--views 'up' is not a view"),
        (["ls", "--kind", "nonsense"], 2, "'nonsense' is not a kind of artifact"),
        (["extract"], 1, "no dataset artifact yet; make one with 'fer prepare'"),
        (["fit-ahm"], 1, "no features artifact yet; make one with 'fer extract'"),
        (["eval"], 1, "no ahm, model, study or ensemble artifact yet; make one with 'fer fit-ahm', 'fer train', "),
        (["plot", "confusion"], 1, "no evaluation artifact yet"),
        (["plot", "hierarchy", "--out", "a.txt"], 2, "--out a.txt: unknown suffix '.txt'"),
        (["show", "a\nb"], 1, "is not a reference"),
        (["prepare", "fer2013"], 1, "data/fer2013"),
        (["fit-ahm", "--lambdas", "1,x"], 2, "are not all numbers"),
        (["eval", "--seed", "-1"], 2, "--seed"),
        (["plot", "tsne", "--seed", "99999999999999"], 2, "--seed"),
        (["extract", "--backbone", "test_resnet.foo"], 1, "no dataset artifact yet"),
    ],
)
def test_an_error_is_one_line_and_one_object(
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code
    out = capsys.readouterr()
    assert out.out == ""
    assert len(out.err.splitlines()) == 1
    assert out.err.startswith("fer: error: ")
    assert words in out.err
    assert run([*arguments, "--json"]) == code
    out = capsys.readouterr()
    error = only_json(out.out)["error"]
    assert error["code"] == code
    assert words in error["message"]
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["eval", "--debug", "--store", str(tmp_path)]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (FerError("a", hint="b", path="c", line=3), 1, "c:3: a; b"),
        (PreemptedError("saved"), 75, "saved"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "out of memory"),
        (OSError(errno.ENOSPC, "", "/x"), 1, "/x: No space left on device; free some space"),
        (OSError(errno.EROFS, "", "/x"), 1, "read-only"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), 1, "out of memory"),
        (ZeroDivisionError("division\nby zero"), 70, r"a bug in fer: ZeroDivisionError: division\nby zero"),
    ],
)
def test_every_end_has_its_code(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(**_options: object) -> None:
        raise error

    monkeypatch.setattr(application, "app", broken)
    assert run(["ls"]) == code
    captured = capsys.readouterr().err
    assert words in captured
    assert len(captured.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_error(store: Store) -> None:
    toy_dataset(store, images=70)
    command = f"{sys.executable} -m fer_cli show --store {store.root} | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert done.stderr.count("\n") <= 1, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 75, "stopped by SIGTERM"),
        (signal.SIGUSR1, 75, "stopped by SIGUSR1"),
    ],
)
def test_a_signal_ends_any_command_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals, code: int, said: str
) -> None:
    store = tmp_path / "store"
    words = ["prepare", "synth", "--images", "4000", "--jobs", "1", "--store", str(store)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    process = subprocess.Popen([sys.executable, "-m", "fer_cli", *words], stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    while not list(store.glob("dataset/synth/.new-*/images.npy")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, text = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"fer: error: {said}; no artifact is left half-written" in text
    assert f"the same command does the rest: fer {' '.join(words)}" in text
    assert list((store / "dataset").iterdir()) == []


def test_the_store_is_the_flag_then_the_variable_then_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("flag", "variable", "artifacts"):
        toy_dataset(Store(tmp_path / name), images=70, seed=len(name))
    monkeypatch.setenv("FER_STORE", str(tmp_path / "variable"))
    both = (["ls", "--store", str(tmp_path / "flag")], ["ls"])
    found = [only_json_after(capsys, arguments)["artifacts"][0]["path"] for arguments in both]
    monkeypatch.delenv("FER_STORE")
    found.append(only_json_after(capsys, ["ls"])["artifacts"][0]["path"])
    assert [Path(path).parts[-4] for path in found] == ["flag", "variable", "artifacts"]


def test_verify_ends_with_3_and_names_the_file(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = toy_dataset(store, images=70)
    path = artifact.path / "images.npy"
    data = bytearray(path.read_bytes())
    data[500] ^= 4
    path.write_bytes(data)
    assert run(["verify", "--store", str(store.root)]) == 3
    out = capsys.readouterr()
    assert str(path) in out.out
    assert "1 fault" in out.err
    assert run(["verify", "--json", "--store", str(store.root)]) == 3
    assert len(only_json(capsys.readouterr().out)["damage"]) == 1
    (artifact.path / "index.parquet").write_bytes(b"")
    assert run(["verify", "toy", "--store", str(store.root)]) == 3
    assert run(["ls", "--store", str(store.root)]) == 0
    assert "DAMAGED" in capsys.readouterr().out


def test_gc_says_then_removes(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = toy_dataset(store, images=70)
    left = artifact.path.parent / f".new-{artifact.version}-00000000"
    left.mkdir()
    (left / "images.npy").write_bytes(b"x" * 2000)
    assert only_json_after(capsys, ["gc", "--store", str(store.root)])["bytes"] == 2000
    assert left.exists()
    assert run(["gc", "--yes", "--store", str(store.root)]) == 0
    assert "removed 2.0 kB" in capsys.readouterr().out
    assert not left.exists()
    assert run(["gc", "--store", str(store.root)]) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_gc_promises_nothing_of_work_that_is_under_way(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = toy_dataset(store, images=70)
    work = artifact.path.parent / f".partial-{artifact.version}"
    work.mkdir()
    for form in (["gc"], ["gc", "--unfinished"]):
        with store.exclusive("dataset", artifact.version):
            kept = only_json_after(capsys, [*form, "--store", str(store.root)])["kept"]
        assert kept == [{"artifact": artifact.reference, "reason": "under way: a process is at it"}]
    [kept] = only_json_after(capsys, ["gc", "--store", str(store.root)])["kept"]
    assert kept["reason"] == "unfinished: the same command resumes it; --unfinished removes it"


def test_doctor_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FER_WEIGHTS", str(tmp_path / "absent"))
    findings = only_json_after(capsys, ["doctor", "--store", str(tmp_path)])["findings"]
    by_name = {finding["check"]: finding for finding in findings}
    assert by_name["torch"]["verdict"] == "pass"
    assert by_name["FER_WEIGHTS"]["verdict"] == "fail"
    assert by_name["FER_WEIGHTS"]["advice"]
    assert by_name["device"]["measured"].startswith(("cpu", "cuda", "mps"))
    assert str(tmp_path) in by_name["store"]["measured"]


def test_a_store_that_is_a_file_is_refused_by_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        for command in (["ls"], ["gc"], ["show"], ["verify"]):
            assert run([*command, "--store", str(place)]) == 1
            assert capsys.readouterr().err.startswith(f"fer: error: {tmp_path / 'file'}: is not a folder")


def test_gc_leaves_what_is_not_fers(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    mine = store.root / "dataset" / "holiday" / "pictures"
    mine.mkdir(parents=True)
    (mine / "precious.jpg").write_text("x")
    assert run(["gc", "--yes", "--superseded", "--store", str(store.root)]) == 0
    assert (mine / "precious.jpg").exists()
    assert "nothing to remove" in capsys.readouterr().out


def test_forced_colour_does_not_reach_a_pipe(store: Store) -> None:
    toy_dataset(store, images=70)
    assert "\x1b" not in fer("ls", "--store", str(store.root), FORCE_COLOR="1").stdout


def test_a_terminal_without_unicode_gets_escapes(store: Store) -> None:
    toy_dataset(store, images=70)
    done = fer("show", "--store", str(store.root), PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr


def test_print_hierarchy(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit-ahm", "--print-hierarchy"]) == 0
    text = capsys.readouterr().out
    assert "[expressions.fear]" in text
    assert only_json_after(capsys, ["fit-ahm", "--print-hierarchy"])["hierarchy"] == text


def test_long_references_are_not_wrapped(store: Store) -> None:
    name = "a" * 90
    arguments = ["prepare", "synth", "--images", "160", "--subjects", "14", "--size", "32", "--imbalance", "2"]
    done = fer(*arguments, "--jobs", "1", "--store", str(store.root / name))
    assert done.returncode == 0
    assert any(name in line and "path" in line for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("environment", "words"),
    [({"RANK": ""}, "the variable RANK is ''"), ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR is not set")],
)
def test_half_a_torchrun_is_named(
    store: Store,
    environment: dict[str, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    toy_dataset(store, images=70)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run(["extract", *TINY, "--store", str(store.root)]) == 1
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_rank_alone_does_not_silence(store: Store) -> None:
    toy_dataset(store, images=70)
    assert "dataset" in fer("ls", "--store", str(store.root), RANK="1").stdout
