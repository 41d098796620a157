"""The list of scorings: a line that is damaged is said, whatever happened to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fer_cli.evaluation.test_set_usage import LEDGER, Scoring, remember, scorings, times_scored

ITEMS = "a" * 64
FIRST = Scoring(ITEMS, "b" * 64, "network, tta none")
SECOND = Scoring(ITEMS, "c" * 64, "network, tta none")


@pytest.mark.parametrize(("old", "new"), [(b"aaa", b"aba"), (b"tta none", b"tta flip"), (b'{"items"', b'"items"')])
def test_a_damaged_line_is_said_and_counts_as_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: bytes, new: bytes
) -> None:
    remember(tmp_path, [FIRST])
    remember(tmp_path, [SECOND])
    assert times_scored(tmp_path, [FIRST]) == 2
    assert capsys.readouterr().err == ""
    ledger = tmp_path / LEDGER
    ledger.write_bytes(ledger.read_bytes().replace(old, new, 1))
    assert scorings(tmp_path) == [SECOND]
    assert "1 line is damaged: how often images were scored may be counted too low" in capsys.readouterr().err


def test_lines_of_earlier_versions_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = {"items": FIRST.items, "model": FIRST.model, "setting": FIRST.setting}
    (tmp_path / LEDGER).write_text(json.dumps(line) + "\n")
    assert times_scored(tmp_path, [SECOND]) == 2
    remember(tmp_path, [FIRST])
    assert scorings(tmp_path) == [FIRST]
    assert capsys.readouterr().err == ""
