"""A training step beside the bare network's, a plain PyTorch loop, and Conv-cut's epoch on kept maps beside pictures.

``python -m benchmarks.training [step] [loop] [kept] [--rounds 30]``

* ``step``: the engine's step as the laptop's recipe has it (batch read, augmented, forward, backward, clipped, AdamW,
  running mean) beside forward, backward, clipping and the same AdamW step of the same network on tensors in memory.
  Steps alternate; what counts is the ratio within a pair.
* ``loop``: 512 images by the engine beside a loop as tutorials have it: PNG files, PIL, torchvision's transforms, a
  DataLoader with two workers; the same network, batch and optimiser.
* ``kept``: an epoch of Conv-cut on 256 images in batches of 16, on feature maps in memory beside from the pictures,
  for EfficientNet-Lite0 and ConvNeXt-Base at 224 px. Speed does not depend on weights: they are random.

Pictures are drawn faces, 48 px, grey.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.store import Store
from fer_cli.core import assets, distributed, machine, signals
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.synth.loader import Synth

if TYPE_CHECKING:
    from fer_cli.training.engine import _Training

SIZE, BATCH = 112, 32


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["step", "loop", "kept"])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    machine.tune_allocator()
    import torch

    print(f"{torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        dataset = _faces(Path(folder))
        if "step" in options.what:
            _step(dataset, Path(folder), options.rounds)
        if "loop" in options.what:
            _loop(dataset, Path(folder), max(3, options.rounds // 6))
        if "kept" in options.what:
            _kept(dataset, Path(folder), "tf_efficientnet_lite0", options.rounds)
            _kept(dataset, Path(folder), "convnext_base", max(3, options.rounds // 10))


def _faces(folder: Path) -> Dataset:
    from fer_cli.stages.prepare import prepare

    loader = Synth(images=800, subjects=40, size=48, imbalance=2.0, grey=True)
    return open_dataset(prepare(store=Store(folder / "store"), loader=loader).artifact)


def _training(dataset: Dataset, place: Path, **changes: str) -> _Training:
    from fer_cli.core.recipes import load_recipe
    from fer_cli.systems.base import BuildInputs
    from fer_cli.systems.baseline.system import Baseline
    from fer_cli.training.engine import _Training

    settings = {"model.weights": "none", "data.size": str(SIZE), "train.batch": str(BATCH), **changes}
    recipe = load_recipe(
        assets.recipe("baseline/laptop.toml"),
        Baseline.recipe_type,
        [f"{key}={value}" for key, value in settings.items()],
    )
    built = Baseline().build(recipe, BuildInputs(dataset, dataset.rows("train"), None, 0, "cpu"))
    training: _Training = _engine(dataset, recipe, built, place, _Training)
    return training


def _engine(dataset: Dataset, recipe: Any, built: Any, place: Path, kind: Any) -> Any:  # noqa: ANN401
    from fer_cli.training.engine import Task

    task = Task(
        network=built.network,
        groups=built.groups,
        inputs=built.inputs,
        targets=built.targets,
        loss=built.loss,
        labels=dataset.labels,
        classes=dataset.classes,
        train=dataset.rows("train"),
        validation=dataset.rows("validation"),
    )
    return kind(task, recipe, 0, place, "cpu", distributed.Ranks(0, 1, 0, 1), signals.StopRequest(), 0)


def _step(dataset: Dataset, folder: Path, rounds: int) -> None:
    import torch

    training = _training(dataset, folder / "none")
    bare = _training(dataset, folder / "none")
    network, optimiser, clip = bare.task.network, bare.optimiser, bare.recipe.optim.clip
    assert clip is not None
    x = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    y = torch.arange(BATCH) % len(dataset.classes)
    batches = training._batches(0)

    training.task.network.train()
    network.train()

    def plain() -> None:
        loss = torch.nn.functional.cross_entropy(network(x), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimiser.step()

    pairs = _paired(lambda: training._step(0, *training._loaded(batches[0])), plain, rounds)
    _print(f"step, EfficientNet-Lite0, {SIZE} px, batches of {BATCH}: bare / engine", pairs[1] / pairs[0])
    print(f"  engine {BATCH / np.median(pairs[0]):.1f} images/s, bare {BATCH / np.median(pairs[1]):.1f} images/s")


def _loop(dataset: Dataset, folder: Path, rounds: int) -> None:
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    rows = dataset.rows("train")[:512]
    for number, row in enumerate(rows):
        place = folder / "files" / str(dataset.labels[row])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(dataset.images[row])).save(place / f"{number}.png")
    how = transforms.Compose(
        [
            transforms.Grayscale(3),
            transforms.Resize((SIZE, SIZE)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomAffine(12, (0.06, 0.06), (0.88, 1.12)),
            transforms.ColorJitter(0.2, 0.2),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    loader: DataLoader[Any] = DataLoader(
        datasets.ImageFolder(folder / "files", how), BATCH, shuffle=True, num_workers=2, drop_last=True
    )
    training, other = _training(dataset, folder / "none"), _training(dataset, folder / "none")
    network, optimiser = other.task.network, other.optimiser
    batches = [rows[start : start + BATCH] for start in range(0, len(rows) - BATCH + 1, BATCH)]

    def ours() -> None:
        training.task.network.train()
        for number, batch in enumerate(batches):
            training._step(number, *training._loaded(batch))

    def theirs() -> None:
        network.train()
        for x, y in loader:
            loss = torch.nn.functional.cross_entropy(network(x), y)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    pairs = _paired(ours, theirs, rounds)
    _print(f"{len(batches) * BATCH} images, plain loop / engine", pairs[1] / pairs[0])


def _kept(dataset: Dataset, folder: Path, backbone: str, rounds: int) -> None:
    import torch

    from fer_cli.core.recipes import load_recipe
    from fer_cli.models.truncation import truncate
    from fer_cli.systems.base import BuildInputs
    from fer_cli.systems.conv_cut.system import ConvCutSystem
    from fer_cli.training.engine import _Training

    settings = [f"model.backbone={backbone}", "model.weights=none", "data.size=224", "train.batch=16"]
    recipe = load_recipe(assets.recipe("conv-cut/convnext.toml"), ConvCutSystem.recipe_type, settings)
    rows = dataset.rows("train")[:256]
    cut = truncate(backbone, cut="auto", size=224, weights=None)
    views = {
        view: np.zeros((len(dataset.images), cut.channels, cut.side, cut.side), np.float16)
        for view in ("original", "flip")
    }
    with torch.inference_mode():
        for start in range(0, len(rows), 16):
            some = rows[start : start + 16]
            x = cut.preprocessing.apply(torch.from_numpy(dataset.images[some]))
            views["original"][some] = cut.network(x).numpy()
            views["flip"][some] = cut.network(x.flip(-1)).numpy()
    sources: list[Callable[[], dict[str, NDArray[Any]]] | None] = [lambda: views, None]
    engines = [
        _engine(
            dataset,
            recipe,
            ConvCutSystem().build(recipe, BuildInputs(dataset, rows, None, 0, "cpu", feature_cache=cache)),
            folder / "none",
            _Training,
        )
        for cache in sources
    ]
    batches = [rows[start : start + 16] for start in range(0, len(rows), 16)]

    def epoch(training: Any) -> Callable[[], None]:  # noqa: ANN401
        def run() -> None:
            training.task.network.train()
            for number, batch in enumerate(batches):
                training._step(number, *training._loaded(batch))

        return run

    pairs = _paired(epoch(engines[0]), epoch(engines[1]), rounds)
    _print(f"{backbone}, 224 px, epoch of 256 images: pictures / kept maps", pairs[1] / pairs[0])
    print(f"  kept {256 / np.median(pairs[0]):.0f} images/s, pictures {256 / np.median(pairs[1]):.1f} images/s")


def _paired(one: Callable[[], None], other: Callable[[], None], rounds: int) -> NDArray[np.float64]:
    """Return the seconds (2, rounds) of both, in turns whose order alternates."""
    one()
    other()
    seconds = np.empty((2, rounds))
    for number in range(rounds):
        for place in (0, 1) if number % 2 else (1, 0):
            begun = time.perf_counter()
            (one, other)[place]()
            seconds[place, number] = time.perf_counter() - begun
    return seconds


def _print(what: str, ratio: NDArray[np.float64]) -> None:
    generator = np.random.default_rng(0)
    low, high = np.quantile(np.median(generator.choice(ratio, (2000, len(ratio))), axis=1), [0.025, 0.975])
    print(f"{what}: {np.median(ratio):.3f} (95% {low:.3f} to {high:.3f}, {len(ratio)} pairs)", flush=True)


if __name__ == "__main__":
    main()
