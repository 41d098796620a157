"""Train the network that proposes moved copies to the search for near copies, and write its weights.

python -m tools.train_descriptor --fer2013 fer2013.csv.xz --celebamask celebamask-800.tar --out descriptor.safetensors

It learns to tell each picture by changed copies of itself from all others of its batch (InfoNCE, van den Oord et al.
2018). Pictures: FER2013's training split without 3,000 that are kept aside, faces of CelebAMask-HQ, synthetic faces
and textures. Every 500 steps it prints of how many of those kept aside a changed copy is most like its own picture.
"""

from __future__ import annotations

import argparse
import io
import lzma
import math
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional

from fer_cli.audit.descriptors import SIDE, STRIDES, prepared
from fer_cli.datasets.synth.loader import Synth
from tools.train_parser.celebamask import read_faces

CHANNELS: Final = (24, 48, 64, 96, 128, 32)
KERNELS: Final = (5, 3, 3, 3, 3, 1)
LENGTH: Final = 96
ASIDE: Final = 3000
PER_BATCH: Final = (170, 16, 46, 24)
"""Pictures of FER2013, CelebAMask-HQ, synthetic faces and textures in a batch."""
TEMPERATURE: Final = 0.06
_PICTURE: Final = 48  # pixels
_FILLS: Final = ("zeros", "border", "reflection", "grey")
_OFTEN: Final = (0.45, 0.3, 0.15, 0.1)  # of each fill

Pictures = NDArray[np.uint8]


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fer2013", type=Path, required=True, help="fer2013.csv, or that as .xz.")
    parser.add_argument("--celebamask", type=Path, required=True, help="A tar in CelebAMask-HQ's layout.")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    real = fer2013(options.fer2013)
    order = np.random.default_rng(1).permutation(len(real))
    aside, training = real[order[:ASIDE]], real[order[ASIDE:]]
    sources = [training, celebamask(options.celebamask), drawn(), textures(3000, seed=5)]
    network = train([torch.from_numpy(source) for source in sources], torch.from_numpy(aside), options.steps)
    save_file(folded(network), options.out)


def fer2013(path: Path) -> Pictures:
    """Return the pictures of the training split, each once."""
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as lines:
        rows = (line.rstrip().split(",") for line in lines)
        pixels = sorted({row[1] for row in rows if row[2] == "Training"})
    return np.stack([np.array(row.split(), dtype=np.uint8).reshape(_PICTURE, _PICTURE) for row in pixels])


def celebamask(path: Path) -> Pictures:
    """Return the inner parts of the faces, grey."""
    found = []
    for face in read_faces(path):
        height, width = face.image.shape[:2]
        box = (round(0.15 * width), round(0.22 * height), round(0.85 * width), round(0.92 * height))
        small = (
            Image.fromarray(face.image).convert("L").crop(box).resize((_PICTURE, _PICTURE), Image.Resampling.BICUBIC)
        )
        found.append(np.asarray(small))
    return np.stack(found)


def drawn() -> Pictures:
    """Return synthetic faces of three seeds."""
    loaders = [
        Synth(images=1500, subjects=500, size=_PICTURE, imbalance=1.0, contempt=False, grey=True, jobs=1, seed=seed)
        for seed in (11, 12, 13)
    ]
    return np.concatenate([block.images for loader in loaders for block in loader.blocks()])


def textures(count: int, seed: int) -> Pictures:
    """Return pictures with detail of every size."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(count, _PICTURE, _PICTURE))
    mixed = np.zeros_like(noise)
    for width in (1.2, 2.5, 5.0, 9.0):
        strength = generator.uniform(0.2, 1.5, (count, 1, 1))
        mixed += width * gaussian_filter(noise, (0, width, width), mode="wrap") * strength
    found: Pictures = np.clip(128 + 45 * mixed / mixed.std(axis=(1, 2), keepdims=True), 0, 255).astype(np.uint8)
    return found


def build() -> nn.Sequential:
    """Return the network with batch normalisation, which :func:`folded` takes into the convolutions."""
    layers: list[nn.Module] = []
    inputs = 1
    for number, (outputs, kernel, stride) in enumerate(zip(CHANNELS, KERNELS, STRIDES, strict=True)):
        last = number == len(CHANNELS) - 1
        layers.append(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=last))
        if not last:
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        inputs = outputs
    side = SIDE // math.prod(STRIDES)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * side * side, LENGTH))


def folded(network: nn.Sequential) -> dict[str, Tensor]:
    """Return weights and biases in half precision, in the order of the layers, as ``fer`` reads them."""
    found: list[tuple[Tensor, Tensor]] = []
    for layer in network:
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_var is not None
            assert layer.running_mean is not None
            gain = layer.weight / (layer.running_var + layer.eps).sqrt()
            kernel, offset = found.pop()
            found.append((kernel * gain[:, None, None, None], layer.bias + gain * (offset - layer.running_mean)))
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            offset = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias
            found.append((layer.weight, offset))
    return {
        f"{name}{number}": value.detach().half().contiguous()
        for number, pair in enumerate(found)
        for name, value in zip(("weight", "bias"), pair, strict=True)
    }


def train(sources: list[Tensor], aside: Tensor, steps: int) -> nn.Sequential:
    """Return a network trained on pictures (n, 48, 48) of several sources, each with its share of a batch."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    network = build()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        chosen = [
            source[torch.randint(len(source), (count,))] for source, count in zip(sources, PER_BATCH, strict=True)
        ]
        pictures = torch.cat(chosen)
        flip = torch.rand(len(pictures)) < 0.5
        pictures[flip] = pictures[flip].flip(2)
        seen = [prepared(changed(pictures, far, generator)) for far in (0.3, 1.0)]
        with torch.autocast("cpu", torch.bfloat16):
            little, much = (network(part) for part in seen)
        alike = functional.normalize(little.float()) @ functional.normalize(much.float()).T / TEMPERATURE
        own = torch.arange(len(alike))
        loss = (functional.cross_entropy(alike, own) + functional.cross_entropy(alike.T, own)) / 2
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if (step + 1) % 500 == 0 or step + 1 == steps:
            print(f"step {step + 1}: loss {loss.item():.3f}, told {told(network, aside, generator):.1%}", flush=True)
    return network.eval()


