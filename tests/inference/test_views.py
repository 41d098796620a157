"""Test-time augmentation: which pixels a view holds, and that answers are the mean over views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fer_cli.inference.predict import predict
from fer_cli.inference.views import COUNT, views
from fer_cli.models.backbones import Preprocessing
from fer_cli.models.trained import TrainedModel

X = torch.arange(400.0).view(1, 1, 20, 20)


def test_flip_adds_the_mirror_image() -> None:
    original, mirrored = views(X, "flip")
    assert torch.equal(original, X)
    assert torch.equal(mirrored, X.flip(-1))
    assert views(X, "none") == [X]


def test_ten_crops_are_the_middle_and_the_corners_and_their_mirror_images() -> None:
    ten = views(X, "ten-crop")
    assert len(ten) == COUNT["ten-crop"] == 10
    assert all(view.shape == X.shape for view in ten)
    # 18 of 20 px: a plane stays a plane when it is enlarged, and its mean is that of the crop.
    for view, (top, left) in zip(ten[:5], [(1, 1), (0, 0), (0, 2), (2, 0), (2, 2)], strict=True):
        crop = X[..., top : top + 18, left : left + 18]
        assert float(view.mean()) == pytest.approx(float(crop.mean()), abs=0.2)
        assert float(view.min()) == pytest.approx(float(crop.min()))
        assert float(view.max()) == pytest.approx(float(crop.max()))
    assert all(torch.equal(mirrored, view.flip(-1)) for view, mirrored in zip(ten[:5], ten[5:], strict=True))


class Columns(nn.Module):
    """Logits that depend on where in the image something is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(20, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(x.mean((1, 2)))
        return y


@pytest.mark.parametrize("tta", ["none", "flip", "ten-crop"])
def test_an_answer_is_the_mean_of_the_probabilities_of_its_views(tta: str) -> None:
    torch.manual_seed(0)
    network = Columns().eval()
    preprocessing = Preprocessing(20, (0.5,) * 3, (0.25,) * 3, "bilinear")
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 20), dtype=np.uint8)
    answers = predict(
        {"a": TrainedModel(network, preprocessing, ("x", "y", "z"), mixes_batch=False)},
        images,
        np.zeros(5, np.int64),
        np.arange(5),
        tta=tta,  # type: ignore[arg-type]
        batching="stored",
        kept=np.arange(2),
        advance=lambda _done=1, _status=None: None,
    )["a"]
    with torch.no_grad():
        x = preprocessing.apply(torch.from_numpy(images))
        each = [torch.softmax(network(view).double(), 1) for view in views(x, tta)]  # type: ignore[arg-type]
    assert np.allclose(answers.probabilities, torch.stack(each).mean(0).numpy())
    assert np.allclose(answers.features, views(x, tta)[0].mean((1, 2))[:2].numpy())  # type: ignore[arg-type]  # of the first
