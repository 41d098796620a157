"""Training the compact parser: the loss, the encoder's start, and that steps lower the loss and repeat to the bit."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from fer_cli.core.errors import FerError
from fer_cli.core.labels import REGIONS
from fer_cli.faces.compact import MEAN as COMPACT_MEAN
from fer_cli.faces.compact import STD as COMPACT_STD
from fer_cli.faces.compact import CompactParser
from fer_cli.faces.regions import PARTS, grouping
from fer_cli.weights.files import WeightsFile, find_weights, load_tensors
from tests.kits.celebamask import drawn_face
from tests.tools.test_parser_augmentation import NONE
from tools.train_parser.augmentation import Augmentation
from tools.train_parser.training import MEAN, STD, Schedule, loss_of, new_network, normalised, start_encoder, train

GROUPING = grouping()
OF_REGION = np.array([PARTS.index(name if name in PARTS else "lip") for name in REGIONS], np.uint8)


def schedule(**changes: Any) -> Schedule:
    """Return a schedule whose steps of 32 px take 16 pictures: a quarter of what a recipe may ask for."""
    how = Schedule.model_validate(
        {
            **{"steps": 3, "batch": 4, "sizes": [[32]], "rate": 3e-3, "encoder_rate": 1e-3, "decay": 0.01},
            **{"warmup": 1, "average": 0.0, "jaccard": 1.0, "fine": 0.4, "start_share": 0.0, "seed": 0, **changes},
        }
    )
    return how if "batch" in changes else how.model_copy(update={"batch": 1})


@functools.cache
def lite0() -> dict[str, torch.Tensor]:
    found = find_weights("tf_efficientnet_lite0", "auto")
    assert found is not None
    return load_tensors(found)


@functools.cache
def faces(count: int = 16) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return eight drawn faces, twice."""
    drawn = [drawn_face(seed, 64) for seed in range(8)]
    images, parts = np.stack([one for one, _ in drawn]), OF_REGION[np.stack([one for _, one in drawn])]
    return np.tile(images, (count // 8, 1, 1, 1)), np.tile(parts, (count // 8, 1, 1))


def trained(how: Schedule, encoder: dict[str, torch.Tensor]) -> CompactParser:
    return train(new_network(how.seed, encoder), *faces(), Augmentation(**NONE), GROUPING, how, finished=lambda _: None)


# ---- the loss


def brute_loss(logits: NDArray[Any], parts: NDArray[Any], fine: float, jaccard: float) -> float:
    n, classes, height, width = logits.shape
    regions, table = np.zeros((n, 8, height, width)), GROUPING.table()
    entropy = own = 0.0
    for i, row, column in np.ndindex(n, height, width):
        shares = np.exp(logits[i, :, row, column] - logits[i, :, row, column].max())
        shares /= shares.sum()
        for part in range(classes):
            regions[i, table[part], row, column] += shares[part]
        entropy -= np.log(max(regions[i, table[parts[i, row, column]], row, column], 1e-7))
        own -= np.log(shares[parts[i, row, column]])
    lost = []
    for region in range(8):
        right = table[parts] == region
        if right.any():
            common = regions[:, region][right].sum()
            lost.append(1 - common / (regions[:, region].sum() + right.sum() - common))
    pixels = n * height * width
    return float(entropy / pixels + fine * own / pixels + jaccard * np.mean(lost))


@pytest.mark.parametrize(("fine", "jaccard"), [(0.0, 0.0), (0.4, 0.0), (0.0, 1.0), (0.7, 2.0)])
@pytest.mark.parametrize("classes", [15, 3])
def test_the_loss_is_what_loops_give(fine: float, jaccard: float, classes: int) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (3, 15, 5, 4))
    parts = rng.integers(0, classes, (3, 5, 4))
    ours = loss_of(
        torch.from_numpy(logits).float(), torch.from_numpy(parts), GROUPING, schedule(fine=fine, jaccard=jaccard)
    )
    assert float(ours) == pytest.approx(brute_loss(logits, parts, fine, jaccard), rel=1e-4)


def test_the_loss_vanishes_where_the_truth_is_matched() -> None:
    parts = torch.from_numpy(np.random.default_rng(1).integers(0, 15, (2, 6, 6)))
    right = functional.one_hot(parts, 15).permute(0, 3, 1, 2).float()
    how = schedule()
    weak, strong = (right.mul(scale).requires_grad_() for scale in (1.0, 30.0))
    losses = [loss_of(logits, parts, GROUPING, how) for logits in (weak, strong)]
    slopes = [
        float(torch.autograd.grad(loss, logits)[0].norm()) for loss, logits in zip(losses, (weak, strong), strict=True)
    ]
    assert losses[1] < 1e-5 < losses[0]
    assert slopes[1] < 1e-5 < slopes[0]
    wrong = loss_of(30 * right.roll(1, 1), parts, GROUPING, how)
    assert np.isfinite(float(wrong))
    assert wrong > losses[0]


def test_parts_of_one_region_are_alike_to_the_regions_terms() -> None:
    brow = torch.full((1, 3, 3), PARTS.index("brow"))
    eye = torch.full((1, 3, 3), PARTS.index("eye"))
    logits = torch.randn(1, 15, 3, 3, generator=torch.Generator().manual_seed(0))
    coarse, fine = schedule(fine=0.0), schedule(fine=1.0)
    assert loss_of(logits, brow, GROUPING, coarse) == loss_of(logits, eye, GROUPING, coarse)
    assert loss_of(logits, brow, GROUPING, fine) != loss_of(logits, eye, GROUPING, fine)
    moved = grouping(["brow=skin"])
    assert loss_of(logits, brow, moved, coarse) != loss_of(logits, eye, moved, coarse)


def test_pictures_are_standardised_as_the_parser_does() -> None:
    np.testing.assert_allclose(MEAN, np.multiply(COMPACT_MEAN, 255))
    np.testing.assert_allclose(STD, np.multiply(COMPACT_STD, 255))
    x = torch.tensor(MEAN).view(1, 3, 1, 1) + torch.tensor(STD).view(1, 3, 1, 1) * torch.ones(1, 3, 2, 2)
    torch.testing.assert_close(normalised(x).contiguous(), torch.ones(1, 3, 2, 2))


# ---- the encoder


def encoder_names(network: CompactParser) -> list[str]:
    return [name for name in network.state_dict() if name.startswith(("stem.", "levels."))]


def test_every_tensor_of_the_encoder_is_taken() -> None:
    network = CompactParser()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    names = encoder_names(network)
    assert start_encoder(network, lite0()) == len(names) == 216
    after = network.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert not [name for name in names if name in same and not name.endswith("num_batches_tracked")]
    assert same >= before.keys() - set(names)


def test_levels_are_those_of_timm() -> None:
    """But for the padding: TensorFlow's rule puts the odd pixel last, ours is symmetric; here timm's is made so too."""
    other: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    other.load_state_dict(lite0(), strict=True)
    other.eval()
    for module in other.modules():
        if type(module).__name__ == "Conv2dSame":
            module.__class__ = nn.Conv2d
            module.padding = tuple(size // 2 for size in module.kernel_size)
    ours = CompactParser()
    start_encoder(ours, lite0())
    ours.eval()
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        a, b = ours.stem(x), other.bn1(other.conv_stem(x))
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        stages = [other.blocks[0], other.blocks[1], other.blocks[2], other.blocks[3:5], other.blocks[5][0]]
        for level, stage in zip(ours.levels, stages, strict=True):
            a, b = level(a), stage(b)
            assert a.std() > 0.05
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_the_order_of_a_weights_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "tf_efficientnet_lite0.safetensors"
    save_file({name: value.clone().contiguous() for name, value in lite0().items()}, path)
    first, second = CompactParser(), CompactParser()
    assert start_encoder(first, load_tensors(WeightsFile(path, "file", "ImageNet-1k"))) == 216
    start_encoder(second, lite0())
    for name in encoder_names(first):
        assert torch.equal(first.state_dict()[name], second.state_dict()[name])


def cut() -> dict[str, torch.Tensor]:
    return {name: value for name, value in lite0().items() if not name.startswith("blocks.4.2.bn3")}


def wider() -> dict[str, torch.Tensor]:
    return {**lite0(), "blocks.1.0.conv_pw.weight": torch.zeros(97, 16, 1, 1)}


@pytest.mark.parametrize("make", [dict, cut, wider, lambda: {"a.weight": torch.zeros(32, 3, 3, 3)}])
def test_weights_of_another_network_are_refused(make: Callable[[], dict[str, torch.Tensor]]) -> None:
    with pytest.raises(FerError):
        trained(schedule(steps=1), make())


# ---- training


def loss_on_faces(network: CompactParser) -> float:
    images, parts = faces()
    network.train()  # statistics of the pictures themselves: the running ones of three steps lag behind
    x = functional.avg_pool2d(torch.from_numpy(images[:8]).permute(0, 3, 1, 2).float(), 2)
    with torch.no_grad():
        return float(
            loss_of(network(normalised(x)), torch.from_numpy(parts[:8, 1::4, 1::4]).long(), GROUPING, schedule())
        )


def test_steps_lower_the_loss_and_repeat_to_the_bit() -> None:
    told: list[int] = []
    augmentation = Augmentation(**{**NONE, "flip": 0.5, "rotation": 5.0, "noise": 0.3})

    def run(**changes: Any) -> CompactParser:
        how = schedule(**changes)
        network = new_network(how.seed, lite0())
        return train(network, *faces(), augmentation, GROUPING, how, finished=told.append)

    first = run()
    assert told == [1, 1, 1]
    assert not first.training
    torch.manual_seed(17)
    for (name, one), other in zip(first.state_dict().items(), run().state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert not torch.equal(run(steps=1, seed=1).head.weight, run(steps=1).head.weight)
    assert loss_on_faces(first) < 0.9 * loss_on_faces(new_network(0, lite0()))


def test_the_mean_of_the_weights_is_what_is_kept() -> None:
    """With a decay near one the mean of the first step is 0.1 of the start and 0.9 of the step's weights."""
    start, step, mean = (
        new_network(0, lite0()),
        trained(schedule(steps=1), lite0()),
        trained(schedule(steps=1, average=0.9), lite0()),
    )
    expected = 0.1 * start.head.weight + 0.9 * step.head.weight
    torch.testing.assert_close(mean.head.weight, expected.detach(), rtol=1e-4, atol=1e-6)
    assert not torch.equal(step.head.weight, start.head.weight)
    assert int(next(v for k, v in step.state_dict().items() if k.endswith("num_batches_tracked"))) == 1


def test_the_encoder_has_its_own_rate() -> None:
    start, frozen = new_network(0, lite0()), trained(schedule(steps=1, encoder_rate=1e-30, decay=0.0), lite0())
    for name, value in frozen.named_parameters():
        assert torch.equal(value, dict(start.named_parameters())[name]) == name.startswith(("stem", "levels")), name


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    with pytest.raises(FerError, match=r"the loss is nan at step \d; lower training.rate"):
        trained(schedule(steps=4, rate=1e30, encoder_rate=1e30), lite0())


def test_few_faces_can_be_trained_on_or_are_refused() -> None:
    images, parts = faces()
    how = schedule(steps=1, batch=4)
    try:
        train(new_network(0, None), images[:8], parts[:8], Augmentation(**NONE), GROUPING, how, finished=lambda _: None)
    except FerError as error:
        assert "8" in str(error)
