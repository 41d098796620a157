"""What the command line says of work under way."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest

from fer_cli.artifacts.annotations import Annotations
from fer_cli.artifacts.store import Store
from fer_cli.cli import terminal
from fer_cli.cli.common import Output
from fer_cli.cli.options import Chosen
from fer_cli.core.progress import track
from fer_cli.training.study import study_of
from tests.kits.compare import DATASET, made_model


def test_a_library_that_is_slow_to_import_is_said_once_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slow_library.py").write_text("answer = 42")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(terminal._SLOW, "slow_library", "the slow library")
    with terminal.on_stderr():
        assert importlib.util.find_spec("slow_library") is not None
        assert capsys.readouterr().err == "", "to look whether it is here imports nothing"
        library = importlib.import_module("slow_library")
        assert capsys.readouterr().err == "loading the slow library\n"
        importlib.import_module("slow_library")
        assert capsys.readouterr().err == ""
    assert library.answer == 42


def test_work_that_reports_nothing_is_not_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "FIRST", 0.5)
    with terminal.on_stderr(), track("think", 3) as advance:
        advance(1)
        time.sleep(1.3)
    assert capsys.readouterr().err.startswith("think: 1/3 images, ")
    with terminal.on_stderr(), track("export", None, unit=None):
        time.sleep(1.3)
    assert capsys.readouterr().err == "export: 1 s\n"
    with terminal.on_stderr(), track("think", 3) as advance:
        advance(3)
    assert capsys.readouterr().err == "", "short work says nothing"


def test_the_tag_of_a_study_is_its_models_too(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    models = [made_model(store, f"arm-seed{seed}", {}, seed, DATASET) for seed in (0, 1)]
    study = study_of(store, "baseline", models, (0, 1)).artifact
    chosen = Chosen.checked(None, ["paper"], "figure 3")
    chosen.added(store, Output({}, lambda: None, made=study, parts=models)).show()
    assert "paper  (also of its 2 models)" in capsys.readouterr().out
    annotations = Annotations(store)
    assert annotations.of("study", study.version).note == "figure 3"
    said = [annotations.of(one.kind, one.version) for one in (study, *models)]
    assert [one.tags for one in said] == [("paper",)] * 3
    assert [one.note for one in said[1:]] == ["", ""]
