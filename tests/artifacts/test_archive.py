"""``fer export --to zip`` and ``fer import``: what goes out comes back whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.archive import CONSISTS_OF, NOT_EXPORTED, write_archive
from fer_cli.artifacts.archive_import import import_archive
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import leftovers, lineage, remove, verify_store
from fer_cli.artifacts.manifest import KINDS, FileEntry, Manifest, content_digest
from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.core.errors import FerError
from fer_cli.prediction.model import open_model
from fer_cli.stages.ensemble import ensemble
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.train import train
from tests.kits.toy import toy_dataset
from tests.kits.train import Fer, assert_matches, flip

SMALL = [
    *("model.backbone=test_efficientnet", "model.weights=none", "model.drop_path=0.0"),
    *("data.size=32", "train.batch=40", "train.epochs=1"),
]
Members = dict[str, bytes]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a data set, two models of it, their study and its evaluation with a report."""
    store = Store(tmp_path_factory.mktemp("archive") / "origin")
    toy_dataset(store, images=210)
    study = train(store=store, system="baseline", changes=SMALL, seeds=(0, 1), device="cpu").whole.artifact
    evaluation = evaluate_model(store=store, model=study.reference, resamples=100, device="cpu").artifact
    atomic_io.write_file(evaluation.path / "report.html", b"<img>")
    sha256 = atomic_io.sha256_file(evaluation.path / "report.html")
    files = [*evaluation.manifest.files, FileEntry(path="report.html", size=5, sha256=sha256, view=True)]
    manifest = evaluation.manifest.model_copy(update={"files": files}).sealed()
    atomic_io.write_file(evaluation.path / "manifest.json", manifest.to_bytes())
    return store


@pytest.fixture(scope="module")
def archive(origin: Store) -> Path:
    """The study as a zip."""
    path = origin.root.parent / "study.zip"
    write_archive(origin, study_of(origin), path)
    return path


def study_of(store: Store) -> Artifact:
    return store.artifacts("study")[0]


def left(store: Store) -> set[str]:
    """Return the files of a store, but for locks."""
    return {
        str(path.relative_to(store.root))
        for path in store.root.rglob("*")
        if path.is_file() and ".locks" not in path.parts
    }


def faults(store: Store) -> list[str]:
    return [str(fault) for one in verify_store(store) for fault in one.damage]


def test_a_study_comes_back_with_its_models_and_equal_bits(origin: Store, archive: Path, store: Store) -> None:
    imported = import_archive(store, archive)
    mine, theirs = imported.artifacts[0], study_of(origin)
    assert (mine.reference, mine.manifest.content) == (theirs.reference, theirs.manifest.content)
    models = {one.version for one in origin.artifacts("model")}
    assert {path.name for path in store.directories()} == {*models, theirs.version}
    images = np.random.default_rng(0).integers(0, 256, (20, 40, 40), dtype=np.uint8)
    ours, other = (open_model(where, study_of(where), "cpu").predict(images).probabilities for where in (store, origin))
    assert (ours == other).all()
    assert np.ptp(ours, axis=0).max() > 0, "a network that always says the same shows nothing"
    assert faults(store) == []
    assert store.directories()[0] == mine.path, "what was asked for is the newest"
    again = store.root.parent / "again.zip"
    write_archive(store, mine, again)
    assert again.read_bytes() == archive.read_bytes()


def test_an_ensemble_comes_with_the_models_of_its_members(origin: Store, store: Store, tmp_path: Path) -> None:
    with_ensemble = Store(tmp_path / "copy")
    shutil.copytree(origin.root, with_ensemble.root)
    models = [one.reference for one in with_ensemble.artifacts("model")]
    made = ensemble(store=with_ensemble, members=models, device="cpu").artifact
    write_archive(with_ensemble, made, tmp_path / "ensemble.zip")
    mine = import_archive(store, tmp_path / "ensemble.zip").artifacts[0]
    images = np.random.default_rng(0).integers(0, 256, (6, 40, 40), dtype=np.uint8)
    places = ((store, mine), (with_ensemble, made))
    ours, other = (open_model(where, one, "cpu").predict(images).probabilities for where, one in places)
    assert (ours == other).all()
    assert faults(store) == []


