"""``fer compare --latex``: the table that goes into a paper, read as LaTeX reads it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from tests.kits.compare import answers, scored
from tests.kits.train import Fer


def _cells(text: str) -> list[list[str]]:
    """Return the rows between the rules of the one table."""
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    assert re.sub(r"\\[{}]", "", text).count("{") == re.sub(r"\\[{}]", "", text).count("}")
    body = text.split(r"\midrule")[1].split(r"\bottomrule", maxsplit=1)[0]
    return [[cell.strip() for cell in row.split(" & ")] for row in body.strip().removesuffix(r"\\").split(r"\\")]


def _said(capsys: pytest.CaptureFixture[str], store: Store, *words: str) -> str:
    capsys.readouterr()
    assert run(["compare", *words, "--latex", "--store", str(store.root)]) == 0
    return capsys.readouterr().out


@pytest.fixture
def studies(store: Store) -> Store:
    scored(store, "low", [answers(210, 0.4, seed) for seed in (1, 2, 3)], seeds=(0, 1, 2))
    scored(store, "high_x", [answers(210, 0.9, seed) for seed in (4, 5, 6)], seeds=(0, 1, 2))
    return store


def _study(store: Store, word: str) -> str:
    return next(one.reference for one in store.artifacts("study") if word in one.name)


def test_mean_and_sd_over_seeds_the_best_bold(studies: Store, capsys: pytest.CaptureFixture[str]) -> None:
    low, high = _study(studies, "low"), _study(studies, "high_x")
    text = _said(capsys, studies, low, high, "--names", "Baseline,Ours & theirs", "--label", "tab:x")
    first, second = _cells(text)
    right = [np.mean(answers(210, 0.9, seed) == np.arange(210) % 7) for seed in (4, 5, 6)]
    assert second[0] == r"Ours \& theirs"
    assert second[1] == rf"\textbf{{{100 * np.mean(right):.1f}}} $\pm$ {100 * np.std(right, ddof=1):.1f}"
    assert "textbf" not in " ".join([*first, *second[2:]])
    assert r"\label{tab:x}" in text
    assert r"mean $\pm$ SD over 3 seeds" in text
    assert "t test over items and seeds" in text
    assert "@" not in text
    default = _cells(_said(capsys, studies, low, high, "--spread", "interval"))
    assert re.fullmatch(r"\\textbf\{[\d.]+\} \[[\d.]+, [\d.]+\]", default[1][1])
    assert "study/" not in " ".join(default[1])


def test_no_bold_without_a_difference(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        scored(store, name, answers(210, 0.8, seed))
    models = [one.reference for one in store.artifacts("model")]
    assert "textbf" not in _said(capsys, store, *models)


def test_the_best_of_three_is_tested_against_each(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for name, accuracy, seed in (("a", 0.3, 1), ("b", 0.90, 2), ("c", 0.91, 3)):
        scored(store, name, answers(210, accuracy, seed))
    a, b, c = (next(one.reference for one in store.artifacts("model") if one.name == f"{name}-seed0") for name in "abc")
    assert "textbf" not in _said(capsys, store, a, b, c)  # each is above the first, but not above the other
    assert _cells(_said(capsys, store, a, b))[1][1].startswith(r"\textbf{")


def test_what_is_unsound_is_said_whatever_the_caption(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    scored(store, "a", answers(210, 0.3, 1))
    scored(store, "b", answers(210, 0.9, 2), unsound=("selected on test",))
    models = sorted(one.reference for one in store.artifacts("model"))
    text = _said(capsys, store, *models, "--allow-unsound", "--caption", "50% of it")
    assert r"\caption{50\% of it $^\dagger$Unsound: b-seed0: selected on test.}" in text
    assert _cells(text)[1][0] == r"b-seed0$^\dagger$"
    assert "textbf" not in text


def test_names_and_labels_that_do_not_fit_are_refused(studies: Store, fer: Fer) -> None:
    words = ["compare", _study(studies, "low"), _study(studies, "high_x"), "--store", studies.root]
    assert "1 for 2 systems" in fer(*words, "--latex", "--names", "a", code=2)
    assert "no system C" in fer(*words, "--latex", "--names", "C=a", code=2)
    assert "one name" in fer(*words, "--latex", "--names", "a,a", code=2)
    assert "is no label" in fer(*words, "--latex", "--label", "a}b", code=2)
    assert "is for --latex" in fer(*words, "--names", "a,b", code=2)
