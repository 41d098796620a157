"""Data sets by name: those of the package, and one that another package adds by an entry point, up to its report."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fer_cli.cli.app import run
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.registry import Registry
from fer_cli.datasets.registry import DATASETS, GROUP, DatasetDefinition
from tests.kits.packages import install

MODULE = """
from typing import Annotated

import numpy as np

from fer_cli.datasets.records import Block, LoadReport, Row
from fer_cli.datasets.registry import DatasetDefinition, Option, Source

CLASSES = ("neutral", "happy", "sad")


class MyFaces:
    def __init__(self, *, source: Source, each: Annotated[int, Option("Images per class.")] = 40) -> None:
        self.files, self.config = {"levels": source / "levels.txt"}, {"each": each}
        self.name, self.expected_rows, self._each = "myfaces", 3 * each, each

    def blocks(self):
        levels = [int(word) for word in self.files["levels"].read_text().split()]
        generator = np.random.default_rng(0)
        rows, images = [], []
        for number in range(3 * self._each):
            kind, split = number % 3, ("train", "train", "validation", "test")[number // 3 % 4]
            rows.append(Row(id=f"face-{number}", split=split, label=CLASSES[kind], source="levels.txt"))
            images.append(np.clip(generator.normal(levels[kind], 20, (24, 24)), 0, 255).astype(np.uint8))
        yield Block(tuple(rows), np.stack(images))

    def report(self):
        return LoadReport(classes=CLASSES, label_rule="levels of grey")


DATASET = DatasetDefinition(summary="Three levels of grey.", help="Three levels of grey.", open=MyFaces)
"""


@pytest.fixture
def package(tmp_path: Path) -> Callable[[str], Path]:
    """Write a package as an installer would leave it: a module, and its metadata with an entry point."""

    def write(module: str) -> Path:
        site = tmp_path / "site"
        metadata = site / "my_faces-1.0.dist-info"
        metadata.mkdir(parents=True)
        (site / "my_faces.py").write_text(module)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-faces\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[{GROUP}]\nmyfaces = my_faces:DATASET\n")
        return site

    return write


Fer = Callable[..., str]


@pytest.fixture
def run_fer(capsys: pytest.CaptureFixture[str]) -> Fer:
    """Run ``fer`` with the package installed; return stdout, or stderr of a command that fails."""

    def call(*words: object, code: int = 0) -> str:
        capsys.readouterr()
        ended = run([str(word) for word in words])
        out, said = capsys.readouterr()
        assert ended == code, said
        return out if code == 0 else said

    return call


def test_a_data_set_of_another_package_is_prepared_trained_on_and_reported(
    package: Callable[[str], Path], run_fer: Fer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, package(MODULE), DATASETS)
    store, source = tmp_path / "store", tmp_path / "faces"
    source.mkdir()
    (source / "levels.txt").write_text("60 120 180")
    assert "Three levels of grey." in run_fer("prepare", "--help")
    assert "--each" in run_fer("prepare", "myfaces", "--help")
    words = ["prepare", "myfaces", "--source", source, "--each", 60, "--store", store, "--json"]
    printed = json.loads(run_fer(*words))
    assert (printed["command"], printed["artifact"]["name"]) == ("prepare myfaces", "myfaces")
    assert printed["summary"]["splits"] == {"train": 90, "validation": 45, "test": 45}
    sets = ["model.backbone=test_efficientnet", "model.weights=none", "model.drop_path=0.0", "data.size=32"]
    sets += ["train.batch=30", "train.epochs=1"]
    sets = [word for change in sets for word in ("--set", change)]
    run_fer("train", "baseline", *sets, "--store", store, "--device", "cpu")
    evaluated = json.loads(run_fer("eval", "--report", "--store", store, "--device", "cpu", "--json"))
    page = (Path(evaluated["artifact"]["path"]) / "report.html").read_text(encoding="utf-8")
    assert "levels of grey" in page
    assert printed["artifact"]["version"] in page


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("import no_such_module", "cannot be imported: No module named 'no_such_module'"),
        ("DATASET = 7", "of the package my-faces is not a DatasetDefinition of this name"),
    ],
)
def test_a_broken_package_is_named_and_leaves_the_others_usable(
    package: Callable[[str], Path], run_fer: Fer, monkeypatch: pytest.MonkeyPatch, module: str, message: str
) -> None:
    install(monkeypatch, package(module), DATASETS)
    error = run_fer("prepare", "myfaces", code=1)
    assert error.startswith("fer: error: data set 'myfaces'")
    assert message in error
    assert "update or remove that package" in error
    assert "Traceback" not in error
    assert "RAF-DB basic" in run_fer("prepare", "--help")


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="no data set 'ferpluss'; did you mean ferplus?"):
        DATASETS.load("ferpluss")
    registry: Registry[DatasetDefinition] = Registry("thing", "fer_cli.none", "x:y", {"a": "b:c"})
    with pytest.raises(FerError, match="no thing 'zzz'; use a"):
        registry.load("zzz")


@pytest.mark.parametrize("name", DATASETS.names())
def test_every_data_set_declares_its_options(name: str) -> None:
    definition = DATASETS.load(name)
    parameters = definition.parameters()
    assert len(definition.summary) > 20
    assert definition.help
    assert len({item.name for item in parameters}) == len(parameters)
    assert all(item.option.help for item in parameters)


@pytest.mark.parametrize("name", [name for name in DATASETS.names() if not DATASETS.load(name).generated])
def test_a_pipe_is_no_source(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert run(["prepare", name, "--source", str(tmp_path / "pipe"), "--store", str(tmp_path / "store")]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.endswith("pipe: is a pipe or a device, not a file or a folder; save it as a file first")
