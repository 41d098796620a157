"""``fer cite``: what stands behind a result, from its lineage."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fer_cli.artifacts.manifest import Input, digest
from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.core.citations import FER, Citation
from fer_cli.datasets.registry import DATASETS
from fer_cli.reporting.bibtex import bibtex
from fer_cli.stages.cite import cite
from fer_cli.systems.registry import SYSTEMS
from tests.kits.compare import answers, scored
from tests.kits.fer2013 import random_images, table_lines, write_lines

ROOT = Path(__file__).parents[2]


def _fer2013(tmp_path: Path) -> Path:
    images = random_images(42)
    parts = ["Training"] * 28 + ["PublicTest"] * 7 + ["PrivateTest"] * 7
    return write_lines(tmp_path / "fer2013.csv", table_lines(parts, [k % 7 for k in range(42)], images))


def test_the_lineage_of_a_split_leads_to_the_data_set(store: Store, tmp_path: Path) -> None:
    source = _fer2013(tmp_path)
    assert run(["prepare", "fer2013", "--source", str(source), "--allow-incomplete", "--store", str(store.root)]) == 0
    assert [one.key for one in cite(store=store, references=["dataset"])] == ["fer", "goodfellow-fer2013"]
    made = store.datasets()[0].as_input()
    predicted = answers(210, 0.8, 1)
    scored(store, "a", [predicted, predicted], seeds=(0, 1), dataset=made)
    assert [one.key for one in cite(store=store, references=["evaluation", "dataset"])] == ["fer", "goodfellow-fer2013"]


def test_what_is_gone_and_what_is_a_users_own_is_said(
    own: Store, store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["cite", "dataset", "--store", str(own.root)]) == 0
    out, said = capsys.readouterr()
    assert re.findall(r"^@\w+\{(.+),$", out, re.MULTILINE) == ["fer"]
    gone = Input(kind="dataset", name="gone", version="0123456789ab", content=digest("gone"))
    scored(store, "a", answers(210, 0.8, 1), dataset=gone)
    assert run(["cite", "evaluation", "--store", str(store.root), "-o", str(tmp_path / "a.bib"), "--json"]) == 0
    out, said = capsys.readouterr()
    assert said.count("dataset/gone@0123456789ab is not in this store") == 1
    assert json.loads(out)["bibtex"] == (tmp_path / "a.bib").read_text()


def test_every_data_set_is_found_by_its_loaders() -> None:
    """What the manifest names is the class: a data set without one would never be cited, one of two would be wrong."""
    for name in DATASETS.bundled:
        definition = DATASETS.load(name)
        loaders = definition.loaders or ((definition.open,) if isinstance(definition.open, type) else ())
        assert loaders or not definition.citations, name
        for one in loaders:
            assert [other for other in DATASETS.bundled if DATASETS.load(other).loads(one.__name__)] == [name]


def test_entries_are_well_formed_and_keys_are_of_one_work_each() -> None:
    entries = [one for name in DATASETS.bundled for one in DATASETS.load(name).citations]
    entries += [one for name in SYSTEMS.bundled for one in SYSTEMS.load(name).citations]
    by_key: dict[str, Citation] = {}
    for one in entries:
        assert by_key.setdefault(one.key, one) == one
    text = bibtex(by_key.values())
    assert text.count("{") == text.count("}")
    assert len(re.findall(r"^@", text, re.MULTILINE)) == len(by_key)
    known = (ROOT / "CITATION.cff").read_text()
    for name in SYSTEMS.bundled:
        for one in SYSTEMS.load(name).citations:
            assert f"title: {one.title}\n" in known
    assert f'title: "{FER.title}"\n' in known


def test_texts_of_other_packages_are_printed_as_they_stand() -> None:
    text = bibtex([Citation("own", "misc", "100% of {A} & B_C", ("{The A & B}", "Öz, A."), 2020)])
    assert r"title  = {{100\% of \{A\} \& B\_C}}," in text
    assert r"author = {{The A \& B} and Öz, A.}," in text
    with pytest.raises(ValueError, match="not a DOI"):
        Citation("own", "misc", "A", ("B",), more={"doi": "10.1/a}b"})
    with pytest.raises(ValueError, match="not a key"):
        Citation("own,x", "misc", "A", ("B",))