def test_what_it_was_made_from_is_known_without_its_payload(
    origin: Store, archive: Path, store: Store, fer: Fer, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(*words: str) -> str:
        capsys.readouterr()
        assert run([*words, "--store", str(store.root)]) == 0
        return capsys.readouterr().out

    import_archive(store, archive)
    dataset = origin.artifacts("dataset")[0]
    assert store.datasets() == []
    model = store.artifacts("model")[0]
    (parent,) = lineage(store, model).parents
    assert parent.artifact is not None
    assert parent.artifact.lineage_only
    assert parent.artifact.manifest.protocol == dataset.manifest.protocol
    assert f"{dataset.reference}  lineage only, no payload here" in shown("show", model.reference)
    assert "lineage only, no payload here" in shown("show", dataset.reference)
    assert f"{dataset.reference}: lineage only, no payload here to verify" in shown("verify")
    assert_matches(
        fer("eval", "--store", store.root), f"{dataset.reference} is lineage only, no payload here; make it here: fer "
    )
    shutil.copytree(dataset.path, store.root / "dataset" / dataset.name / dataset.version)
    assert "lineage only" not in shown("verify")
    score = evaluate_model(store=store, model=study_of(store).reference, resamples=100, device="cpu").artifact
    assert score.manifest.content == origin.artifacts("evaluation")[0].manifest.content


def test_gc_removes_lineage_of_what_is_gone_alone(archive: Path, store: Store) -> None:
    imported = import_archive(store, archive)
    assert leftovers(store, superseded=True) == []
    for one in store.artifacts():
        atomic_io.remove_tree(one.path)
    found = leftovers(store, superseded=False)
    assert [one.reason for one in found] == ["lineage of nothing that is here"]
    remove(store, found)
    assert left(store) == set()
    assert imported.lineage == 1


def test_an_evaluation_goes_out_without_its_report_and_no_image_of_a_data_set_does(
    origin: Store, store: Store, tmp_path: Path
) -> None:
    evaluation = origin.artifacts("evaluation")[0]
    assert evaluation.has("report.html")
    write_archive(origin, evaluation, tmp_path / "e.zip")
    with zipfile.ZipFile(tmp_path / "e.zip") as file:
        names = file.namelist()
    assert [name for name in names if not name.endswith((".json", ".parquet"))] == []
    assert sorted(name.split("/")[1] for name in names if name.startswith("lineage/")) == [
        "dataset",
        "model",
        "model",
        "study",
    ]
    mine = import_archive(store, tmp_path / "e.zip").artifacts[0]
    assert mine.manifest.content == evaluation.manifest.content
    assert mine.file("metrics.json").read_bytes() == evaluation.file("metrics.json").read_bytes()
    assert faults(store) == []


def test_every_kind_is_exported_or_says_why_not(origin: Store, fer: Fer, tmp_path: Path) -> None:
    assert set(KINDS) <= set(CONSISTS_OF) | set(NOT_EXPORTED)
    assert not set(CONSISTS_OF) & set(NOT_EXPORTED)
    out = tmp_path / "d.zip"
    said = fer("export", "dataset", "--to", "zip", "-o", out, "--store", origin.root)
    assert_matches(said, "toy@.* is of kind dataset, which is not exported; .*prepare it on the other machine")
    assert not out.exists()


def test_importing_twice_changes_nothing(archive: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", str(archive), "--store", str(store.root)]) == 0
    before = {name: (store.root / name).read_bytes() for name in left(store)}
    assert "imported" in capsys.readouterr().out
    assert run(["import", str(archive), "--store", str(store.root)]) == 0
    assert "is here already; nothing was changed" in capsys.readouterr().out
    assert {name: (store.root / name).read_bytes() for name in left(store)} == before


def test_other_content_of_the_same_version_is_refused_and_a_damaged_one_replaced(
    origin: Store, archive: Path, store: Store, fer: Fer
) -> None:
    import_archive(store, archive)
    model = store.artifacts("model")[0]
    (model.path / "model.safetensors").write_bytes(b"cut")
    assert faults(store) != []
    fer("import", archive, "--store", store.root, code=0)
    assert faults(store) == []
    entries = [
        *model.manifest.files[:-1],
        model.manifest.files[-1].model_copy(update={"sha256": "0" * 64, "view": False}),
    ]
    other = model.manifest.model_copy(update={"files": entries, "content": content_digest(entries)}).sealed()
    (model.path / "manifest.json").write_bytes(other.to_bytes())
    before = left(store)
    assert_matches(
        fer("import", archive, "--store", store.root), "is here already, with other content than the file's; "
    )
    assert left(store) == before


class _KilledError(BaseException):
    """As after a kill nothing that follows changes the disk either."""


def test_a_kill_at_any_step_leaves_nothing_half_written(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = 0
    for number in range(0, 200, 3):
        store = Store(tmp_path / f"store{number}")
        with monkeypatch.context() as patch:
            _die_before(number, patch)
            try:
                import_archive(store, archive)
                break
            except _KilledError:
                killed += 1
        there = [one.kind for one in store.artifacts()]
        assert [one for one in faults(store) if "no such artifact" not in one] == []
        assert "study" not in there or there.count("model") == 2
        remove(store, leftovers(store, superseded=False))
        assert not list(store.root.glob(".import-*"))
        import_archive(store, archive)
        assert faults(store) == []
        assert len(store.artifacts()) == 3
    assert killed > 10


def _die_before(number: int, patch: pytest.MonkeyPatch) -> None:
    count = 0

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if count == number:
                raise _KilledError
            count += 1
            return step(*arguments, **options)

        return run

    for name in ("make_directory", "write_file", "write_stream", "publish", "remove_tree", "sync"):
        patch.setattr(atomic_io, name, counted(getattr(atomic_io, name)))


# Hostile files: each is the honest one with one change.


def members_of(path: Path) -> Members:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def written(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def one_of(members: Members, end: str, start: str = "artifacts/model") -> str:
    return next(name for name in members if name.startswith(start) and name.endswith(end))


def resealed(members: Members, name: str, **changes: Any) -> None:
    """Change a manifest and seal it, as who made it could."""
    manifest = Manifest.model_validate_json(members[name]).model_copy(update=changes)
    if "files" in changes and "content" not in changes:
        manifest = manifest.model_copy(update={"content": content_digest(manifest.files)})
    members[name] = manifest.sealed().to_bytes()


def _traversal(members: Members) -> None:
    members["artifacts/model/../../../../escaped/evil.txt"] = b"x"


def _absolute(members: Members) -> None:
    members["/tmp/escaped.txt"] = b"x"


def _backslash(members: Members) -> None:
    members["..\\escaped.txt"] = b"x"


def _hidden_file(members: Members) -> None:
    members[one_of(members, "manifest.json").replace("manifest.json", ".part")] = b"x"


def _other_kind(members: Members) -> None:
    name = one_of(members, "manifest.json", "lineage/dataset")
    members[name.replace("lineage/", "artifacts/")] = members[name]


def _unknown_file(members: Members) -> None:
    members[one_of(members, "manifest.json").replace("manifest.json", "more.bin")] = b"x"


def _missing_file(members: Members) -> None:
    del members[one_of(members, "history.jsonl")]


def _missing_model(members: Members) -> None:
    folder = one_of(members, "manifest.json").rpartition("/")[0]
    for name in [name for name in members if name.startswith(folder)]:
        del members[name]


def _other_byte(members: Members) -> None:
    name = one_of(members, "model.safetensors")
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])


def _shorter_file(members: Members) -> None:
    name = one_of(members, "model.safetensors")
    members[name] = members[name][:-1]


def _bomb(members: Members) -> None:
    name = one_of(members, "history.jsonl")
    members[name] = bytes(50 << 20)


def _unsealed(members: Members) -> None:
    name = one_of(members, "manifest.json")
    members[name] = members[name].replace(b'"seeds": [\n    0', b'"seeds": [\n    7')


def _deep(members: Members) -> None:
    members[one_of(members, "manifest.json")] = b"[" * 200_000


def _file_elsewhere(members: Members) -> None:
    name = one_of(members, "manifest.json")
    entries = [FileEntry(path="../../../escaped", size=0, sha256="0" * 64)]
    resealed(members, name, files=entries)


def _input_elsewhere(members: Members) -> None:
    name = one_of(members, "manifest.json")
    inputs = Manifest.model_validate_json(members[name]).inputs
    resealed(members, name, inputs={"dataset": inputs["dataset"].model_copy(update={"name": "../../../../etc"})})


def _other_place(members: Members) -> None:
    name = one_of(members, "manifest.json")
    resealed(members, name, version="0" * 12)


def _of_itself(members: Members) -> None:
    study = Manifest.model_validate_json(members[one_of(members, "manifest.json", "artifacts/study")])
    name = one_of(members, "manifest.json", "lineage/dataset")
    source = next(iter(study.inputs.values()))
    resealed(members, name, inputs={"model": source})


def _command(members: Members) -> None:
    resealed(members, one_of(members, "manifest.json", "lineage/"), measured={"command": "fer prepare x; rm -rf ~"})


def _other_form(members: Members) -> None:
    resealed(members, one_of(members, "manifest.json"), summary={"headline": 7})


def _wrong_hash(members: Members) -> None:
    resealed(members, one_of(members, "manifest.json"), content="0" * 64)


def _headless(members: Members) -> None:
    del members["fer.json"]


def _newer(members: Members) -> None:
    members["fer.json"] = json.dumps({"format": 2, "anything": []}).encode()


def _head_of_other(members: Members) -> None:
    members["fer.json"] = json.dumps({"format": 1, "fer": "1", "references": ["model/none@000000000000"]}).encode()


def _deep_head(members: Members) -> None:
    members["fer.json"] = b'{"a":' * 100_000


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_traversal, "'artifacts/model/../../../../escaped/evil.txt' is no name of a file of an export"),
        (_absolute, "'/tmp/escaped.txt' is no name of a file"),
        (_backslash, "is no name of a file"),
        (_hidden_file, "part' is no name of a file"),
        (_other_kind, "artifacts/dataset/.* is no name of a file"),
        (_unknown_file, "holds 'artifacts/model/.*/more.bin', which no manifest in it names"),
        (_missing_file, "holds no 'artifacts/model/.*history.jsonl'"),
        (_missing_model, "holds study/.* without model/.*, of which it consists"),
        (_other_byte, "model.safetensors: sha256 [0-9a-f]{16}, expected "),
        (_shorter_file, "model.safetensors' has [0-9,]+ bytes, its manifest says"),
        (_bomb, "would unpack to 5[0-9],.* bytes, more than 20 times its own"),
        (_unsealed, "manifest.json: the manifest does not match its own seal"),
        (_deep, "manifest.json: the manifest is not valid JSON"),
        (_file_elsewhere, "names a file '../../../escaped', which is no name of one"),
        (_input_elsewhere, "was made from dataset/../../../../etc@.*, which is no reference"),
        (_other_place, "is the manifest of model/.*@000000000000"),
        (_of_itself, "was made from itself"),
        (_command, "was made by a command that is not fer's"),
        (_other_form, "manifest key 'summary"),
        (_wrong_hash, "has another hash of its files than it says"),
        (_headless, "is no export of fer: it holds no fer.json"),
        (_newer, "is of format 2, this fer reads format 1; use the version of fer that wrote it"),
        (_head_of_other, "does not hold model/none@000000000000, which it names"),
        (_deep_head, "fer.json is not valid JSON"),
    ],
)
def test_a_hostile_file_is_one_line_and_changes_nothing(
    change: Callable[[Members], None], expected: str, archive: Path, store: Store, fer: Fer, tmp_path: Path
) -> None:
    members = members_of(archive)
    change(members)
    said = fer("import", written(tmp_path / "hostile.zip", members), "--store", store.root)
    assert_matches(said, expected)
    assert left(store) == set()
    assert not [path for path in tmp_path.rglob("*") if "escaped" in path.name]


