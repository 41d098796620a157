"""``python -m tools.train_descriptor``: what it writes is what ``fer`` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from fer_cli.artifacts.atomic_io import sha256_file
from fer_cli.audit import descriptors as shipped
from fer_cli.core.assets import asset
from fer_cli.core.errors import FerError
from tools import train_descriptor


def test_weights_with_normalisation_folded_in_give_what_the_network_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = train_descriptor.build()
    pictures = torch.from_numpy(train_descriptor.textures(6, seed=1)).float()
    network(shipped.prepared(pictures))  # moves the running means away from 0
    network.eval()
    for layer in network:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    path = tmp_path / "descriptor.safetensors"
    save_file(train_descriptor.folded(network), path)
    monkeypatch.setattr(shipped, "asset", lambda _: path)
    monkeypatch.setattr(shipped, "SHA256", sha256_file(path))
    shipped._layers.cache_clear()
    with torch.no_grad():
        expected = functional.normalize(network(shipped.prepared(pictures)))
        found = shipped.descriptors(pictures)
    shipped._layers.cache_clear()
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


def test_it_has_the_shapes_of_the_file_that_comes_with_fer() -> None:
    ours = {name: values.shape for name, values in train_descriptor.folded(train_descriptor.build()).items()}
    assert ours == {name: values.shape for name, values in load_file(asset(shipped.FILE)).items()}


def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(asset(shipped.FILE).read_bytes())
    content[-9] ^= 1
    path = tmp_path / "descriptor.safetensors"
    path.write_bytes(content)
    shipped._layers.cache_clear()
    monkeypatch.setattr(shipped, "asset", lambda _: path)
    with pytest.raises(FerError, match="sha256"):
        shipped.descriptors(torch.zeros(1, 48, 48))


def test_a_step_of_training_and_copies_changed_a_little_and_much() -> None:
    pictures = torch.from_numpy(train_descriptor.textures(40, seed=2))
    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    little, much = (train_descriptor.changed(pictures, far, generator) for far in (0.3, 1.0))
    assert little.shape == much.shape == pictures.shape
    assert float(much.min()) >= 0
    assert float(much.max()) <= 255
    assert (little - pictures).abs().mean() < (much - pictures).abs().mean()
    network = train_descriptor.train([pictures] * 4, pictures, steps=1)
    assert 0 <= train_descriptor.told(network, pictures, generator) <= 1
