"""Text that we did not write reaches the terminal as it stands: no control character, no markup."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.cli.common import headline, print_pairs, print_table
from tests.kits.toy import toy_dataset

HOSTILE = "[/bold][red]x[/nothing]\x1b[31m\r\n\x07:smile:\u202e[link=a]"


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [place for key, inner in value.items() for place in _places(inner, (*path, key))]
    if isinstance(value, list):
        return [place for key, inner in enumerate(value) for place in _places(inner, (*path, key))]
    return [path] if isinstance(value, str) else []


def test_no_text_of_a_manifest_steers_the_terminal(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = toy_dataset(store, images=70).path / "manifest.json"
    whole = json.loads(path.read_text())
    for place in _places(whole):
        changed = json.loads(path.read_text())
        table = changed
        for key in place[:-1]:
            table = table[key]
        table[place[-1]] = HOSTILE
        path.write_text(json.dumps(changed))
        for command in (["show", "toy"], ["ls"], ["verify"], ["gc"], ["doctor"]):
            code = run([*command, "--store", str(store.root)])
            out, said = capsys.readouterr()
            assert code != 70, (place, command, said)
            assert not set("\x1b\r\x07\u202e") & set(out + said), (place, command)
        path.write_text(json.dumps(whole))


def test_what_is_printed_is_the_text_itself(capsys: pytest.CaptureFixture[str]) -> None:
    shown = "[/bold][red]x[/nothing]\\x1b[31m\\r\\n\\x07:smile:\\u202e[link=a]"
    headline(HOSTILE, "written")
    print_pairs([(HOSTILE, HOSTILE)])
    print_table({"name": "left"}, [[HOSTILE]], HOSTILE)
    assert capsys.readouterr().out.count(shown) == 5


def test_a_long_name_is_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table({"name": "left", "size": "right"}, [["n" * 5000, "1"]])
    out = capsys.readouterr().out
    assert "n" * 5000 in out
    assert "…" not in out
