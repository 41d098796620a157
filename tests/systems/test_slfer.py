"""SLFER: what each head learns from and moves, its targets, and that only the expression branch is left in a model."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError, PreemptedError
from fer_cli.core.labels import REGIONS
from fer_cli.datasets.dataset import open_dataset
from fer_cli.datasets.synth.loader import Synth
from fer_cli.evaluation.predictors.model import read_history
from fer_cli.faces.masks import open_masks
from fer_cli.losses.cross_entropy import CrossEntropy
from fer_cli.models.backbones import Preprocessing
from fer_cli.models.classifier import open_classifier, perceptron
from fer_cli.models.trained import WEIGHTS
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.parse_masks import parse_masks
from fer_cli.stages.prepare import prepare
from fer_cli.stages.train import train
from fer_cli.systems.registry import read_recipe
from fer_cli.systems.slfer import network as slfer_network
from fer_cli.systems.slfer.loss import SLFERLoss, largest_regions
from fer_cli.systems.slfer.network import HIDDEN, SLFER
from fer_cli.systems.slfer.targets import SLFERTargets
from fer_cli.systems.trained import open_trained
from fer_cli.training.augmentation import apply, apply_to_maps
from fer_cli.training.inputs import ClassTargets
from fer_cli.training.recipe import Augmentation
from tests.kits.toy import toy_dataset
from tests.training.test_training import equal, stop_after

SMALL = (
    *("model.backbone=test_resnet", "model.weights=none", "model.attention=none", "data.size=32", "data.crop=0.125"),
    *("train.batch=20", "train.epochs=2", "augmentation.erase=0.0"),
)
PLAIN = Preprocessing(48, (0.0,) * 3, (1 / 255,) * 3, "bilinear")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("faces"))
    prepare(store=store, loader=Synth(images=160, subjects=20, size=32, imbalance=1.5, grey=True))
    parse_masks(store=store, parser="truth")
    return store


def model(store: Store, *changes: str, **options: Any) -> Artifact:
    return train(store=store, system="slfer", changes=[*SMALL, *changes], device="cpu", **options).whole.artifact


def network(*, segmentation: bool = True, components: bool = True, name: str = "test_resnet", size: int = 32) -> SLFER:
    built = open_classifier(name, classes=5, size=size, weights=None, hidden=HIDDEN)
    return SLFER(built.network, segmentation=segmentation, components=components, size=size).train()


def targets(size: int = 32, images: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, len(REGIONS), (images, size, size), generator=generator)
    return torch.arange(images) % 5, maps, largest_regions(maps, 4)


@pytest.mark.parametrize("head", ["expression", "segmentation", "components"])
def test_each_head_moves_itself_and_the_backbone_and_nothing_else(head: str) -> None:
    built = network()
    logits, regions, large = built(torch.randn(4, 3, 32, 32))
    assert regions is not None
    assert large is not None
    assert regions.shape == (4, len(REGIONS), 32, 32)
    loss = SLFERLoss(CrossEntropy(), segmentation=0.5, components=0.5)
    classes, maps, components = targets()
    whole = loss((logits, regions, large), (classes, maps, components))
    parts = {
        "expression": loss((logits, None, None), (classes, maps, components)),
        "segmentation": loss((logits.detach(), regions, None), (classes, maps, components)),
        "components": loss((logits.detach(), None, large), (classes, maps, components)),
    }
    base = float(parts["expression"].detach())
    assert float(whole.detach()) == pytest.approx(
        sum(float(part.detach()) - base for part in parts.values()) + base, rel=1e-5
    )
    parts[head].backward()
    moved = {name for name, value in built.named_parameters() if value.grad is not None and value.grad.any()}
    own = {
        "expression": "expression.classifier.",
        "segmentation": "segmentation.",
        "components": "components.",
    }
    for other, prefix in own.items():
        names = {name for name, _ in built.named_parameters() if name.startswith(prefix)}
        assert names
        assert (names & moved == set()) if other != head else (len(names & moved) > len(names) // 2), (other, head)
    assert any(name.startswith("expression.backbone.conv1") or ".stem." in name for name in moved), (
        "the first layer too"
    )


def test_the_losses_are_what_loops_give() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 5, generator=generator)
    regions = torch.randn(3, len(REGIONS), 4, 4, generator=generator)
    large = torch.randn(3, len(REGIONS), generator=generator)
    classes, maps, components = targets(4, 3)
    found = SLFERLoss(CrossEntropy(), segmentation=0.3, components=0.7)(
        (logits, regions, large), (classes, maps, components)
    )

    def log_share(values: list[float], of: int) -> float:
        return values[of] - math.log(sum(math.exp(value) for value in values))

    expected = sum(-log_share(logits[i].tolist(), int(classes[i])) for i in range(3)) / 3
    pixels = [(i, row, column) for i in range(3) for row in range(4) for column in range(4)]
    for i, row, column in pixels:
        expected -= 0.3 * log_share(regions[i, :, row, column].tolist(), int(maps[i, row, column])) / len(pixels)
    for i in range(3):
        for region in range(len(REGIONS)):
            share = 1 / (1 + math.exp(-float(large[i, region])))
            expected -= 0.7 * math.log(share if components[i, region] else 1 - share) / 3
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_largest_regions_are_those_that_counting_gives() -> None:
    generator = np.random.default_rng(0)
    maps = generator.choice(len(REGIONS), (20, 6, 6), p=[0.3, 0.3, 0.05, 0, 0.1, 0.1, 0.05, 0.1])
    maps[0] = 1  # one region alone
    for number in (1, 4, 8):
        large = largest_regions(torch.from_numpy(maps), number).numpy()
        for one, found in zip(maps, large, strict=True):
            counts = Counter(one.ravel().tolist())
            ranked = sorted(counts, key=lambda region: (-counts[region], region))
            assert set(np.flatnonzero(found)) == set(ranked[:number])


def test_maps_move_with_their_pictures() -> None:
    """A picture whose grey says its region and its map stay together under whatever moves them."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, len(REGIONS), (40, 4, 4))
    maps = np.kron(blocks, np.ones((12, 12), int)).astype(np.uint8)
    index = torch.arange(40)
    how = Augmentation(flip=0.5, rotation=20.0, scale=0.2, shift=0.1)
    for preprocessing in (PLAIN, Preprocessing(48, (0.0,) * 3, (1 / 255,) * 3, "bilinear", 0.2)):
        x = apply(torch.from_numpy(maps * 30), index, seed=3, epoch=2, settings=how, preprocessing=preprocessing)[:, 0]
        moved = apply_to_maps(torch.from_numpy(maps), index, seed=3, epoch=2, settings=how, preprocessing=preprocessing)
        assert moved.shape == (40, 48, 48)
        agree = ((x - moved * 30.0).abs() < 1).float().mean()
        assert agree > 0.7, "inside the blocks; on their borders a picture is blurred and a map is not"
        still = apply_to_maps(
            torch.from_numpy(maps), index + 1, seed=3, epoch=2, settings=how, preprocessing=preprocessing
        )
        assert ((x - still * 30.0).abs() < 1).float().mean() < 0.5, "another image's movement does not fit"
    same = apply_to_maps(torch.from_numpy(maps), index, seed=0, epoch=0, settings=Augmentation(), preprocessing=PLAIN)
    assert set(np.unique(same)) <= set(range(len(REGIONS)))


