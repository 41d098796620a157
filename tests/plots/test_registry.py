"""The registry of plots: a module and a line make a command, and every plot keeps to one contract."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.core.errors import UsageError
from fer_cli.plots import registry
from fer_cli.plots.registry import PLOTS, plot_of
from fer_cli.stages.plot import plot

SOURCE = """
from typing import Annotated

import typer

from fer_cli.artifacts.store import Store
from fer_cli.plots.registry import Picture
from fer_cli.reporting.style import new_figure


def draw(
    store: Store,
    words: Annotated[str, typer.Argument(help="What to write.")],
    times: Annotated[int, typer.Option(min=1, help="How often.")] = 1,
) -> Picture:
    \"\"\"Words on a blank page.\"\"\"
    figure = new_figure(2, 1)
    for _ in range(times):
        figure.text(0.1, 0.5, words)
    return Picture("blank", figure)
"""


def test_a_plot_is_a_module_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_plot.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PLOTS, "blank", "own_plot")
    monkeypatch.chdir(tmp_path)
    assert run(["plot", "--help"]) == 0
    assert "blank      Words on a blank page." in capsys.readouterr().out
    assert run(["plot", "blank", "--help"]) == 0
    shown = capsys.readouterr().out
    for words in ("What to write.", "--times", "How often.", "x>=1", "--out", "--store", "--json"):
        assert words in shown
    assert run(["plot", "blank", "hello", "--times", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == "fer-blank-blank-times-2.png"
    assert (tmp_path / "fer-blank-blank-times-2.png").read_bytes().startswith(b"\x89PNG")
    path = plot(store=Store(tmp_path), what="blank", out=tmp_path / "a.svg", words="hello")
    assert path.read_text().count("<!-- hello -->") == 1
    assert run(["plot", "blank", "hello", "--times", "0"]) == 2
    assert "--times" in capsys.readouterr().err


def test_a_plot_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no plot 'pie'; choose one of confusion, roc"):
        plot(store=Store(tmp_path), what="pie")


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_keeps_the_contract(name: str) -> None:
    draw = plot_of(name)
    first, *rest = inspect.signature(draw).parameters.values()
    assert first.name == "store"
    assert all(parameter.default is not inspect.Parameter.empty for parameter in rest), "it draws the newest artifact"
    assert draw.__doc__
    assert isinstance(sys.modules[PLOTS[name]], ModuleType)
    assert registry.PLOTS[name].startswith("fer_cli.plots.")
