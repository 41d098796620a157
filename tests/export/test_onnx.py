"""``fer export`` and ``fer predict`` of what it wrote: the file answers as the network does, or is not written."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fer_cli.artifacts.archive import write_archive
from fer_cli.artifacts.archive_import import import_archive
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelSummary
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.export import check as checks
from fer_cli.export import graph as graphs
from fer_cli.prediction.model import open_model
from fer_cli.prediction.onnx_model import KEY, CheckRecord, open_onnx
from fer_cli.stages.export_model import export_graph
from fer_cli.stages.train import train
from tests.kits.faces import save
from tests.kits.toy import toy_dataset
from tests.kits.train import Fer

SMALL = [
    *("model.backbone=test_efficientnet", "model.weights=none", "model.drop_path=0.0"),
    *("data.size=32", "train.batch=20", "train.epochs=6", "optim.lr=1e-2"),
]


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Artifact]:
    """A store with grey images of 24 px, two models of them, and their study."""
    store = Store(tmp_path_factory.mktemp("export"))
    toy_dataset(store, images=210)
    return store, train(store=store, system="baseline", changes=SMALL, seeds=(0, 1), device="cpu").whole.artifact


@pytest.fixture(scope="module")
def exported(studied: tuple[Store, Artifact]) -> Path:
    """The ONNX file of one of the models."""
    path = studied[0].root / "model.onnx"
    export_graph(store=studied[0], model=model(studied).reference, to="onnx", out=path)
    return path


def model(studied: tuple[Store, Artifact]) -> Artifact:
    return studied[0].artifacts("model")[0]


def images(store: Store) -> Dataset:
    return open_dataset(store.find("toy", ["dataset"]))


def changed(path: Path, target: Path, **metadata: str | None) -> Path:
    """Write an ONNX file with other metadata."""
    import onnx

    proto = onnx.load(path)
    properties = {one.key: one.value for one in proto.metadata_props} | metadata
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {key: value for key, value in properties.items() if value is not None})
    target.write_bytes(proto.SerializeToString())
    return target


def test_an_onnx_file_answers_as_its_network_of_images_of_any_size(
    studied: tuple[Store, Artifact], exported: Path
) -> None:
    store = studied[0]
    network, file = open_model(store, model(studied), "cpu"), open_onnx(exported)
    generator = np.random.default_rng(1)
    photos: list[NDArray[np.uint8]] = [
        generator.integers(0, 256, shape, dtype=np.uint8) for shape in ((24, 24), (32, 32), (90, 70), (24, 24, 3))
    ]
    crops = [*images(store).images[images(store).rows("test")], *photos]
    ours, theirs = network.predict(crops), file.predict(crops)
    assert np.abs(ours.probabilities - theirs.probabilities).max() < 1e-5
    assert ours.labels == theirs.labels
    assert np.ptp(ours.probabilities, axis=0).max() > 1e-3, "a network that always says the same shows nothing"
    assert np.array_equal(file.predict(crops[:1]).probabilities[0].round(6), theirs.probabilities[0].round(6))


def test_a_file_says_what_it_is(studied: tuple[Store, Artifact], exported: Path) -> None:
    store, artifact = studied[0], model(studied)
    record, dataset = open_onnx(exported).record, images(store)
    assert (record.reference, record.content) == (artifact.reference, artifact.manifest.content)
    assert (record.classes, record.grey, record.side, record.size) == (dataset.classes, True, 24, 32)
    assert record.temperatures == (ModelSummary.of(artifact).temperature,)
    assert {(one.role, one.content) for one in record.lineage} >= {("dataset", dataset.artifact.manifest.content)}
    assert record.check is not None
    assert (record.check.split, record.check.images) == ("validation", len(dataset.rows("validation")))
    selected = ModelSummary.of(artifact).selected.accuracy
    assert record.check.accuracy == record.check.network_accuracy == pytest.approx(selected)
    import onnx

    proto = onnx.load(exported)
    assert [one.version for one in proto.opset_import if one.domain == ""] == [record.opset] == [20]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"


def test_a_study_is_one_graph_with_the_mean_of_its_models(studied: tuple[Store, Artifact]) -> None:
    store, study = studied
    crops = [np.repeat(np.repeat(images(store).images[row], 2, 0), 2, 1)[:32, :32] for row in range(40)]
    each = [open_model(store, one, "cpu").predict(crops).probabilities for one in store.artifacts("model")]
    graph = graphs.PixelsToProbabilities(open_model(store, study, "cpu")).eval()
    with torch.inference_mode():
        answers = graph(torch.from_numpy(np.stack(crops)[:, None].astype(np.float32))).numpy()
    assert np.abs(each[0] - each[1]).max() > 1e-3
    assert np.abs(answers - np.mean(each, 0)).max() < 1e-5


def test_a_graph_has_the_weights_and_the_temperature_of_an_ensemble(studied: tuple[Store, Artifact]) -> None:
    store, study = studied
    together = replace(open_model(store, study, "cpu"), weights=(0.9, 0.1), temperature=0.5)
    crops = np.repeat(np.repeat(images(store).images[:40], 2, 1), 2, 2)[:, :32, :32]
    graph = graphs.PixelsToProbabilities(together).eval()
    with torch.inference_mode():
        answers = graph(torch.from_numpy(crops[:, None].astype(np.float32))).numpy()
    expected = together.predict(crops).probabilities
    assert np.abs(expected - replace(together, weights=None, temperature=1.0).predict(crops).probabilities).max() > 1e-3
    assert np.abs(answers - expected).max() < 1e-5


def test_predict_runs_on_onnxruntime_alone(studied: tuple[Store, Artifact], exported: Path, tmp_path: Path) -> None:
    dataset = images(studied[0])
    for row in dataset.rows("test"):
        save(tmp_path / "crops" / f"{dataset.ids[row]}.png", dataset.images[row])
    words = ["predict", str(tmp_path / "crops"), "--model", str(exported), "--faces", "whole", "-o", "rows.csv"]
    script = (
        "import sys\n"
        "from fer_cli.cli.app import run\n"
        "import numpy, fer_cli\n"
        f"code = run({words!r})\n"
        "from pathlib import Path\n"
        f"model = fer_cli.load_model({str(exported)!r})\n"
        "crops = sorted(Path('crops').iterdir())\n"
        "numpy.save('answers.npy', model.predict(crops).probabilities)\n"
        "heavy = {'torch', 'timm', 'scipy', 'sklearn', 'onnx'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else code)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    with (tmp_path / "rows.csv").open(newline="") as stream:
        rows = {Path(row["file"]).stem: row for row in csv.DictReader(stream)}
    expected = open_model(studied[0], model(studied), "cpu").predict(
        [dataset.images[at] for at in dataset.rows("test")]
    )
    by_name = np.argsort([str(dataset.ids[row]) for row in dataset.rows("test")])
    assert np.abs(np.load(tmp_path / "answers.npy") - expected.probabilities[by_name]).max() < 1e-5
    for row, answer, label in zip(dataset.rows("test"), expected.probabilities, expected.labels, strict=True):
        written = rows[dataset.ids[row]]
        assert written["expression"] == label
        assert [float(written[f"p_{name}"]) for name in dataset.classes] == pytest.approx(answer.tolist(), abs=1e-5)


def test_a_file_that_answers_otherwise_is_not_written(
    studied: tuple[Store, Artifact], exported: Path, tmp_path: Path, fer: Fer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "onnx_bytes", lambda *_: exported.read_bytes())
    other, out = studied[0].artifacts("model")[1], tmp_path / "model.onnx"
    said = fer("export", other.reference, "-o", out, "--store", studied[0].root)
    assert f"the exported {other.reference} answers otherwise than the network: of 42 images" in said
    assert not list(tmp_path.glob("*model.onnx*"))


def test_without_its_data_set_a_model_is_checked_on_synthetic_faces_and_the_file_says_so(
    studied: tuple[Store, Artifact], exported: Path, tmp_path: Path, fer: Fer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "onnx_bytes", lambda *_: exported.read_bytes())
    write_archive(studied[0], model(studied), tmp_path / "model.zip")
    store, out = Store(tmp_path / "elsewhere"), tmp_path / "model.onnx"
    import_archive(store, tmp_path / "model.zip")
    said = fer("export", "-o", out, "--store", store.root, code=0)
    assert "its data set is not here: checked on 64 synthetic faces, not on its images" in said
    check = open_onnx(out).record.check
    assert check is not None
    assert (check.dataset, check.split, check.accuracy, check.images, check.same_class) == (None, None, None, 64, 1.0)
    assert check.largest_difference < 1e-5
    assert "is lineage only, no payload here" in fer("export", "-o", out, "--precision", "int8", "--store", store.root)
    other = Store(tmp_path / "other")
    write_archive(studied[0], studied[0].artifacts("model")[1], tmp_path / "other.zip")
    import_archive(other, tmp_path / "other.zip")
    said = fer("export", "-o", tmp_path / "x.onnx", "--store", other.root)
    assert "answers otherwise than the network: of 64 images" in said.splitlines()[-1]
    assert not (tmp_path / "x.onnx").exists()


def test_what_is_refused_is_a_class_a_probability_or_no_number() -> None:
    record = CheckRecord(
        dataset="dataset/toy@0",
        split="validation",
        images=1000,
        largest_difference=9e-5,
        same_class=1.0,
        network_accuracy=0.5,
        accuracy=0.5,
    )
    checks.refuse_other_answers(record, "model/m@0")
    for change in ({"same_class": 0.999}, {"largest_difference": 1.1e-4}, {"largest_difference": float("nan")}):
        with pytest.raises(FerError, match="answers otherwise"):
            checks.refuse_other_answers(record.model_copy(update=change), "model/m@0")


def test_a_program_of_torch_export_answers_as_its_network(studied: tuple[Store, Artifact], tmp_path: Path) -> None:
    store = studied[0]
    path = tmp_path / "model.pt2"
    record = export_graph(store=store, model=model(studied).reference, to="torch-export", out=path).record
    program = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=(extra := {"fer.json": ""}))
    assert json.loads(extra["fer.json"]) == record.record()
    crops = list(images(store).images[images(store).rows("test")])
    pixels = torch.from_numpy(np.stack([record.pixels(crop) for crop in crops]))
    answers = program.module()(pixels).numpy()
    assert np.abs(answers - open_model(store, model(studied), "cpu").predict(crops).probabilities).max() < 1e-5


@pytest.mark.parametrize(("precision", "worst"), [("fp16", 5e-3), ("int8", 0.1)])
def test_what_another_precision_costs_is_measured_and_written(
    studied: tuple[Store, Artifact],
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: Any,
    worst: float,
) -> None:
    monkeypatch.setattr(graphs, "onnx_bytes", lambda *_: exported.read_bytes())
    store, path = studied[0], tmp_path / "small.onnx"
    export_graph(store=store, model=model(studied).reference, to="onnx", precision=precision, out=path)
    file, dataset = open_onnx(path), images(store)
    rows = dataset.rows("validation")
    crops = [dataset.images[row] for row in rows]
    ours, theirs = open_model(store, model(studied), "cpu").predict(crops), file.predict(crops)
    check = file.record.check
    assert file.record.precision == precision
    assert check is not None
    assert check.accuracy == pytest.approx(
        np.mean([dataset.classes[dataset.labels[row]] for row in rows] == np.array(theirs.labels))
    )
    assert check.same_class == pytest.approx(np.mean(np.array(ours.labels) == np.array(theirs.labels)))
    assert 1e-7 < check.largest_difference < worst
    import onnx

    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert ("QuantizeLinear" in operators) == (precision == "int8")


def test_files_that_are_no_exported_model(exported: Path, tmp_path: Path, fer: Fer) -> None:
    photo = save(tmp_path / "a.png", np.zeros((24, 24), np.uint8))

    def said(path: Path) -> str:
        return fer("predict", photo, "--model", path, "--faces", "whole")

    data = exported.read_bytes()
    assert "is an ONNX file without fer's metadata" in said(changed(exported, tmp_path / "other.onnx", **{KEY: None}))
    (tmp_path / "torn.onnx").write_bytes(data[: len(data) // 2])
    assert "is damaged" in said(tmp_path / "torn.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert "is empty" in said(tmp_path / "empty.onnx")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "model.pth")
    assert "is no ONNX file that can be read" in said(tmp_path / "model.pth")
    assert "No such file" in said(tmp_path / "none.onnx")
    record = json.loads({one.key: one.value for one in _properties(exported)}[KEY])
    for key, value, words in (
        ("size", 48, "its graph is not the one that its metadata speaks of"),
        ("classes", ["a", "b"], "its graph is not the one that its metadata speaks of"),
        ("classes", ["a"] * 7, "names a class twice"),
        ("crop", 0.9999, "'crop' cannot be read"),
        ("more", 1, "'more' cannot be read"),
    ):
        assert words in said(changed(exported, tmp_path / "bad.onnx", **{KEY: json.dumps({**record, key: value})}))


def _properties(path: Path) -> Any:
    import onnx

    return onnx.load(path).metadata_props


def test_export_refuses_before_it_works(studied: tuple[Store, Artifact], tmp_path: Path, fer: Fer) -> None:
    words = ("export", model(studied).reference, "--store", studied[0].root)
    assert "does not end in .onnx" in fer(*words, "-o", tmp_path / "model.pt2", code=2)
    assert "--precision int8 is of ONNX files" in fer(*words, "--to", "torch-export", "--precision", "int8", code=2)
    assert "not a file in an existing folder" in fer(*words, "-o", tmp_path / "none" / "model.onnx")
    photo = save(tmp_path / "a.png", np.zeros((24, 24), np.uint8))
    said = fer("predict", photo, "--model", tmp_path / "m.onnx", "--device", "cuda", "--faces", "whole", code=2)
    assert "an ONNX file runs on the CPU" in said