def test_the_honest_file_packed_again_by_another_program_is_taken(archive: Path, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "again.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.mkdir("artifacts")
        for name, data in members_of(archive).items():
            file.writestr(name, data)
    assert len(import_archive(store, path).added) == 3


def _flags(data: bytes, at: int, value: int) -> bytes:
    """Change a field of two bytes in the first entry of the table of contents."""
    start = data.index(b"PK\x01\x02") + at
    return data[:start] + struct.pack("<H", value) + data[start + 2 :]


def _table(data: bytes) -> bytes:
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 100 << 20, 0, 0)
    return data + bytes((100 << 20) - len(data)) + end


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: b"a text", "cannot be read as a zip"),
        (lambda data: b"", "cannot be read as a zip"),
        (lambda data: data[: len(data) // 2], "cannot be read as a zip"),
        (lambda data: data[100:], "is no export|cannot be read as a zip|is no name"),
        (lambda data: _flags(data, 8, 1), "'fer.json' in it is encrypted"),
        (lambda data: _flags(data, 8, 0x20), "cannot be read as a zip"),
        (lambda data: _flags(data, 10, 12), "'fer.json' in it is neither stored nor deflated"),
        (lambda data: data.replace(b"fer.json", b"fer\0json"), "is no name of a file"),
        (_table, "its table of contents has 104,857,600 bytes"),
    ],
)
def test_a_file_that_is_no_plain_zip_is_one_line(
    change: Callable[[bytes], bytes], expected: str, archive: Path, store: Store, fer: Fer, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.zip"
    path.write_bytes(change(archive.read_bytes()))
    assert_matches(fer("import", path, "--store", store.root), expected)
    assert left(store) == set()


def test_links_doubles_and_pipes_are_refused(archive: Path, store: Store, fer: Fer, tmp_path: Path) -> None:
    members = members_of(archive)
    link = zipfile.ZipInfo(one_of(members, "manifest.json").replace("manifest.json", "link"))
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = written(tmp_path / "link.zip", members)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    assert_matches(fer("import", path, "--store", store.root), "link' in it is a link or a device, not a file")
    path = written(tmp_path / "double.zip", members)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("fer.json", "{}")
    assert_matches(fer("import", path, "--store", store.root), "holds 'fer.json' twice")
    os.mkfifo(tmp_path / "pipe")
    assert_matches(fer("import", tmp_path / "pipe", "--store", store.root), "is a pipe or a device")
    assert_matches(fer("import", tmp_path / "none.zip", "--store", store.root), "No such file")
    assert left(store) == set()


def test_a_damaged_artifact_is_not_exported(origin: Store, tmp_path: Path) -> None:
    shutil.copytree(origin.root, tmp_path / "copy")
    store = Store(tmp_path / "copy")
    flip(store.artifacts("model")[0].path / "model.safetensors", 1000)
    with pytest.raises(FerError, match="sha256 "):
        write_archive(store, study_of(store), tmp_path / "x.zip")
    assert not list(tmp_path.glob("*.zip*"))
    assert not list(tmp_path.glob(".*part"))
