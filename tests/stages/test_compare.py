"""``fer compare``: what is taken, what is refused, what is said, and the files that it writes."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fer_cli.artifacts.protocol import EvaluationProtocol, Numerics, TrainedOn
from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.core.errors import CheckFailedError, FerError, UsageError
from fer_cli.core.findings import Check, Finding
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.image_hash import decoded_hash
from fer_cli.datasets.records import Block
from fer_cli.metrics.mcnemar import mcnemar
from fer_cli.metrics.paired import paired_difference
from fer_cli.reporting.comparison import Comparison, page_of
from fer_cli.reporting.comparison_page import comparison_html, difference_axis, score_axis
from fer_cli.reporting.heatmap import PNG_URI, thumbnail
from fer_cli.reporting.tables import Page, markdown
from fer_cli.stages.compare import compare
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.extract import extract
from fer_cli.stages.fit_ahm import fit_ahm
from fer_cli.stages.prepare import prepare
from fer_cli.stages.train import train
from tests.kits.compare import DATASET, answers, labels, made_model, scored
from tests.kits.films import film_dataset
from tests.kits.protocols import dataset_protocol, training_protocol
from tests.kits.toy import CLASSES, Toy
from tests.kits.train import Fer, files

N = 210
TINY = ("model.weights=none", "train.batch=20", "train.epochs=1", "model.backbone=test_efficientnet", "data.size=32")
HOSTILE = '<script>alert(1)</script>|\\textbf{x}_&%$#~^"*'


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert run(["compare", *map(str, words)]) == 0
    return capsys.readouterr().out


def compared(store: Store, references: Sequence[str], **options: Any) -> Comparison:
    return compare(store=store, references=references, resamples=200, **options).comparison


def test_two_models(store: Store) -> None:
    a, b = answers(N, 0.6, 1), answers(N, 0.7, 2)
    one, other = scored(store, "one", a), scored(store, "other", b)
    found = compared(store, ["model/one-seed0", "other-seed0"])
    true = labels(N)
    right = a == true, b == true
    (pair,) = found.pairs
    assert [system.evaluation for system in found.systems] == [one.reference, other.reference]
    assert [system.scores["accuracy"].value for system in found.systems] == pytest.approx([of.mean() for of in right])
    assert pair.differences["accuracy"].value == pytest.approx(right[1].mean() - right[0].mean())
    assert (sum(pair.won), sum(pair.lost)) == ((right[1] & ~right[0]).sum(), (right[0] & ~right[1]).sum())
    for k in range(len(CLASSES)):
        of = true == k
        assert (pair.won[k], pair.lost[k]) == ((right[1] & ~right[0])[of].sum(), (right[0] & ~right[1])[of].sum())
    assert pair.p == pytest.approx(stats.binomtest(int(sum(pair.won)), int(sum(pair.won) + sum(pair.lost))).pvalue)
    assert pair.p == pair.adjusted
    assert pair.minimum_detectable_effect > 0
    assert found.support == (30,) * 7
    assert any("are single runs" in note for note in found.notes)


def test_the_scores_are_those_of_the_evaluations(store: Store) -> None:
    evaluations = [scored(store, name, answers(N, 0.6, k), resamples=200) for k, name in enumerate(("one", "other"))]
    found = compared(store, [one.reference for one in evaluations])
    for system, evaluation in zip(found.systems, evaluations, strict=True):
        metrics = json.loads(evaluation.file("metrics.json").read_text())["predictors"]["network"]
        for metric in ("accuracy", "balanced_accuracy", "macro_f1"):
            got = system.scores[metric]
            assert [got.value, got.low, got.high] == pytest.approx(
                [metrics[metric][key] for key in ("value", "low", "high")]
            )


def test_what_was_computed_differently_is_said(store: Store) -> None:
    here = Numerics(device="cpu", threads=1, libraries={"torch": "2"})
    computed = {
        "one": here,
        "alike": here,
        "two": here.model_copy(update={"threads": 2}),
        "old": None,
        "ahm": here.model_copy(update={"libraries": {"numpy": "2"}}),
    }
    fields: dict[str, dict[str, Any]] = {name: {"numerics": numerics} for name, numerics in computed.items()}
    for name, changes in {**fields, "mixed": {"numerics_differ": True}}.items():
        training = training_protocol(dataset_protocol(), **changes)
        scored(store, name, answers(N, 0.6, len(name)), protocol={"training": training})

    def notes(other: str) -> list[str]:
        found = compared(store, ["model/one-seed0", f"model/{other}-seed0"])
        return [text for text in found.notes if "computed alike" in text]

    assert [len(notes(other)) for other in ("alike", "two", "old", "ahm", "mixed")] == [0, 1, 1, 0, 1]
    assert "cpu, 1 thread, float32, torch 2" in notes("two")[0]
    assert "cpu, 2 threads" in notes("two")[0]
    assert "not recorded" in notes("old")[0]


def test_items_are_matched_by_id(store: Store) -> None:
    order = np.random.default_rng(0).permutation(N)
    scored(store, "one", answers(N, 0.6, 1))
    plain = scored(store, "other", answers(N, 0.7, 2))
    shuffled = scored(store, "mixed", answers(N, 0.7, 2), order=order)
    pairs = [compared(store, ["one-seed0", of.reference]).pairs[0] for of in (plain, shuffled)]
    assert pairs[0].differences == pairs[1].differences
    assert (pairs[0].won, pairs[0].lost, pairs[0].p) == (pairs[1].won, pairs[1].lost, pairs[1].p)
    found = compared(store, [plain.reference, shuffled.reference])
    assert sum(found.pairs[0].won + found.pairs[0].lost) == 0
    assert found.pairs[0].p == 1
    assert "too few images for this test to show any" in " ".join(page_of(found).notes)


def test_several_are_adjusted_after_holm(store: Store) -> None:
    names = [f"model/m{k}-seed0" for k in range(4)]
    for k in range(4):
        scored(store, f"m{k}", answers(N, 0.55 + 0.06 * k, k))
    found = compared(store, names)
    alone = [compared(store, [names[0], name]).pairs[0] for name in names[1:]]
    assert [pair.p for pair in found.pairs] == pytest.approx([pair.p for pair in alone])
    order = sorted(range(3), key=lambda k: found.pairs[k].p)
    largest = 0.0
    for step, k in enumerate(order):
        largest = max(largest, (3 - step) * found.pairs[k].p)
        assert found.pairs[k].adjusted == pytest.approx(min(1, largest))
    assert all(
        one.minimum_detectable_effect < of.minimum_detectable_effect for one, of in zip(alone, found.pairs, strict=True)
    )
    assert any("Holm" in heading for table in page_of(found).tables for heading, _ in table.columns)


def test_studies_are_compared_over_seeds(store: Store) -> None:
    one = scored(store, "one", [answers(N, 0.55, k) for k in range(3)], seeds=(0, 1, 2))
    other = scored(store, "other", [answers(N, 0.8, 10 + k) for k in range(3)], seeds=(0, 1, 2))
    lone = scored(store, "lone", answers(N, 0.8, 99))
    found = compared(store, ["study/one", "study/other", "model/lone-seed0"])
    assert [system.decides for system in found.systems] == ["mean of seeds 0, 1, 2"] * 2 + ["network"]
    assert [system.evaluation for system in found.systems] == [one.reference, other.reference, lone.reference]
    by_seed = [
        [(answers(N, at, start + k) == labels(N)).mean() for k in range(3)] for at, start in ((0.55, 0), (0.8, 10))
    ]
    assert found.systems[0].scores["accuracy"].value == pytest.approx(np.mean(by_seed[0]))
    assert found.pairs[0].differences["accuracy"].value == pytest.approx(np.mean(by_seed[1]) - np.mean(by_seed[0]))
    assert [pair.test for pair in found.pairs] == ["t over seeds"] * 2
    ahead = np.mean([answers(N, 0.8, 10 + k) == labels(N) for k in range(3)], axis=0)
    ahead -= np.mean([answers(N, 0.55, k) == labels(N) for k in range(3)], axis=0)
    assert sum(found.pairs[0].won) == pytest.approx(ahead[ahead > 0].sum())
    assert sum(found.pairs[0].won) - sum(found.pairs[0].lost) == pytest.approx(ahead.sum())
    assert found.pairs[0].p < 0.01
    assert found.pairs[0].more["degrees_of_freedom"] > 2
    notes = " ".join(found.notes)
    assert "C is a single run: no interval or p-value covers" in notes
    single = compared(store, [one.reference, other.reference])
    assert not any("single run" in note for note in single.notes)


def test_an_evaluation_of_the_ensemble_is_one_system(store: Store) -> None:
    rows = [answers(N, 0.55, k) for k in range(3)]
    of_seeds = scored(store, "one", rows, seeds=(0, 1, 2))
    ensemble = scored(store, "one", rows, seeds=(0, 1, 2), chosen="ensemble")
    found = compared(store, [of_seeds.reference, ensemble.reference])
    assert [system.decides for system in found.systems] == ["mean of seeds 0, 1, 2", "ensemble"]
    assert found.systems[1].seeds == ()


def test_the_newest_evaluation_of_a_model_is_taken(store: Store, fer: Fer) -> None:
    old = scored(store, "one", answers(N, 0.6, 1), tta="none")
    new = scored(store, "one", answers(N, 0.65, 3), tta="flip")
    scored(store, "other", answers(N, 0.7, 2))
    # Another model of the same name is another model.
    scored(store, "one", answers(N, 0.9, 4), settings={"model": {"backbone": "large", "attention": "none"}})
    mine = f"model/one-seed0@{old.manifest.inputs['model'].version}"
    told = fer("compare", mine, "model/other-seed0", "--store", store.root, code=0)
    assert f"using {new.reference}" in told
    assert compared(store, [mine, "other-seed0"]).systems[0].evaluation == new.reference
    assert compared(store, [old.reference, new.reference]).systems[0].name == mine
    # What is not sound is taken by its own name, or where there is nothing else.
    scored(store, "one", answers(N, 0.65, 3), unsound=["selection split"], tta="flip", batching="sorted")
    assert compared(store, [mine, "other-seed0"]).systems[0].evaluation == new.reference


def test_a_score_on_another_data_set_is_passed_over(store: Store) -> None:
    own = scored(store, "one", answers(N, 0.6, 1))
    elsewhere: dict[str, Any] = {
        "protocol": {"trained_on": TrainedOn(dataset="drawn@0", images="48x48 px, grey")},
        "ids": [f"other-{k}" for k in range(N)],
    }
    scored(store, "one", answers(N, 0.65, 3), tta="flip", **elsewhere)
    scored(store, "other", answers(N, 0.7, 2))
    assert compared(store, ["one-seed0", "other-seed0"]).systems[0].evaluation == own.reference


def test_an_answer_that_no_image_has_is_wrong(store: Store) -> None:
    plain = answers(N, 0.6, 1)
    odd = plain.copy()
    odd[:7] = len(CLASSES)
    scored(store, "one", plain)
    scored(store, "other", odd, classes=(*CLASSES, "contempt"))
    for order in (("one-seed0", "other-seed0"), ("other-seed0", "one-seed0")):
        found = compared(store, order)
        accuracy = {system.name.partition("@")[0]: system.scores["accuracy"].value for system in found.systems}
        assert accuracy["model/one-seed0"] == (plain == labels(N)).mean()
        assert accuracy["model/other-seed0"] == (odd == labels(N)).mean()
        assert (found.classes, found.support[-1]) == ((*CLASSES, "contempt"), 0)


def test_a_study_beside_one_of_its_own_is_told(store: Store) -> None:
    scored(store, "one", [answers(N, 0.55, k) for k in range(2)], seeds=(0, 1))
    scored(store, "one", answers(N, 0.55, 0))
    scored(store, "other", answers(N, 0.7, 2))
    found = compared(store, ["study/one", "model/one-seed0", "model/other-seed0"])
    told = [note for note in found.notes if "one of the runs" in note]
    assert told == ["B is one of the runs of A: in part it is compared with itself"]


def refused(store: Store, *references: str) -> str:
    before = files(store)
    with pytest.raises(CheckFailedError) as caught:
        compare(store=store, references=references)
    assert files(store) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"ids": [f"drawn-{k + 1:04}" for k in range(N)]}, r"test items \(drawn test and drawn test: .* 209 of them"),
        ({"split": "validation", "ids": [f"v-{k}" for k in range(N)]}, r"and drawn validation: .*, 0 of them"),
        ({"classes": (*CLASSES[:6], "contempt")}, r"classes \(neutral, .*, anger and neutral, .*, contempt\)"),
        ({"classes": CLASSES[::-1]}, "classes"),
        ({"data": {"label_rule": "drawn votes"}}, r"label rule \(drawn labels and drawn votes\)"),
        ({"data": {"n": {"train": 900, "test": 209}}}, r"N \(210 and 209 images"),
        ({"true": (labels(N) + (np.arange(N) < 3)) % 7}, "labels of 3 items"),
    ],
)
def test_what_does_not_speak_of_the_same_is_refused(store: Store, change: dict[str, Any], names: str) -> None:
    scored(store, "one", answers(N, 0.6, 1))
    scored(store, "other", answers(N, 0.7, 2), **change)
    what = refused(store, "one-seed0", "other-seed0")
    assert re.search(f"differ in .*{names}", what), what
    with pytest.raises(CheckFailedError):
        compare(store=store, references=["one-seed0", "other-seed0"], allow_unsound=True)


def test_all_that_differs_is_named(store: Store) -> None:
    scored(store, "one", answers(N, 0.6, 1))
    scored(store, "other", answers(N, 0.7, 2)[:140], classes=CLASSES[::-1], data={"label_rule": "votes"})
    what = refused(store, "one-seed0", "other-seed0")
    assert all(word in what for word in ("test items", "classes", "label rule"))


def test_exit_codes_and_lines(store: Store, fer: Fer, tmp_path: Path) -> None:
    scored(store, "one", answers(N, 0.6, 1))
    scored(store, "other", answers(N, 0.7, 2), unsound=["selection split: optimistic"])
    scored(store, "third", answers(N, 0.7, 2), classes=CLASSES[::-1])
    at = ("--store", store.root)
    assert "differ in classes" in fer("compare", "one-seed0", "third-seed0", *at, code=3)
    line = fer("compare", "one-seed0", "other-seed0", *at, code=3)
    assert "is unsound: selection split: optimistic; leave it out, or compare with --allow-unsound" in line
    assert "1 to compare" in fer("compare", "one-seed0", *at, code=2)
    assert "are both evaluation/" in fer("compare", "one-seed0", "model/one-seed0", *at, code=2)
    assert "no model, study, ensemble, ahm or evaluation artifact 'none'" in fer("compare", "one-seed0", "none", *at)
    assert "--format 'word' is not a choice" in fer("compare", "one-seed0", "x", *at, "--format", "word", code=2)
    gone = tmp_path / "gone" / "a.md"
    assert str(gone) in fer("compare", "one-seed0", "other-seed0", *at, "--out", gone)
    bare = made_model(store, "bare", {}, 0, DATASET)
    line = fer("compare", "one-seed0", bare.reference, *at)
    assert line == f"{bare.reference} has not been scored; run `fer eval {bare.reference}` first"


def test_an_unsound_number_is_marked_wherever_it_stands(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(store, "one", answers(N, 0.6, 1))
    scored(store, "other", answers(N, 0.7, 2), unsound=["selection split: optimistic"])
    scored(store, "third", answers(N, 0.7, 3))
    found = compared(store, ["one-seed0", "other-seed0", "third-seed0"], allow_unsound=True)
    page = page_of(found)
    for table in page.tables[:3]:
        for row in table.rows:
            numbers = [cell for cell, (heading, side) in zip(row, table.columns, strict=True) if side == "right"]
            values = [cell for cell in numbers if not re.fullmatch(r"[\d,]+", cell.text)]
            assert values
            assert {cell.unsound for cell in values} == {row[0].text.startswith("B")}
    words = [*("one-seed0", "other-seed0", "third-seed0"), "--allow-unsound", "--store", store.root]
    text = said(capsys, *words)
    assert "B (unsound)" in text
    assert "UNSOUND  B: selection split: optimistic" in text
    marked = said(capsys, *words, "--format", "html")
    assert len(re.findall(r'<td class="num unsound">', marked)) == 3 + 3 + 3
    assert marked.count("\\textcolor{red}") == 0
    assert said(capsys, *words, "--format", "latex").count(r"\textbf{\textcolor{red}{") == 1 + 3 + 3 + 3 + 1
    assert len(re.findall(r"\*\*[-+\d][^|]*\*\*", said(capsys, *words, "--format", "markdown"))) == 9


class Read(HTMLParser):
    """Reads a page strictly: every tag closed in order; keeps tags and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name == "href" for name, _ in attrs)
        assert all(PNG_URI.fullmatch(value or "") for name, value in attrs if name == "src")
        if tag not in {"meta", "img"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data)


