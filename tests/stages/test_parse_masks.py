"""parse-masks: what it writes, and that stopping, killing, resuming, sharing and reusing change nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import verify_directory
from fer_cli.artifacts.payload import read_array, read_table
from fer_cli.artifacts.store import Store
from fer_cli.core import machine
from fer_cli.core.errors import FerError, PreemptedError, UsageError
from fer_cli.core.labels import REGIONS
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.synth.loader import Synth
from fer_cli.faces import parsing
from fer_cli.faces.compact import CompactParser, open_compact, tensors_to_keep
from fer_cli.faces.masks import DOUBTFUL, SCORES, Masks, open_masks
from fer_cli.faces.parsers import Parsed, ParseRows
from fer_cli.faces.quality import QualityThresholds, score
from fer_cli.faces.regions import DEFAULT_GROUPING, PARTS, grouping
from fer_cli.faces.template import balanced
from fer_cli.stages.parse_masks import parse_masks
from fer_cli.stages.prepare import prepare
from fer_cli.weights.files import WeightsFile
from tests.kits.toy import toy_dataset


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded network whose answers differ from picture to picture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = CompactParser()
        with torch.no_grad():  # statistics of its own activations, so that its answers vary over a picture
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = 1.0
            logits = network.train()(2 * torch.randn(64, 3, 32, 32))
            bias = network.head.bias
            assert bias is not None
            bias.sub_(logits.mean((0, 2, 3)))
            network.head.weight.mul_(20)
            bias.mul_(20)
    path = tmp_path_factory.mktemp("compact") / "seeded.safetensors"
    save_file(tensors_to_keep(network), path)
    return path


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "BLOCK", 32)


def run(store: Store, weights: Path, **options: object) -> Artifact:
    settings = {"parser": "compact", "weights": str(weights), "size": 32, "precision": "float32", "batch": 16}
    settings.update(options)
    return parse_masks(store=store, **settings).artifact  # type: ignore[arg-type]


def opened(store: Store, artifact: Artifact) -> tuple[Dataset, Masks]:
    entry = artifact.manifest.inputs["dataset"]
    dataset = open_dataset(store.find(f"dataset/{entry.name}@{entry.version}", ["dataset"]))
    return dataset, open_masks(artifact, dataset)


@pytest.mark.parametrize("grey", [True, False], ids=["grey", "colour"])
def test_maps_and_scores_are_those_of_the_parser(store: Store, weights: Path, grey: bool) -> None:
    toy_dataset(store, images=40, grey=grey)
    artifact = run(store, weights)
    dataset, masks = opened(store, artifact)
    parser = open_compact(WeightsFile(weights, "file", "?"), grouping=grouping(), size=32, mirror=True, device="cpu")
    parts = [parser.parse(np.asarray(dataset.images[start : start + 16])) for start in (0, 16, 32)]
    maps = np.concatenate([part.maps for part in parts])
    assert maps.shape == (40, 24, 24)
    assert len(np.unique(maps)) > 3
    np.testing.assert_array_equal(masks.maps(range(40)), maps)
    np.testing.assert_array_equal(masks.maps([7, 3]), maps[[7, 3]])
    agreement, confidence = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("agreement", "confidence")
    )
    expected = score(maps, agreement, confidence, QualityThresholds())
    table = masks.scores()
    assert table["id"].to_pylist() == dataset.ids.tolist()
    assert table["pixels"].to_pylist() == dataset.pixels.tolist()
    assert table["reasons"].to_pylist() == expected.reasons
    np.testing.assert_array_equal(table["doubt"], expected.doubt)
    np.testing.assert_array_equal(table["agreement"], agreement)
    assert artifact.manifest.config["grouping"] == dict(DEFAULT_GROUPING)
    assert artifact.manifest.config["regions"] == list(REGIONS)
    summary = artifact.manifest.summary
    assert summary["doubtful"] == sum(bool(found) for found in expected.reasons)
    assert sum(summary["regions"].values()) == pytest.approx(1, abs=1e-3)
    assert verify_directory(artifact.path) == []
    files = {path.name for path in artifact.path.iterdir()}
    assert files == {"manifest.json", "maps.npy", "spans.npy", SCORES, DOUBTFUL}


def test_precision_is_part_of_the_version_and_changes_little(
    store: Store, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_dataset(store, images=40)
    exact, rough = (run(store, weights, precision=precision) for precision in ("float32", "bfloat16"))
    assert exact.version != rough.version
    assert rough.manifest.summary["precision"] == "bfloat16"
    maps = [opened(store, one)[1].maps(range(40)) for one in (exact, rough)]
    assert 0.9 < (maps[0] == maps[1]).mean() < 1  # of a network with random weights, which is sure of nothing
    for native, same in ((True, rough), (False, exact)):
        monkeypatch.setattr(machine, "fast_bfloat16", lambda _, native=native: native)
        assert run(store, weights, precision="auto").reference == same.reference


def test_the_doubtful_are_listed_the_most_doubtful_first(store: Store, weights: Path) -> None:
    toy_dataset(store, images=60)
    artifact = run(store, weights)
    listed = read_table(artifact.file(DOUBTFUL))
    scores = read_table(artifact.file(SCORES))
    assert 0 < len(listed) == artifact.manifest.summary["doubtful"]
    assert set(listed["id"].to_pylist()) == {
        name for name, reasons in zip(scores["id"].to_pylist(), scores["reasons"].to_pylist(), strict=True) if reasons
    }
    doubts = listed["doubt"].to_pylist()
    assert doubts == sorted(doubts, reverse=True)


def test_a_second_run_does_nothing_and_each_setting_is_a_version(store: Store, weights: Path) -> None:
    toy_dataset(store, images=20)
    first = parse_masks(store=store, parser="compact", weights=str(weights), size=32)
    again = parse_masks(store=store, parser="compact", weights=str(weights), size=32, batch=7)
    assert (first.up_to_date, again.up_to_date) == (False, True)
    assert again.artifact.reference == first.artifact.reference
    others = [run(store, weights, **options) for options in ({"mirror": False}, {"size": 64}, {"groups": ["hat=hair"]})]
    assert len({first.artifact.reference, *(other.reference for other in others)}) == 4
    assert others[2].name == "toy-compact-32-regrouped"
    assert others[2].manifest.config["grouping"]["hat"] == "hair"


def test_without_its_mirror_image_a_map_has_no_agreement(store: Store, weights: Path) -> None:
    toy_dataset(store, images=20)
    _, masks = opened(store, run(store, weights, mirror=False))
    assert masks.scores()["agreement"].null_count == 20
    assert masks.scores()["confidence"].null_count == 0
    assert not any("mirror" in reasons for reasons in masks.scores()["reasons"].to_pylist())


def test_parts_move_where_the_grouping_says(store: Store, weights: Path) -> None:
    toy_dataset(store, images=30)
    _, plain = opened(store, run(store, weights))
    everything = [f"{part}=skin" for part in PARTS if part != "background"]
    _, merged = opened(store, run(store, weights, groups=everything))
    values = set(np.unique(merged.maps(range(30))).tolist())
    assert values <= {REGIONS.index("background"), REGIONS.index("skin")}
    assert len(np.unique(plain.maps(range(30)))) > 2


@pytest.mark.usefixtures("small_blocks")
def test_stopped_work_goes_on_where_it_was(
    store: Store, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_dataset(store, images=150)
    other = Store(tmp_path / "other")
    toy_dataset(other, images=150)
    reference = run(other, weights).manifest.content
    saved = []
    save = parsing._save

    def counting(block: int, *arguments: object) -> dict[str, int]:
        saved.append(block)
        if len(saved) == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
        return save(block, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(parsing, "_save", counting)
    with pytest.raises(PreemptedError, match="stopped by SIGUSR1") as caught:
        run(store, weights)
    assert caught.value.exit_code == 75
    assert not store.directories(["masks"])
    assert len(saved) < 5
    assert run(store, weights).manifest.content == reference
    assert sorted(saved) == [0, 1, 2, 3, 4], "each of the five blocks was parsed once"


@pytest.mark.usefixtures("small_blocks")
def test_work_that_was_stopped_after_its_last_block_is_put_together(
    store: Store, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left to parse, so nothing that parsing needs is imported: not pyarrow.compute either."""
    toy_dataset(store, images=70)
    other = Store(tmp_path / "other")
    toy_dataset(other, images=70)
    reference = run(other, weights).manifest.content

    def full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("fer_cli.stages.parse_masks.assemble", full_disk)
        with pytest.raises(OSError, match="No space left"):
            run(store, weights)
    monkeypatch.delattr(pyarrow, "compute", raising=False)
    monkeypatch.delitem(sys.modules, "pyarrow.compute", raising=False)
    assert run(store, weights).manifest.content == reference


