"""``fer audit`` of data sets and ``fer prepare --drop-duplicates``: clean data passes, planted defects are found."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from fer_cli.artifacts.maintenance import REQUESTS, leftovers
from fer_cli.artifacts.payload import read_array, read_table
from fer_cli.artifacts.store import Store
from fer_cli.audit import moved_copies, near_duplicates
from fer_cli.audit.deduplicate import CONTRADICTORY, OF_SCORED, OF_TRAINING, copies_to_drop
from fer_cli.audit.findings import Index, findings
from fer_cli.audit.near_duplicates import NearCopies
from fer_cli.cli.app import run
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import AUS, MASKS, open_dataset
from fer_cli.datasets.records import Block
from fer_cli.datasets.synth.loader import Synth
from fer_cli.reporting.cases import ShownCase, cases_figure
from fer_cli.stages.audit_dataset import DatasetAudit, audit_dataset
from fer_cli.stages.extract import extract
from fer_cli.stages.prepare import prepare
from tests.kits.audit import Faces, brighter, faces, flipped, rescaled, shifted
from tests.kits.train import Fer


def audited(store: Store, source: Faces) -> DatasetAudit:
    return audit_dataset(dataset=prepare(store=store, loader=source, force=True).artifact)


def states(audit: DatasetAudit) -> dict[str, str]:
    """Return what is not in order: check -> state."""
    return {finding.check: finding.verdict for finding in audit.findings if finding.verdict in {"fail", "caution"}}


def ids(audit: DatasetAudit, check: str) -> list[set[str]]:
    """Return the pictures of each case of a check."""
    found = next(finding for finding in audit.to_json() if finding["check"] == check)
    return [{picture["id"] for picture in case["pictures"]} for case in found["cases"]]


def test_nothing_is_found_in_clean_data(store: Store, fer: Fer, capsys: pytest.CaptureFixture[str]) -> None:
    audit = audited(store, faces())
    assert states(audit) == {}
    assert audit.verdict == "nothing found within the reach of the search"
    assert run(["audit", "faces", "--store", str(store.root)]) == 0
    out = capsys.readouterr().out
    assert "each of 14 subjects is in one split" in out
    assert "nothing found within the reach of the search" in out
    assert re.search(r"looked for +copies of equal pixels, .* finds: flipped \d+%", out)
    assert re.search(r"turned 20 degrees \d+%; .*\d+ of \d+ pairs of such changes \d+% to 100%", out)
    assert re.search(r"often missed +.*shifted 15% \d\d%", out)
    assert "\x1b" not in out


COPIES = {"flip": flipped, "rescale": rescaled, "brightness": brighter, "shift": shifted}


@pytest.mark.parametrize("change", COPIES)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_changed_copy_in_another_split_is_a_leak(store: Store, change: str, split: str) -> None:
    source = faces()
    of = source.first("train") + 3
    copy = source.add(of, COPIES[change](source.images[of]), split=split, subject=None)
    audit = audited(store, source)
    assert states(audit) == {"near copies": "caution", "near copies across splits": "fail"}
    assert ids(audit, "near copies across splits") == [{source.rows[of].id, copy.id}]
    found = next(finding for finding in audit.findings if finding.check == "near copies across splits")
    assert found.cases[0].mirrored == (change == "flip")
    assert found.measured.startswith(f"1 pair, 0 with different labels; 1 {split} images (")


def test_an_exact_copy_in_another_split_is_a_leak_and_its_label_a_defect(store: Store) -> None:
    source = faces()
    of = source.first("test")
    copy = source.add(of, split="train", subject=None)
    assert states(audited(store, source)) == {"exact copies": "caution", "exact copies across splits": "fail"}
    label = next(row.label for row in source.rows if row.label != copy.label)
    source.rows[-1] = replace(copy, label=label)
    audit = audited(store, source)
    assert states(audit) == {
        "exact copies": "caution",
        "exact copies across splits": "fail",
        "labels of exact copies": "caution",
    }
    assert ids(audit, "labels of exact copies") == [{source.rows[of].id, copy.id}]
    text = next(finding.measured for finding in audit.findings if finding.verdict == "fail")
    assert text.startswith("1 group, 1 with different labels; 1 test images (")


def test_contradicting_labels_of_a_near_copy_within_a_split(store: Store) -> None:
    source = faces()
    of = source.first("train")
    label = next(row.label for row in source.rows if row.label != source.rows[of].label)
    copy = source.add(of, rescaled(source.images[of]), label=label, subject=None)
    audit = audited(store, source)
    assert states(audit) == {"near copies": "caution", "labels of near copies": "caution"}
    assert ids(audit, "labels of near copies") == [{source.rows[of].id, copy.id}]
    assert audit.verdict == (
        "cautions: near copies, labels of near copies; no leak found within the reach of the search"
    )


@pytest.mark.parametrize(("field", "check"), [("subject", "subjects"), ("sequence", "sequences")])
def test_a_name_in_two_splits_is_a_leak(store: Store, field: str, check: str) -> None:
    source = faces()
    one, other = source.first("train"), source.first("test")
    changes: Any = {field: "both"}
    for at in (one, other):
        source.rows[at] = replace(source.rows[at], **changes)
    audit = audited(store, source)
    assert states(audit) == {check: "fail"}
    assert ids(audit, check) == [{source.rows[one].id, source.rows[other].id}]


def test_what_the_source_does_not_tell_is_not_called_sound(store: Store) -> None:
    source = faces()
    source.rows = [replace(row, subject=None) for row in source.rows]
    found = {finding.check: finding for finding in audited(store, source).findings}
    assert {name: found[name].verdict for name in ("subjects", "sequences", "non-faces", "official counts")} == {
        "subjects": "not measured",
        "sequences": "not measured",
        "non-faces": "not measured",
        "official counts": "not measured",
    }


def test_non_faces_by_votes_and_blank_pictures(store: Store) -> None:
    source = faces(vote_columns=("happy", "nf"))
    source.rows = [replace(row, votes=(5, 5)) for row in source.rows]
    source.rows[4] = replace(source.rows[4], votes=(4, 6))
    source.images[9] = np.full_like(source.images[9], 30)
    audit = audited(store, source)
    assert states(audit) == {"non-faces": "caution"}
    assert ids(audit, "non-faces") == [{source.rows[4].id}, {source.rows[9].id}]
    source.rows[4] = replace(source.rows[4], votes=(5, 5))
    source.images[9] = faces().images[9]
    assert {finding.check: finding.verdict for finding in audited(store, source).findings}["non-faces"] == "pass"


def test_missing_rows_and_classes_are_told(store: Store) -> None:
    source = faces(missing=["PrivateTest is missing (3,589 rows)"])
    source.rows = [replace(row, label="sad") if row.split == "test" else row for row in source.rows]
    audit = audited(store, source)
    text = {finding.check: finding.measured for finding in audit.findings}
    assert states(audit) == {"class balance": "caution", "official counts": "caution"}
    assert text["official counts"] == "PrivateTest is missing (3,589 rows)"
    assert "test has no neutral" in text["class balance"]


def test_the_command_line(store: Store, fer: Fer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = faces()
    copy = source.add(source.first("train"), flipped(source.images[source.first("train")]), split="test", subject=None)
    artifact = prepare(store=store, loader=source).artifact
    page = tmp_path / "worst.png"
    capsys.readouterr()
    assert run(["audit", "--store", str(store.root), "--json", "--out", str(page)]) == 3
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["audited"] == artifact.to_json()
    assert not said["passed"]
    assert said["sheet"] == str(page)
    case = next(one for one in said["findings"] if one["check"] == "near copies across splits")["cases"][0]
    assert case["mirrored"]
    assert case["pictures"][1] == {"id": copy.id, "split": "test", "label": copy.label}
    assert err.splitlines()[-1].startswith(f"fer: error: {artifact.reference} leaks: near copies across splits; ")
    with Image.open(page) as image:
        assert image.width > 1000
    before = sorted(path.name for path in tmp_path.iterdir())
    assert "no suffix of a picture" in fer("audit", "--store", store.root, "--out", tmp_path / "a.doc", code=2)
    line = fer("audit", "nothing", "--store", store.root)
    assert "no dataset, ahm, model, study or ensemble artifact 'nothing'" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_features_give_more_to_look_at(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = faces()
    source.add(source.first("train"), shifted(source.images[source.first("train")]), split="test", subject=None)
    dataset = prepare(store=store, loader=source).artifact
    features = extract(
        store=store, dataset=dataset.reference, backbone="test_efficientnet", size=32, weights="none"
    ).artifact
    monkeypatch.setattr(near_duplicates, "PROPOSED", 2.0)  # no fingerprint is as alike
    monkeypatch.setattr(moved_copies, "ALIKE", 2.0)  # and no descriptor
    assert audit_dataset(dataset=dataset).leaks == ()
    assert run(["audit", "faces", "--features", features.reference, "--store", str(store.root)]) == 3
    assert "leaks: near copies across splits" in capsys.readouterr().err
    other = prepare(store=store, loader=replace(faces(), name="others"), seed=1).artifact
    with pytest.raises(FerError, match="has the features of faces@.*, not of dataset/others@") as refused:
        audit_dataset(dataset=other, features=features)
    assert "fer extract others@" in str(refused.value.hint)


def test_what_was_found_is_kept_while_nothing_changes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    source = faces()
    source.add(source.first("train"), flipped(source.images[source.first("train")]), split="test", subject=None)
    artifact = prepare(store=store, loader=source).artifact
    first = audit_dataset(dataset=artifact)
    searches: list[int] = []
    real = near_duplicates.near_copies

    def counted(*arguments: Any) -> NearCopies:
        searches.append(len(arguments[0]))
        return real(*arguments)

    monkeypatch.setattr("fer_cli.stages.audit_dataset.near_copies", counted)
    assert audit_dataset(dataset=artifact).to_json() == first.to_json()
    assert searches == []
    (kept,) = (store.root / REQUESTS).iterdir()
    text = kept.read_text()
    kept.write_text(text.replace("true", "false"))
    assert audit_dataset(dataset=artifact).to_json() == first.to_json()
    assert searches == [99], "damaged, so searched again"
    assert kept.read_text() == text
    assert leftovers(store, superseded=False) == []
    other = prepare(store=store, loader=replace(faces(), name="others"), seed=1).artifact
    assert audit_dataset(dataset=other).leaks == ()
    assert searches == [99, 98]


def test_without_a_case_nothing_is_drawn(store: Store, tmp_path: Path) -> None:
    artifact = prepare(store=store, loader=faces()).artifact
    assert audit_dataset(dataset=artifact, out=tmp_path / "worst.png").sheet is None
    assert not (tmp_path / "worst.png").exists()


# What is left out.


def pairs(*links: tuple[int, int]) -> NearCopies:
    first, second = (np.array([link[k] for link in links], dtype=np.int64) for k in (0, 1))
    none = np.zeros(len(links), np.bool_)
    return NearCopies(first, second, none, none + np.float32(0.95), np.empty(0, np.int64))


#     rows:                   0    1    2    3    4    5    6
SPLITS = ["train"] * 5 + ["validation", "test"]
LABELS = ["sad", "sad", "happy", "happy", "sad", "sad", "sad"]


@pytest.mark.parametrize(
    ("pixels", "near", "expected"),
    [
        ("abcdefg", [], {}),
        ("aacdefg", [], {1: OF_TRAINING}),
        ("abcdafg", [], {4: OF_TRAINING}),
        ("abacdef", [], {0: CONTRADICTORY, 2: CONTRADICTORY}),
        ("aacadef", [], {1: OF_TRAINING, 3: OF_TRAINING}),  # sad, sad, happy: most say sad
        ("abcdefa", [], {0: OF_SCORED}),
        ("abcdeff", [], {}),  # validation and test: neither goes
        ("abcdefg", [(0, 1), (1, 4)], {1: OF_TRAINING, 4: OF_TRAINING}),
        ("abcdefg", [(0, 1), (1, 6)], {1: OF_SCORED}),  # 0 is no copy of 6
        ("abcdefg", [(2, 5), (5, 6)], {2: OF_SCORED}),
        ("aacdefg", [(0, 6)], {0: OF_SCORED, 1: OF_SCORED}),
        ("abccdea", [(0, 2)], {0: OF_SCORED, 2: OF_SCORED, 3: OF_SCORED}),
        ("abcdefg", [(0, 3), (3, 4)], {3: OF_TRAINING, 4: OF_TRAINING}),
        ("abcdefg", [(0, 2), (2, 3), (3, 4)], dict.fromkeys((0, 2, 3, 4), CONTRADICTORY)),
    ],
)
def test_what_goes(pixels: str, near: list[tuple[int, int]], expected: dict[int, str]) -> None:
    assert copies_to_drop(SPLITS, LABELS, np.array(list(pixels)), pairs(*near)) == expected


def test_near_copies_count_by_every_picture_of_equal_pixels() -> None:
    """Rows 0 and 2 are equal, 0 nearly equals 1: the pair leaks and contradicts through row 2 alone."""
    index = Index(
        splits=["train", "train", "test"],
        labels=["sad", "sad", "happy"],
        pixels=np.array(["a", "b", "a"]),
        subjects=["p", "p", "q"],
        sequences=[None] * 3,
        votes=[None] * 3,
    )
    found = {finding.check: finding for finding in findings(index, pairs((0, 1)))}
    assert found["near copies across splits"].count == 0, "one person in one split"
    strangers = replace(index, subjects=[None] * 3)
    found = {finding.check: finding for finding in findings(strangers, pairs((0, 1)))}
    assert found["near copies across splits"].cases[0].rows == (2, 1)
    assert found["near copies across splits"].measured == "1 pair, 1 with different labels; 1 test images (100.0%)"
    assert found["labels of near copies"].cases[0].rows == (2, 1)


def with_copies() -> Faces:
    source = faces(carve_validation=True)
    source.rows = [replace(row, split="train") if row.split == "validation" else row for row in source.rows]
    train, test = source.first("train"), source.first("test")
    source.add(train, subject=None)
    source.add(train + 1, rescaled(source.images[train + 1]), subject=None)
    source.add(test, flipped(source.images[test]), split="train", subject=None)
    label = next(row.label for row in source.rows if row.label != source.rows[train + 2].label)
    source.add(train + 2, label=label, subject=None)
    return source


def test_training_copies_are_left_out_and_nothing_is_found_after(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = prepare(store=store, loader=with_copies()).artifact
    artifact = prepare(store=store, loader=with_copies(), drop_duplicates=True).artifact
    assert (artifact.name, plain.name) == ("faces-unique", "faces")
    assert "drop_duplicates" not in plain.manifest.config
    before, after = open_dataset(plain), open_dataset(artifact)
    gone = set(before.ids.tolist()) - set(after.ids.tolist())
    source = with_copies()
    assert gone == {row.id for row in source.rows[-4:]} | {source.rows[source.first("train") + 2].id}
    kept = np.isin(before.ids, after.ids)
    assert after.ids.tolist() == before.ids[kept].tolist()
    np.testing.assert_array_equal(after.images, before.images[kept])
    assert (before.ids[before.splits == "test"] == after.ids[after.splits == "test"]).all()
    expected = {OF_TRAINING: 2, OF_SCORED: 1, CONTRADICTORY: 2}
    assert artifact.manifest.protocol["duplicates_left_out"]["rows"] == expected
    assert artifact.manifest.summary["dropped"] == expected
    assert artifact.manifest.protocol["n"]["test"] == int((after.splits == "test").sum())
    assert "5 of " in capsys.readouterr().err
    assert states(audit_dataset(dataset=artifact)) == {}
    assert "fail" in states(audit_dataset(dataset=plain)).values()


class _Twice(Synth):
    """Drawn faces of which the first of train come a second time."""

    def blocks(self) -> Any:
        for number, block in enumerate(super().blocks()):
            yield block
            if number == 0:
                rows = tuple(replace(row, id=f"{row.id}-again", subject=None) for row in block.rows[:5])
                assert block.masks is not None
                assert block.aus is not None
                yield Block(rows, block.images[:5], block.masks[:5], block.aus[:5])


def test_masks_and_action_units_go_with_their_pictures(store: Store) -> None:
    def source(kind: Callable[..., Synth]) -> Synth:
        return kind(images=98, subjects=14, size=48, imbalance=1.0, contempt=False, grey=True, jobs=1, seed=0)

    plain = prepare(store=store, loader=source(Synth)).artifact
    twice = prepare(store=store, loader=source(_Twice), drop_duplicates=True).artifact
    assert twice.manifest.summary["dropped"] == {OF_TRAINING: 5}
    np.testing.assert_array_equal(read_array(twice.file(MASKS)), read_array(plain.file(MASKS)))
    np.testing.assert_array_equal(open_dataset(twice).images, open_dataset(plain).images)
    assert read_table(twice.file(AUS)).equals(read_table(plain.file(AUS)))


def test_drop_duplicates_from_the_command_line(store: Store, tmp_path: Path, fer: Fer) -> None:
    clean = faces()
    for split in ("train", "test"):
        for at in [at for at, row in enumerate(clean.rows) if row.split == split]:
            folder = tmp_path / "faces" / split / clean.rows[at].label
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(clean.images[at]).save(folder / f"{at}.png")
    at = clean.first("test")
    Image.fromarray(flipped(clean.images[at])).save(tmp_path / "faces" / "train" / clean.rows[at].label / "flip.png")
    fer("prepare", "folder", "--source", tmp_path / "faces", "--drop-duplicates", "--store", store.root, code=0)
    dropped = store.find("faces-unique", ["dataset"]).manifest.summary["dropped"]
    assert dropped[OF_SCORED] == 1
    fer("prepare", "folder", "--source", tmp_path / "faces", "--store", store.root, code=0)
    assert run(["audit", "faces", "--store", str(store.root)]) == 3
    assert run(["audit", "faces-unique", "--store", str(store.root)]) == 0


@pytest.mark.parametrize("count", [1, 7])
def test_sheets_hold_any_texts(count: int) -> None:
    nasty = "x" * 90 + " $\\frac{<script>面"
    picture = np.zeros((48, 48), np.uint8)
    pair = ShownCase((picture, picture), ((nasty, "train", "sad"), ("id", "test", "happy")), nasty)
    figure = cases_figure(
        {nasty: [pair] * count, "none": [], "single": [ShownCase((picture,), (("id",),))]}, nasty, nasty
    )
    figure.canvas.draw()
    width = figure.bbox.width
    texts = [one for one in figure.findobj(Text) if isinstance(one, Text) and one.get_text()]
    assert all(one.get_window_extent().x1 <= width for one in texts)
    assert not any(one.get_text() == "none" for one in texts)
    assert len(figure.axes[0].images) == 2 * count + 1