def hostile(store: Store) -> list[object]:
    classes = (*CLASSES[:6], HOSTILE)
    scored(store, "one", answers(N, 0.6, 1), classes=classes, settings={"model": {"backbone": HOSTILE}})
    scored(store, "other", answers(N, 0.7, 2), classes=classes, unsound=[HOSTILE])
    return ["one-seed0", "other-seed0", "--allow-unsound", "--store", store.root]


def test_html_escapes_names(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, *hostile(store), "--format", "html")
    page = Read(text)
    assert "script" not in page.tags
    words = " ".join(page.text)
    assert words.count(HOSTILE) >= 3  # a class, a setting, a mark
    assert not re.search(r"https?:|//|url\(|@import", PNG_URI.sub("", text))


def test_markdown_and_latex_keep_their_columns(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    words = hostile(store)
    text = said(capsys, *words, "--format", "markdown")
    blocks = re.findall(r"(?:^\|.*\|$\n)+", text, re.M)
    assert len(blocks) == 5
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block
    assert "<script>" not in text.replace("\\<", "")
    linked = Page("A [name](to) and [1, 2]", (), (), ("_emphasised_ in a_name",))
    assert markdown(linked) == "## A [name\\](to) and [1, 2]\n\n- \\_emphasised\\_ in a_name\n"
    text = said(capsys, *words, "--format", "latex")
    for body in re.findall(r"\\midrule\n(.*?)\\bottomrule", text, re.S):
        rows = [line for line in body.splitlines() if line]
        assert all(line.endswith(r" \\") for line in rows)
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in rows}) == 1
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 5
    plain = re.sub(r"\\[{}%#&_$]|\\text\w+\{\}", "", text)
    assert plain.count("{") == plain.count("}")
    body = plain[plain.index("\n") :]
    assert not re.findall(r"[#%~^|<>\"]", body)
    assert body.replace("$-$", "").count("$") == 0
    assert text.isascii()