def test_a_crop_is_at_the_centre_without_augmentation_and_anywhere_with_it() -> None:
    picture = torch.arange(64, dtype=torch.uint8).repeat(64, 1)[None].repeat(200, 1, 1)
    cropped = Preprocessing(48, (0.0,) * 3, (1 / 255,) * 3, "bilinear", 0.25)
    assert cropped.uncropped == 64
    torch.testing.assert_close(cropped.apply(picture)[0, 0, 0], torch.arange(8.0, 56.0))
    x = apply(picture, torch.arange(200), seed=0, epoch=0, settings=Augmentation(), preprocessing=cropped)
    first = x[:, 0, 0, 0]
    torch.testing.assert_close(x[:, 0, 0] - first[:, None], torch.arange(48.0).expand(200, 48), atol=1e-3, rtol=0)
    assert float(first.min()) < 1
    assert float(first.max()) > 15
    assert 7 < float(first.mean()) < 9


class FewMasks:
    """Maps of 4x4 pixels: the background, skin (index 1), and some hair (7) in the last."""

    def __init__(self, *areas: dict[int, int]) -> None:
        self._maps = np.zeros((len(areas), 16), np.uint8)
        for row, of in zip(self._maps, areas, strict=True):
            row[: sum(of.values())] = np.repeat(list(of), list(of.values()))

    def __len__(self) -> int:
        return len(self._maps)

    def maps(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._maps[rows].reshape(-1, 4, 4)


def test_components_that_vary_and_without_the_background() -> None:
    masks: Any = FewMasks({1: 4, 4: 2}, {1: 5, 4: 2}, {1: 6, 4: 2}, {1: 7, 4: 2, 7: 1}, {1: 2, 4: 2, 7: 9})
    rows = np.arange(5)
    plain = Preprocessing(4, (0.5,) * 3, (0.5,) * 3, "bilinear")

    def made(**options: Any) -> SLFERTargets:
        classes = ClassTargets(np.zeros(5, np.int64), None, "cpu")
        options = {"top_k": 2, "seed": 0, "device": "cpu", **options}
        return SLFERTargets(classes, masks, Augmentation(), plain, **options)

    def large(targets: SLFERTargets) -> list[set[str]]:
        found = targets(rows, 0)[2]
        assert found is not None
        return [{region for region, is_large in zip(REGIONS, row, strict=True) if is_large} for row in found.tolist()]

    assert large(made()) == [{"background", "skin"}] * 4 + [{"background", "hair"}]
    assert large(made(background=False)) == [{"skin", "nose"}] * 4 + [{"skin", "hair"}]
    # medians: background 9 of 10, 9, 8, 6, 3 is 8; skin 5; nose 2, and larger in none; hair 0
    varying = made(above_median_of=rows)
    assert large(varying) == [{"background"}, {"background"}, {"skin"}, {"skin", "hair"}, {"hair"}]
    assert large(made(above_median_of=rows[:2], background=False)) == [
        set(),
        {"skin"},
        {"skin"},
        {"skin", "hair"},
        {"hair"},
    ]
    target = varying.component_target(rows)
    shares = np.array([2, 1, 1, 1]) / 5
    assert target.entropy_bits == pytest.approx(-(shares * np.log2(shares)).sum(), abs=1e-4)
    assert target.region_bits["nose"] == 0
    assert target.region_bits["skin"] == pytest.approx(-(0.4 * math.log2(0.4) + 0.6 * math.log2(0.6)), abs=1e-4)
    assert "the same in almost all: eye, ear, nose, mouth, neck" in str(target)


def test_the_model_is_the_trained_network_without_its_heads(faces: Store) -> None:
    made = model(faces)
    tensors = load_file(made.path / WEIGHTS)
    assert not [name for name in tensors if name.startswith(("segmentation", "components", "expression"))]
    opened = open_trained(made, "cpu")
    assert opened.preprocessing.crop == 0.125
    dataset = open_dataset(faces.find("synth-grey", ["dataset"]))
    rows = dataset.rows("validation")
    with torch.inference_mode():
        logits = opened.network(opened.preprocessing.apply(torch.from_numpy(dataset.images[rows])))
    accuracy = float((logits.argmax(1).numpy() == dataset.labels[rows]).mean())
    assert accuracy == pytest.approx(made.manifest.summary["selected"]["accuracy"])
    assert list(made.manifest.inputs) == ["dataset", "masks"]
    train_rows = dataset.rows("train")
    maps = apply_to_maps(
        torch.from_numpy(open_masks(faces.find(None, ["masks"]), dataset).maps(train_rows)),
        torch.from_numpy(train_rows),
        seed=0,
        epoch=0,
        settings=read_recipe("slfer", None, SMALL).augmentation,
        preprocessing=opened.preprocessing,
    )
    counts = Counter(tuple(row) for row in largest_regions(maps, 4).tolist())
    shares = np.array(list(counts.values())) / len(maps)
    told = made.manifest.summary["details"]["component_target"]
    assert told["entropy_bits"] == pytest.approx(-(shares * np.log2(shares)).sum(), abs=1e-3)
    assert told["most_common_share"] == pytest.approx(shares.max(), abs=1e-3)
    assert evaluate_model(store=faces, model=made.reference, resamples=100, report=True).artifact


def test_with_no_task_left_it_needs_no_masks(store: Store) -> None:
    toy_dataset(store, images=210)
    without = model(store, "loss.segmentation=0", "loss.components=0")
    assert list(without.manifest.inputs) == ["dataset"]
    with pytest.raises(FerError, match=r"no masks of dataset/toy@.* yet; create them: fer parse-masks toy@"):
        model(store)


def test_every_part_learns_in_training_mode(faces: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What describes a classifier leaves it in evaluation mode, of which the network around it knows nothing."""
    seen = []
    forward = SLFER.forward

    def watched(self: SLFER, x: torch.Tensor) -> Any:
        if self.training:
            seen.append([name for name, module in self.named_modules() if not module.training])
        return forward(self, x)

    monkeypatch.setattr(SLFER, "forward", watched)
    model(faces, "train.epochs=1", seeds=(7,))
    assert len(seen) > 3
    assert not any(seen)


def test_hidden_layers_pass_on_what_they_get() -> None:
    """By torch's own beginning less than a quarter of it is left after two layers."""
    torch.manual_seed(0)
    x = torch.randn(256, 320).relu()
    passed = nn.Sequential(*perceptron(320, HIDDEN))(x).detach()
    assert 0.5 < float(passed.square().mean() / x.square().mean()) < 2


def losses(artifact: Artifact) -> list[float]:
    return [line["train_loss"] for line in read_history(artifact)]


def test_halved_precision_learns_the_same(faces: Store) -> None:
    exact, rough = (model(faces, f"train.precision={precision}") for precision in ("float32", "bfloat16"))
    assert losses(rough) != losses(exact)
    np.testing.assert_allclose(losses(rough), losses(exact), rtol=0.02)


def test_two_processes_share_its_batches(faces: Store) -> None:
    """Each has half of a batch of 40; what they learn is what one process learns, but for the batch norms."""
    changes = [*SMALL, "train.batch=40", "augmentation.flip=0.0", "model.dropout=0.0"]
    one = model(faces, *changes, seeds=(3,))
    alone = losses(one)
    words = ["train", "slfer", *(word for change in changes for word in ("--set", change)), "--device", "cpu"]
    head = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fer_cli"]
    done = subprocess.run(
        [*head, *words, "--force", "--seeds", "3", "--store", str(faces.root)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    shared = faces.find(f"model/{one.name}", ["model"])
    assert shared.manifest.measured["processes"] == 2
    np.testing.assert_allclose(losses(shared), alone, rtol=0.05)


def test_masks_of_another_data_set_are_refused(faces: Store) -> None:
    prepare(store=faces, loader=Synth(images=80, subjects=10, size=32, imbalance=1.5, grey=True))
    with pytest.raises(FerError, match="has the masks of synth-grey@.*, not of dataset/synth-grey@"):
        model(faces, masks="synth-grey-truth")


def test_it_goes_on_exactly(faces: Store, tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any) -> None:
    stores = [Store(tmp_path_factory.mktemp("resume")) for _ in range(2)]
    for store in stores:
        prepare(store=store, loader=Synth(images=160, subjects=20, size=32, imbalance=1.5, grey=True))
        parse_masks(store=store, parser="truth")
    whole = model(stores[0])
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        with pytest.raises(PreemptedError):
            model(stores[1])
    equal(model(stores[1], workers=2), whole)


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "test_convnext"])
def test_other_backbones_have_the_heads_too(name: str) -> None:
    built = network(name=name, size=64)
    logits, regions, _ = built(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 5)
    assert regions is not None
    assert regions.shape[-2:] == (64, 64)


@pytest.mark.parametrize(
    ("name", "attention"), [("tf_efficientnet_lite0", "se"), ("resnet18", "se"), ("test_convnext", "none")]
)
def test_what_is_trained_is_what_is_tested(name: str, attention: str) -> None:
    one = open_classifier(name, classes=5, size=64, weights=None, attention=attention, hidden=HIDDEN)
    built = slfer_network.SLFER(one.network, segmentation=True, components=True, size=64).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = built(x)
        built.training = True  # the path of a training; every layer as in a test
        torch.testing.assert_close(built(x)[0], expected)


def test_a_map_moves_by_parts_of_a_pixel_as_its_picture_does() -> None:
    """Between two pixels a picture is beyond their mean exactly where the second one is nearer."""
    bits = np.random.default_rng(0).integers(0, 2, (60, 1, 16))
    maps = np.repeat(np.repeat(bits, 3, axis=2), 48, axis=1).astype(np.uint8)  # stripes three pixels wide
    index = torch.arange(60)
    how = Augmentation(flip=0.5, shift=0.1)
    x = apply(torch.from_numpy(maps * 240), index, seed=3, epoch=2, settings=how, preprocessing=PLAIN)[:, 0]
    moved = apply_to_maps(torch.from_numpy(maps), index, seed=3, epoch=2, settings=how, preprocessing=PLAIN)
    assert torch.equal(x > 120, moved.bool())
    assert not torch.equal(moved, torch.from_numpy(maps))


@pytest.mark.parametrize("change", ["loss.top_k_regions=9", "loss.segmentation=-1", "loss.components=-0.1"])
def test_settings_that_cannot_be_are_refused(faces: Store, change: str) -> None:
    with pytest.raises(FerError, match=rf"--set '{change}': {change.partition('=')[0]}: .*(less|greater) than"):
        model(faces, change)


def test_weights_that_fit_nothing_and_masks_that_lost_images_are_refused(
    faces: Store, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Store(tmp_path_factory.mktemp("own") / "store")
    shutil.copytree(faces.root, own.root)
    save_file({"nothing": torch.zeros(3)}, own.root / "w.safetensors")
    masks = own.find("synth-grey-truth", ["masks"])
    made_for = masks.manifest.inputs["dataset"]
    dataset = f"{made_for.name}@{made_for.version}"
    with pytest.raises(FerError, match=r"w\.safetensors: .*missing"):
        model(own, f"model.weights={own.root / 'w.safetensors'}", dataset=dataset)
    before = own.directories(["model"])
    spans = np.load(masks.path / "spans.npy")
    np.save(masks.path / "spans.npy", spans[:-3])
    with pytest.raises(FerError, match=r"spans\.npy: [\d,]+ bytes, expected [\d,]+; .*make it again"):
        model(own, dataset=dataset, masks=masks.reference)
    with pytest.raises(FerError, match="no masks of dataset/synth-grey@.* yet; create them"):
        model(own, dataset=dataset)
    assert "spans.npy" in capsys.readouterr().err
    assert own.directories(["model"]) == before
