"""CK+ in its official layout: its folds are the published rule's, and the audit refuses the leaky split of frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.core.errors import ExitCode
from fer_cli.datasets.dataset import open_dataset
from tests.kits import official as kit
from tests.kits.train import Fer

SUBJECTS = ("S130", "S005", "S999", "S010", "S011", "S502", "S022", "S014", "S050", "S501", "S113", "S032")
FOLDS = [
    *({"S005", "S502"}, {"S010", "S999"}, {"S011"}, {"S014"}, {"S022"}),
    *({"S032"}, {"S050"}, {"S113"}, {"S130"}, {"S501"}),
]
"""``sorted(subjects)[i::10]``, by hand."""


@pytest.fixture
def ckplus(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(kit, "SUBJECTS", SUBJECTS)
    monkeypatch.setattr(kit, "CK", kit.CK[:3])  # fewer pictures for the audit to compare
    source = kit.ckplus(tmp_path / "ck")
    assert run(["prepare", "ckplus", "--source", str(source), "--store", str(store.root), "--allow-incomplete"]) == 0
    return store


def audited(store: Store, name: str, capsys: pytest.CaptureFixture[str], code: int) -> tuple[dict[str, Any], str]:
    """Return each check's state and text, and the line of the error."""
    capsys.readouterr()
    assert run(["audit", name, "--json", "--store", str(store.root)]) == code
    out, said = capsys.readouterr()
    found = json.loads(out.splitlines()[0])["findings"]
    return {one["check"]: (one["verdict"], one["measured"]) for one in found}, said.splitlines()[-1] if said else ""


def test_folds_are_the_published_rule(ckplus: Store, fer: Fer, capsys: pytest.CaptureFixture[str]) -> None:
    fer("split", "ckplus", "--folds", "10", "--store", ckplus.root, code=0)
    dataset = open_dataset(ckplus.find("ckplus-folds10", ["dataset"]))
    assert dataset.folds is not None
    assert dataset.subjects is not None
    found = [set(dataset.subjects[dataset.folds == fold].tolist()) for fold in range(10)]
    assert found == FOLDS
    protocol = dataset.artifact.manifest.protocol
    assert protocol["folds"]["rule"] == {"kind": "subject", "number": 10}
    assert protocol["faces"] == "whole frames: no alignment"
    checks, _ = audited(ckplus, "ckplus-folds10", capsys, ExitCode.DONE)
    assert checks["subjects"][0] == checks["sequences"][0] == "pass"
    assert checks["subjects across folds"] == ("pass", "each of 12 subjects is in one fold")
    assert checks["sequences across folds"] == ("pass", "each of 36 sequences is in one fold")
    assert checks["official counts"][1].startswith("see ckplus@")


def test_the_frame_split_runs_is_marked_and_fails_the_audit(
    ckplus: Store, fer: Fer, capsys: pytest.CaptureFixture[str]
) -> None:
    fer("split", "ckplus", "--leaky-frame-split", "2:1", "--validation", "0", "--store", ckplus.root, code=0)
    artifact = ckplus.find("ckplus-frames2-1", ["dataset"])
    protocol = artifact.manifest.protocol
    assert protocol["n"] == {"train": 72, "test": 36}
    assert protocol["leaky_frame_split"]
    assert protocol["parts"] == [{"part": "all", "use": "random", "carved": [], "promoted": False}]
    assert protocol["faces"] == "whole frames: no alignment"
    checks, error = audited(ckplus, "ckplus-frames2-1", capsys, ExitCode.CHECK_FAILED)
    assert checks["subjects"][0] == checks["sequences"][0] == "fail"
    assert checks["subjects"][1].startswith("12 of 12 subjects are in several splits; 36 test images (100.0%)")
    assert "sequences are in several splits" in checks["sequences"][1]
    assert "leaks: " in error
    assert "subjects, sequences" in error
    assert error.endswith("'fer split' with --folds keeps subjects and sequences whole")