@torch.no_grad()
def told(network: nn.Sequential, pictures: Tensor, generator: np.random.Generator) -> float:
    """Return the share of pictures of which a changed copy is more like its own picture than like any other."""
    network.eval()
    copies = changed(pictures, 1.0, generator)
    ours, theirs = (functional.normalize(network(prepared(part))) for part in (pictures.float(), copies))
    network.train()
    return float(((theirs @ ours.T).argmax(dim=1) == torch.arange(len(ours))).float().mean())


def changed(pictures: Tensor, far: float, generator: np.random.Generator) -> Tensor:
    """Return changed copies (n, 48, 48) of pictures, 0 to 255.

    Args:
        pictures: (n, 48, 48), 0 to 255.
        far: 1 for up to 22 degrees, 16% of the side and a scale of 0.76 to 1.3; less moves less, and only some.
        generator: chooses the JPEG qualities; all else is torch's.
    """
    values = _moved(pictures.float()[:, None] / 255, far)
    count = len(values)
    gamma = torch.exp(_between(count, -0.6, 0.6) * _some(count, 0.4) * far)
    values = values.clamp(0, 1) ** gamma[:, None, None, None]
    contrast, light = (
        1 + _between(count, -0.4, 0.3) * _some(count, 0.4),
        _between(count, -0.15, 0.15) * _some(count, 0.4),
    )
    values = (values - 0.5) * contrast[:, None, None, None] + 0.5 + light[:, None, None, None]
    blur = torch.rand(count) < 0.25
    values[blur] = _blurred(values[blur], float(_between(1, 0.5, 1.3)))
    noise = _between(count, 0, 0.06) * _some(count, 0.3)
    values = (values + torch.randn_like(values) * noise[:, None, None, None]).clamp(0, 1)
    for row in torch.nonzero(torch.rand(count) < 0.2 * (far == 1))[:, 0].tolist():
        stream = io.BytesIO()
        picture = (values[row, 0] * 255).byte().numpy()
        Image.fromarray(picture).save(stream, "JPEG", quality=int(generator.integers(20, 70)))
        values[row, 0] = torch.from_numpy(np.asarray(Image.open(stream)).copy()) / 255
    return values[:, 0] * 255


def _moved(values: Tensor, far: float) -> Tensor:
    count = len(values)
    turn = _between(count, -22, 22) * math.pi / 180 * _some(count, 0.6) * far
    down, across = (_between(count, -0.33, 0.33) * _some(count, 0.6) * far for _ in range(2))  # of half the side
    scale = torch.exp(_between(count, math.log(0.76), math.log(1.3)) * _some(count, 0.6) * far)
    stretch = torch.exp(_between(count, -0.09, 0.09) * _some(count, 0.3) * far)
    cosine, sine = torch.cos(turn) / scale, torch.sin(turn) / scale
    rows = [cosine * stretch, -sine * stretch, across, sine / stretch, cosine / stretch, down]
    grid = functional.affine_grid(torch.stack(rows, dim=1).view(count, 2, 3), list(values.shape), align_corners=False)
    fills = torch.multinomial(torch.tensor(_OFTEN), count, replacement=True)
    found = torch.empty_like(values)
    for number, fill in enumerate(_FILLS):
        here = fills == number
        level = _between(int(here.sum()), 0, 1)[:, None, None, None] if fill == "grey" else torch.zeros(())
        mode = "zeros" if fill == "grey" else fill
        found[here] = level + functional.grid_sample(
            values[here] - level, grid[here], padding_mode=mode, align_corners=False
        )
    if far < 1:
        stays = torch.rand(count) < 0.6
        found[stays] = values[stays]
    return found


def _blurred(values: Tensor, width: float) -> Tensor:
    weights = torch.exp(-(torch.arange(-4.0, 5.0) ** 2) / (2 * width * width))
    weights /= weights.sum()
    down = functional.conv2d(functional.pad(values, (0, 0, 4, 4), mode="replicate"), weights.view(1, 1, 9, 1))
    return functional.conv2d(functional.pad(down, (4, 4, 0, 0), mode="replicate"), weights.view(1, 1, 1, 9))


def _between(count: int, low: float, high: float) -> Tensor:
    return torch.rand(count) * (high - low) + low


def _some(count: int, share: float) -> Tensor:
    """Return 1 for this share of the pictures, chosen at random, else 0."""
    return (torch.rand(count) < share).float()


if __name__ == "__main__":
    main()