@pytest.mark.usefixtures("small_blocks")
def test_a_block_that_the_disk_lost_is_parsed_again(
    store: Store, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_dataset(store, images=150)
    other = Store(tmp_path / "other")
    toy_dataset(other, images=150)
    reference = run(other, weights).manifest.content
    with monkeypatch.context() as patch:
        patch.setattr("fer_cli.stages.parse_masks.assemble", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(store, weights)
    partial = next(store.root.glob("masks/*/.partial-*"))
    damaged = partial / parsing.block_name(3)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    (partial / parsing.block_name(1)).unlink()
    with (partial / "journal-0.jsonl").open("a") as stream:
        stream.write('{"block": 99, "crc32": {"file": 0}}\n{"block": 1, "cr')
    parsed: list[int] = []
    save = parsing._save

    def noting(block: int, *arguments: object) -> dict[str, int]:
        parsed.append(block)
        return save(block, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(parsing, "_save", noting)
    artifact = run(store, weights)
    assert artifact.manifest.content == reference
    assert sorted(parsed) == [1, 3]
    assert verify_directory(artifact.path) == []


def test_maps_of_the_same_pictures_are_taken_over(
    store: Store, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set that grew, or shares its pictures with another: what is known is not parsed again."""
    monkeypatch.setattr(parsing, "BLOCK", 32)
    few = toy_dataset(store, images=64)
    run(store, weights, dataset=few.reference)
    many = toy_dataset(store, images=100)
    known = np.isin(open_dataset(many).pixels, open_dataset(few).pixels).sum()
    assert 0 < known < 100
    sizes: list[int] = []
    parse = parsing.parse_dataset

    def spying(parse_rows: ParseRows, *arguments: object, **options: object) -> float | None:
        def counted(rows: NDArray[np.int64]) -> Parsed:
            sizes.append(len(rows))
            return parse_rows(rows)

        return parse(counted, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("fer_cli.stages.parse_masks.parse_dataset", spying)
    grown = run(store, weights, dataset=many.reference)
    assert sum(sizes) == 100 - known
    assert grown.manifest.measured["taken_over"] == known
    other = Store(tmp_path / "other")
    whole = run(other, weights, dataset=toy_dataset(other, images=100).reference)
    assert grown.version == whole.version
    (_, ours), (_, theirs) = opened(store, grown), opened(other, whole)
    assert (ours.maps(range(100)) == theirs.maps(range(100))).mean() > 0.9999, "equal but for ties in the last bit"
    assert ours.scores()["id"].to_pylist() == theirs.scores()["id"].to_pylist()
    sizes.clear()
    run(store, weights, dataset=many.reference, force=True)
    assert sum(sizes) == 100, "--force parses all"
    sizes.clear()
    run(store, weights, dataset=few.reference, groups=["hat=hair"])
    assert sum(sizes) == 64, "another grouping is another map"


def test_two_processes_share_the_work(store: Store, weights: Path, tmp_path: Path) -> None:
    toy_dataset(store, images=1100)
    other = Store(tmp_path / "other")
    toy_dataset(other, images=1100)
    reference = run(other, weights)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "fer_cli", "parse-masks", "--parser", "compact", "--weights", str(weights), "--size", "32"]
    done = subprocess.run(
        [*command, "--batch", "16", "--precision", "float32", "--store", str(store.root)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    shared = store.find(None, ["masks"])
    assert shared.version == reference.version
    assert shared.manifest.measured["processes"] == 2
    (_, ours), (_, theirs) = opened(store, shared), opened(other, reference)
    assert (ours.maps(range(1100)) == theirs.maps(range(1100))).mean() > 0.9999
    assert done.stdout.count("written") == 1, "one process speaks"


def test_truth_is_that_of_the_drawn_faces(store: Store) -> None:
    prepare(store=store, loader=Synth(images=96, subjects=12, size=48, imbalance=2.0, jobs=1))
    artifact = parse_masks(store=store, parser="truth").artifact
    dataset, masks = opened(store, artifact)
    np.testing.assert_array_equal(masks.maps(range(96)), read_array(dataset.artifact.file("masks.npy")))
    assert artifact.name == "synth-truth"
    assert artifact.manifest.summary["doubtful"] <= 5, "a sound face gives no reason to doubt it"


def test_a_template_is_one_symmetric_map_of_the_training_faces(store: Store, weights: Path) -> None:
    toy_dataset(store, images=50)
    artifact = run(store, weights, parser="template")
    dataset, masks = opened(store, artifact)
    maps = masks.maps(range(50))
    assert (maps == maps[0]).all()
    assert len(masks.blob) < 600, "one map is kept once"
    parser = open_compact(WeightsFile(weights, "file", "?"), grouping=grouping(), size=32, mirror=True, device="cpu")
    found = parser.parse(np.asarray(dataset.images[dataset.rows("train")])).maps
    both = np.concatenate([found, found[:, :, ::-1]])
    wanted = np.stack([(both == region).mean(0) for region in range(len(REGIONS))]).sum((1, 2))
    room = np.bincount(maps[0].ravel(), minlength=len(REGIONS))
    np.testing.assert_array_equal(maps[0], maps[0][:, ::-1])
    np.testing.assert_allclose(room, wanted, atol=0.03 * maps[0].size)
    assert artifact.manifest.summary["training_images"] == len(found)


def test_a_template_keeps_small_regions_that_move_about() -> None:
    """At no pixel is the eye as frequent as the skin, yet every face has one."""
    rows, columns = np.indices((24, 24))
    eye = 0.3 * np.exp(-((rows - 9) ** 2 + (np.abs(columns - 11.5) - 5) ** 2) / 8)
    shares = np.zeros((len(REGIONS), 24, 24))
    shares[REGIONS.index("eye")] = eye
    shares[REGIONS.index("skin")] = 1 - eye
    assert not (shares.argmax(0) == REGIONS.index("eye")).any()
    found = balanced(shares) == REGIONS.index("eye")
    assert found.sum() == pytest.approx(eye.sum(), abs=3)
    assert found[9, 6]
    assert found[9, 17]
    np.testing.assert_array_equal(found, found[:, ::-1])


def test_masks_of_another_version_are_refused(store: Store, weights: Path) -> None:
    first = toy_dataset(store, images=20)
    artifact = run(store, weights, dataset=first.reference)
    second = toy_dataset(store, images=20, seed=1)
    with pytest.raises(FerError, match=f"has the masks of toy@{first.version}, not of dataset/toy@{second.version}"):
        open_masks(artifact, open_dataset(second))


def test_damaged_masks_are_named(store: Store, weights: Path) -> None:
    dataset = open_dataset(toy_dataset(store, images=20))
    artifact = run(store, weights)
    masks = open_masks(artifact, dataset)
    path = artifact.path / "maps.npy"
    data = bytearray(path.read_bytes())
    data[128 + int(masks.spans[5, 0]) + 10] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(FerError, match=r"maps\.npy: block 0 .* has checksum .*--force"):
        open_masks(artifact, dataset).maps([5])
    assert verify_directory(artifact.path)


@pytest.mark.parametrize(("old", "new"), [(b"<i8", b"<f8"), (b"<i8", b"|S8")])
def test_damage_to_the_kind_of_an_array_is_named(store: Store, weights: Path, old: bytes, new: bytes) -> None:
    dataset = open_dataset(toy_dataset(store, images=20))
    artifact = run(store, weights)
    path = artifact.path / "spans.npy"
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(FerError, match=r"spans\.npy: block 0 .* has checksum"):
        open_masks(artifact, dataset)
    pixels = dataset.artifact.path / "images.npy"
    pixels.write_bytes(pixels.read_bytes().replace(b"|u1", b"|i1", 1))
    with pytest.raises(FerError, match=r"images\.npy: block 0 .* has checksum"):
        open_dataset(dataset.artifact)


@pytest.mark.parametrize("kind", ["sparse", "meta", "complex"])
def test_weights_without_plain_numbers_are_refused(store: Store, weights: Path, tmp_path: Path, kind: str) -> None:
    toy_dataset(store, images=20)
    tensors = load_file(weights)
    how = {"sparse": lambda one: one.to_sparse(), "meta": lambda one: one.to("meta"), "complex": torch.view_as_complex}
    odd = torch.stack([tensors["head.bias"]] * 2, -1) if kind == "complex" else tensors["head.bias"]
    tensors["head.bias"] = how[kind](odd)
    torch.save(tensors, tmp_path / "odd.pth")
    with pytest.raises(FerError, match=r"odd\.pth: does not fit the network: 1 hold no plain numbers \(head\.bias\)"):
        run(store, tmp_path / "odd.pth")


def test_what_cannot_be_done_is_said_in_one_line(store: Store, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(FerError, match="no dataset artifact yet; make one with 'fer prepare'"):
        run(store, weights)
    toy_dataset(store, images=20)
    text, short, foreign = (
        tmp_path / "text.safetensors",
        tmp_path / "short.safetensors",
        tmp_path / "foreign.safetensors",
    )
    text.write_text("weights")
    short.write_bytes(weights.read_bytes()[:-1000])
    save_file({"fc.weight": torch.zeros(2, 2)}, foreign)
    cases: list[tuple[dict[str, object], type[FerError], str]] = [
        ({"parser": "dlib"}, UsageError, "--parser 'dlib' is not a parser; take auto, bisenet, compact"),
        ({"precision": "float8"}, UsageError, "--precision 'float8' is none; take auto, float32 or bfloat16"),
        ({"groups": ["brow=skin", "brow=eye"]}, UsageError, "--group 'brow=eye' assigns brow twice"),
        ({"batch": 0}, UsageError, "--batch 0 is not a number"),
        ({"size": 50}, UsageError, "--size 50: the compact parser takes multiples of 32 px; take 64"),
        ({"size": 0}, UsageError, "--size 0"),
        ({"groups": ["beard=skin"]}, UsageError, "--group 'beard=skin' does not name a part of the face"),
        ({"groups": ["brow=forehead"]}, UsageError, "--group 'brow=forehead' does not name a region"),
        (
            {"parser": "auto"},
            UsageError,
            "--weights needs --parser: the file does not say which network it belongs to",
        ),
        ({"parser": "truth", "weights": None, "size": None}, FerError, "dataset/toy@[0-9a-f]+ has no true masks"),
        ({"weights": str(tmp_path / "none")}, FerError, "no such file"),
        ({"weights": str(text)}, FerError, "not a safetensors file"),
        ({"weights": str(short)}, FerError, "not a safetensors file"),
        ({"weights": str(foreign)}, FerError, "does not fit the network: .*'python -m tools.train_parser'"),
        ({"weights_sha256": "0" * 64}, FerError, "sha256 [0-9a-f]{16}, expected 0000000000000000"),
        ({"parser": "bisenet"}, FerError, "sha256 is .*, expected 468e13ca13a9b43c"),
        ({"parser": "bisenet", "weights": None}, FerError, "https://.*parsing_bisenet.pth.*468e13ca13a9b43cc.*compact"),
    ]
    for options, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            parse_masks(store=store, **{"parser": "compact", "weights": str(weights), "size": 32, **options})  # type: ignore[arg-type]
        assert type(caught.value) is kind
        assert "\n" not in str(caught.value)
    assert not list((store.root / "masks").glob("**/manifest.json"))


def test_the_default_is_bisenet_where_its_weights_are_and_says_what_it_took(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toy_dataset(store, images=20)
    artifact = parse_masks(store=store, size=32).artifact
    assert artifact.name == "toy-compact-32"
    assert "parser compact: the weights of bisenet are not here" in capsys.readouterr().err
    (tmp_path / "parsing_bisenet.pth").write_bytes(b"not the published ones")
    monkeypatch.setenv("FER_WEIGHTS", str(tmp_path))
    with pytest.raises(FerError, match=r"parsing_bisenet\.pth: .*expected 468e13ca13a9b43c"):
        parse_masks(store=store)