def test_files_and_json(store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    a, b = answers(N, 0.6, 1), answers(N, 0.7, 2)
    scored(store, "one", a)
    scored(store, "other", b)
    words = ["one-seed0", "other-seed0", "--store", store.root]
    for name, begins in (("a.md", "## drawn"), ("a.tex", "% needs"), ("a.html", "<!DOCTYPE"), ("a.txt", "drawn, test")):
        text = said(capsys, *words, "--out", tmp_path / name)
        assert str(tmp_path / name) in text
        assert (tmp_path / name).read_text().startswith(begins)
    assert (tmp_path / "a.md").read_text() == said(capsys, *words, "--format", "markdown")
    value = json.loads(said(capsys, *words, "--json", "--items", tmp_path / "items.csv"))
    assert (value["schema"], value["command"]) == (1, "compare")
    assert value["written"] == {"items": str(tmp_path / "items.csv")}
    (pair,) = value["comparison"]["pairs"]
    assert set(pair["more"]) == {"exact", "mid", "chi2", "p_chi2"}
    with (tmp_path / "items.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    true = labels(N)
    changed = np.flatnonzero((a == true) != (b == true))
    assert [row["id"] for row in rows] == [f"drawn-{k:04}" for k in changed]
    for row, k in zip(rows, changed, strict=True):
        assert row["change"] == ("won" if b[k] == true[k] else "lost")
        assert (row["predicted"], row["predicted_by_first"]) == (CLASSES[b[k]], CLASSES[a[k]])
        assert (row["label"], row["system"].partition("@")[0]) == (CLASSES[true[k]], "model/other-seed0")
    assert sum(row["change"] == "won" for row in rows) == sum(pair["won"])
    assert {path.name for path in tmp_path.iterdir()} >= {"a.md", "items.csv"}
    assert not list(tmp_path.glob(".*"))


def test_settings_that_differ_are_shown(store: Store) -> None:
    scored(store, "one", answers(N, 0.6, 1), settings={"optim": {"name": "adam", "lr": 0.001}})
    scored(
        store, "other", answers(N, 0.7, 2),
        settings={"optim": {"name": "adam", "lr": 0.01}, "model": {"backbone": "tiny", "attention": "se"}},
        data={"n": {"train": 800, "test": N}},
        protocol={"tta": "flip", "checks": (Finding(Check.SELECTION, "pass", "selected on validation"),)},
    )  # fmt: skip
    found = compared(store, ["one-seed0", "other-seed0"])
    shown = {trait.name: trait.values for trait in found.config_diff}
    assert shown["optim.lr"] == ("0.001", "0.01")
    assert shown["model.attention"] == ("none", "se")
    assert shown["images.train"] == ("900", "800")
    assert shown["test-time augmentation"] == ("none", "flip")
    assert "parameters" in shown
    assert shown["check of selection"] == ("–", "pass")
    assert not {"checks", "optim.name", "model.backbone", "system", "selection.split", "dataset"} & set(shown)


def table_titles(text: str) -> list[str]:
    begin = r"(Scores|Differences|Tests|Images|What else)"
    return [line for line in text.splitlines() if re.match(begin, line)]


def test_ahm_beside_a_study_from_the_command_line(
    own: Store, capsys: pytest.CaptureFixture[str], fer: Callable[..., str]
) -> None:
    """The real chain: kinds of systems that have little in common."""
    extract(store=own, backbone="test_efficientnet", size=32, views=("original",), weights="none", device="cpu")
    ahm = fit_ahm(store=own, lambdas=(0.1, 1.0)).artifact
    trained = train(store=own, system="baseline", changes=TINY, seeds=(0, 1), device="cpu")
    assert trained.study is not None
    for reference in (ahm.reference, trained.study.artifact.reference):
        evaluate_model(store=own, model=reference, resamples=100, device="cpu")
    text = said(capsys, ahm.reference, trained.study.artifact.reference, "--store", own.root)
    assert len(table_titles(text)) == 5
    assert "mean of seeds 0, 1" in text
    found = compared(own, [ahm.reference, trained.study.artifact.reference])
    shown = {trait.name: trait.values for trait in found.config_diff}
    assert shown["kind"] == ("ahm", "model")
    assert shown["seeds"] == ("–", "0, 1")
    assert shown["optim"][0] == "–"
    assert "lr " in shown["optim"][1]
    assert "paths shared" in shown["ahm"][0]
    assert "model.backbone" not in shown
    assert "preprocessing.size" not in shown
    assert not any("single run" in note for note in found.notes)


class Persons(Toy):
    """The toy data set with the names of twelve persons."""

    def blocks(self) -> Iterator[Block]:
        for block in super().blocks():
            rows = (replace(row, subject=f"S{int(row.id[4:]) // 35 % 12}") for row in block.rows)
            yield Block(tuple(rows), block.images)


def of_split(store: Store, loader: Toy) -> tuple[Dataset, dict[str, Any]]:
    """A data set, and what an evaluation on its test split holds."""
    dataset = open_dataset(prepare(store=store, loader=loader).artifact)
    rows = dataset.rows("test")
    held = {"ids": dataset.ids[rows].tolist(), "true": dataset.labels[rows], "dataset": dataset.artifact.as_input()}
    return dataset, held


def test_persons_are_taken_whole(store: Store) -> None:
    dataset, held = of_split(store, Persons(images=1050, grey=True, seed=0, classes=CLASSES))
    assert dataset.subjects is not None
    persons = dataset.subjects[dataset.rows("test")]
    a, b = answers(N, 0.6, 1), answers(N, 0.7, 2)
    scored(store, "one", a, groups=persons.tolist(), **held)
    scored(store, "other", b, groups=persons.tolist(), **held)
    found = compared(store, ["one-seed0", "other-seed0"])
    assert (found.unit, found.units) == ("subject", len(set(persons.tolist())))
    true = held["true"]
    assert found.pairs[0].test == "McNemar by subject"
    assert found.pairs[0].p == mcnemar(b == true, a == true, persons).exact
    expected = paired_difference(true, b, a, "macro_f1", persons, 0, 200)
    got = found.pairs[0].differences["macro_f1"]
    assert (got.value, got.low, got.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert "subjects: the intervals of single runs are too narrow" in " ".join(found.notes)


def test_frames_of_a_film_are_taken_whole(store: Store) -> None:
    """Where no persons are named, as in SFEW."""
    film_dataset(store, subjects=20, sequences=60, known=("sequence",))
    dataset = open_dataset(store.find("films", ["dataset"]))
    unit, units = dataset.units()
    assert (unit, len(set(units.tolist() if units is not None else []))) == ("sequence", 60)
    rows = dataset.rows("test")
    for name in ("a", "b"):
        lines = [f"{dataset.ids[row]},{dataset.classes[(dataset.labels[row] + (row % 3 == 0)) % 7]}" for row in rows]
        end = "\n" if name == "a" else "\n\n"  # equal files would be one evaluation
        (path := store.root / f"{name}.csv").write_text("\n".join(["id,label", *lines]) + end)
        metrics = evaluate_model(store=store, predictions=path, data="films", resamples=100).artifact
        assert "resamples of sequences" in str(EvaluationProtocol.of(metrics).intervals)
    found = compared(store, [f"evaluation/predictions-{name}-on-films-resamples100-test" for name in ("a", "b")])
    assert (found.unit, found.pairs[0].test) == ("sequence", "McNemar by sequence")


def test_two_seeds_do_not_reach_below_nothing(store: Store) -> None:
    scored(store, "one", [answers(N, 0.05, 1), answers(N, 0.6, 2)], seeds=(0, 1))
    scored(store, "other", [answers(N, 0.95, 3), answers(N, 0.3, 4)], seeds=(0, 1))
    found = compared(store, ["study/one", "study/other"])
    for system in found.systems:
        assert (system.scores["accuracy"].low, system.scores["accuracy"].high) == (0.0, 1.0)
    assert found.pairs[0].differences["accuracy"].low == -1.0


def test_other_pictures_under_the_same_ids_are_refused(store: Store) -> None:
    """Drawn with another seed, a data set has the same ids and labels."""
    for name, seed in (("one", 0), ("other", 1)):
        _, held = of_split(store, Toy(images=1050, grey=True, seed=seed, classes=CLASSES))
        scored(store, name, answers(N, 0.6, seed), **held)
    assert "have different images under 210 of these ids" in refused(store, "one-seed0", "other-seed0")
    # The same pictures in a data set that differs elsewhere are the same items.
    _, held = of_split(store, Persons(images=1050, grey=True, seed=1, classes=CLASSES))
    scored(store, "third", answers(N, 0.7, 5), **held)
    found = compared(store, ["other-seed0", "third-seed0"])
    assert "not prepared alike" in " ".join(found.notes)
    assert "dataset" in [trait.name for trait in found.config_diff]


@pytest.mark.parametrize("references", [[], ["a"], [f"m{k}" for k in range(27)]])
def test_how_many(store: Store, references: list[str]) -> None:
    with pytest.raises(UsageError, match="to compare"):
        compare(store=store, references=references)


def test_damaged_predictions_are_one_line(store: Store) -> None:
    scored(store, "one", answers(N, 0.6, 1))
    twice = scored(store, "other", answers(N, 0.7, 2), ids=["same"] * N)
    with pytest.raises(FerError, match="duplicate ids"):
        compare(store=store, references=["one-seed0", twice.reference])
    path = twice.path / "predictions.parquet"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(FerError, match="sha256"):
        compare(store=store, references=["one-seed0", twice.reference])


class Larger(Toy):
    """The pictures of a toy at twice the size, with the hashes of what they were before, or of others."""

    truly = True

    def blocks(self) -> Iterator[Block]:
        for block in super().blocks():
            hashes = [decoded_hash(image if self.truly else 255 - image) for image in block.images]
            rows = [replace(row, decoded_hash=value) for row, value in zip(block.rows, hashes, strict=True)]
            yield Block(tuple(rows), block.images.repeat(2, axis=1).repeat(2, axis=2))


class LargerOthers(Larger):
    """The same, of other pictures."""

    truly = False


def test_the_same_pictures_at_another_size_are_the_same_items(store: Store) -> None:
    for name, loader in (("one", Toy), ("large", Larger), ("others", LargerOthers)):
        _, held = of_split(store, loader(images=1050, grey=True, seed=3, classes=CLASSES))
        scored(store, name, answers(N, 0.6, len(name)), **held)
    assert "not prepared alike" in " ".join(compared(store, ["one-seed0", "large-seed0"]).notes)
    assert "have different images under 210 of these ids" in refused(store, "one-seed0", "others-seed0")


def section(page: str, name: str) -> str:
    return page[page.index(f'<section id="{name}">') :].partition("</section>")[0]


def ticks(html: str, kind: str) -> list[float]:
    return [float(x) for x in re.findall(rf'class="{kind}" x1="([\d.]+)"', html)]


def test_the_page_draws_scores_and_differences_with_a_dot_a_seed(store: Store) -> None:
    scored(store, "one", [answers(N, 0.55, k) for k in range(3)], seeds=(0, 1, 2))
    scored(store, "other", [answers(N, 0.8, 10 + k) for k in range(3)], seeds=(0, 1, 2))
    scored(store, "third", answers(N, 0.7, 5), unsound=["selection split"])
    found = compared(store, ["study/one", "study/other", "third-seed0"], allow_unsound=True)
    page = comparison_html(found)
    one, other, _ = found.systems
    assert one.runs["accuracy"] == pytest.approx([(answers(N, 0.55, k) == labels(N)).mean() for k in range(3)])
    assert np.mean(other.runs["macro_f1"]) == pytest.approx(other.scores["macro_f1"].value)
    low, high = score_axis(found.systems)
    scores = section(page, "scores")
    by_system = scores.split("<tr")[2:]  # after that of the headings
    drawn = [100 * (value - low) / (high - low) for value in one.runs["accuracy"]]
    assert ticks(by_system[0], "run")[:3] == pytest.approx(drawn, abs=0.006)
    assert [len(ticks(row, "run")) for row in by_system[:3]] == [9, 9, 0]  # a single run is its own mean
    reach = difference_axis(found.pairs)
    differences = section(page, "differences")
    value = found.pairs[0].differences["accuracy"].value
    assert ticks(differences, "tick")[0] == pytest.approx(50 + 50 * value / reach, abs=0.006)
    assert set(ticks(differences, "mark")) == {50.0}
    assert re.findall(r'class="said (\w+)"', differences) == ["better", "better"]
    assert [text.count('<tr class="bad">') for text in (differences, scores)] == [1, 1]
    assert differences.count('<span class="badge bad">unsound</span>') == 1
    assert page.index('id="differences"') < page.index('id="scores"') < page.index("Scores, in percent")


def test_axes_hold_all_that_is_drawn(store: Store) -> None:
    scored(store, "one", labels(N))
    scored(store, "other", [np.roll(labels(N), 1), labels(N)], seeds=(0, 1))
    found = compared(store, ["one-seed0", "study/other"])
    assert score_axis(found.systems) == (0, 1)
    assert difference_axis(found.pairs) == 1
    scored(store, "same", labels(N), tta="flip")
    alike = compared(store, ["one-seed0", "same-seed0"])
    assert difference_axis(alike.pairs) == 0.01
    assert "no difference shown" in comparison_html(alike)


def test_the_page_shows_the_images_that_changed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, held = of_split(store, Toy(images=1050, grey=True, seed=0, classes=CLASSES))
    true = held["true"]
    predicted = {name: np.where(np.arange(N) % of == 0, (true + 1) % 7, true) for name, of in (("a", 10), ("b", 15))}
    for name, row in predicted.items():
        scored(store, name, row, **held)
    text = said(capsys, "a-seed0", "b-seed0", "--store", store.root, "--format", "html")
    Read(text)
    only_b, only_a = section(text, "changed").split("<ul")[1:]
    right = {name: row == true for name, row in predicted.items()}
    for strip, won in ((only_b, right["b"] & ~right["a"]), (only_a, right["a"] & ~right["b"])):
        shown = re.findall(r'<img src="([^"]+)" alt="([^"]+)"', strip)
        ids = [name for _, name in shown]
        assert set(ids) <= {held["ids"][k] for k in np.flatnonzero(won)}
        assert len(set(ids)) == len(ids) == min(16, won.sum())
        row = {name: k for k, name in enumerate(dataset.ids.tolist())}
        assert [uri for uri, _ in shown] == [thumbnail(dataset.images[row[name]]) for name in ids]
    assert "14 images" in section(text, "changed")
    labels_shown = re.findall(r"</i>(\w+)</span>", only_b)
    assert len(set(labels_shown[:7])) == len({CLASSES[true[k]] for k in np.flatnonzero(right["b"] & ~right["a"])})
    assert "in more runs" not in text


def test_images_of_a_data_set_that_is_gone_are_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    scored(store, "one", [answers(N, 0.55, k) for k in range(2)], seeds=(0, 1))
    scored(store, "other", answers(N, 0.7, 2))
    assert run(["compare", "study/one", "other-seed0", "--store", str(store.root), "--format", "html"]) == 0
    text, warning = capsys.readouterr()
    assert "<img" not in text
    assert 'class="id">drawn-' in section(text, "changed")
    assert "images that changed are shown by their ids alone" in warning
    assert "B correct in more runs than A" in text
