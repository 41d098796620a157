"""Training curves and Grad-CAM: the computation against its formula, and what both figures say and show."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from numpy.typing import NDArray
from torch import nn

from fer_cli.core.errors import FerError
from fer_cli.models.gradcam import gradcam, last_map
from fer_cli.reporting.curves import ParameterPath, curves_figure, path_figure
from fer_cli.reporting.gradcam import Example, Row, gradcam_figure
from fer_cli.reporting.heatmap import tinted
from fer_cli.reporting.style import save_figure, styled
from tests.kits.celebamask import drawn_face

SIDE = 16


class Small(nn.Module):
    """Two convolutions with ReLUs that overwrite their input, and a head that is not linear."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(True), nn.Conv2d(4, 5, 3, 1, 1), nn.ReLU(True)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(5 * 64, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.maps(x))
        return logits


@pytest.fixture
def small() -> Small:
    torch.manual_seed(3)
    network = Small().double().eval()
    network.maps[1].running_var.uniform_(0.5, 2)  # type: ignore[operator]
    return network


def pictures(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


CLASSES = torch.tensor([0, 2, 1, 2])


def enlarged(small: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Bilinear, centres of pixels at halves, the border's value beyond the border."""
    n = len(small)
    out = np.zeros((side, side))
    for row, column in product(range(side), range(side)):
        y, x = (min(max((k + 0.5) * n / side - 0.5, 0), n - 1) for k in (row, column))
        top, left = int(y), int(x)
        below, beside = min(top + 1, n - 1), min(left + 1, n - 1)
        down, across = y - top, x - left
        out[row, column] = (1 - down) * ((1 - across) * small[top, left] + across * small[top, beside]) + down * (
            (1 - across) * small[below, left] + across * small[below, beside]
        )
    return out


@pytest.mark.parametrize("depth", [2, 4, 5])
def test_the_formula_by_finite_differences(small: Small, depth: int) -> None:
    """Weights from two more forward passes a channel, sums and enlargement in loops: no autograd, no torch resize."""
    x = pictures()
    found = gradcam(small, small.maps[depth - 1], x, CLASSES)
    assert found.dtype == torch.float32
    assert found.shape == (4, SIDE, SIDE)

    def rest(activation: torch.Tensor, k: int) -> float:
        return float(small.head(small.maps[depth:](activation.clone()))[0, CLASSES[k]])

    with torch.no_grad():
        for k in range(4):
            activation = small.maps[:depth](x[k : k + 1])
            heat, step = np.zeros(activation.shape[2:]), 1e-6
            for channel in range(activation.shape[1]):
                up, down = activation.clone(), activation.clone()
                up[:, channel] += step
                down[:, channel] -= step
                positions = activation[0, channel].numel()
                weight = (rest(up, k) - rest(down, k)) / (2 * step) / positions
                heat += weight * activation[0, channel].numpy()
            expected = enlarged(np.maximum(heat, 0), SIDE)
            assert expected.max() > 0, "a picture without heat tests nothing"
            np.testing.assert_allclose(found[k].numpy(), expected / expected.max(), atol=2e-6)


def test_pictures_do_not_mix(small: Small) -> None:
    x = pictures()
    together = gradcam(small, small.maps, x, CLASSES)
    for k in range(4):
        alone = gradcam(small, small.maps, x[k : k + 1], CLASSES[k : k + 1])
        torch.testing.assert_close(alone[0], together[k], rtol=0, atol=1e-6)
    other = gradcam(small, small.maps, x, (CLASSES + 1) % 3)
    assert float((other - together).abs().amax(dim=(1, 2)).min()) > 0.05, "another class has another map"


def hooks(network: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in network.modules()
    )


@pytest.mark.parametrize("frozen", [False, True])
def test_the_network_is_left_as_it_was(small: Small, frozen: bool) -> None:
    expected = gradcam(small, small.maps, pictures(), CLASSES)
    small.requires_grad_(not frozen)
    first, second = small.maps[0], small.maps[3]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    first.weight.requires_grad_(frozen)
    kept = torch.ones_like(second.weight)
    second.weight.grad = kept
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    flags = [parameter.requires_grad for parameter in small.parameters()]
    x = pictures()
    with torch.no_grad():
        found = gradcam(small, small.maps, x, CLASSES)
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert not x.requires_grad
    assert [parameter.requires_grad for parameter in small.parameters()] == flags
    grads = [name for name, parameter in small.named_parameters() if parameter.grad is not None]
    assert grads == ["maps.3.weight"]
    assert torch.equal(kept, torch.ones_like(kept))
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.state_dict().items())
    last_map(small, SIDE)
    with pytest.raises(RuntimeError):
        gradcam(small, small.maps, x[:, :2], CLASSES)
    with pytest.raises(RuntimeError):
        last_map(small, SIDE + 8)
    assert hooks(small) == 0


def test_nothing_speaks_for_the_class() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        network[4].weight.copy_(torch.tensor([[-1.0, -2.0], [1.0, 2.0]]))  # type: ignore[operator]
    x = torch.rand(2, 3, 8, 8)
    found = gradcam(network.eval(), network[1], x, torch.tensor([0, 1]))
    assert torch.equal(found[0], torch.zeros(8, 8))
    assert float(found[1].max()) == 1


@pytest.mark.parametrize(
    ("name", "module"), [("test_resnet", "layer4"), ("test_convnext", "stages.3"), ("test_efficientnet", "blocks.4")]
)
def test_last_map_of_timm(name: str, module: str) -> None:
    import timm

    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    layer = last_map(network, 96)
    assert layer is network.get_submodule(module)
    found = gradcam(network, layer, torch.randn(2, 3, 96, 96), torch.tensor([0, 1]))
    assert found.shape == (2, 96, 96)
    assert 0 <= float(found.min()) <= float(found.max()) == 1
    assert hooks(network) == 0


class ChannelsLast(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1)


def test_networks_without_a_map() -> None:
    import timm

    network = timm.create_model("test_resnet").eval()
    assert last_map(network, 32) is network.layer3, "the fourth stage has one position"
    with pytest.raises(FerError, match="ResNet has none at 2 px; use a convolutional network"):
        last_map(network, 2)
    with pytest.raises(FerError, match="VisionTransformer has none at 160 px"):
        last_map(timm.create_model("test_vit").eval(), 160)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    with pytest.raises(FerError, match="Sequential has none"):
        last_map(plain.eval(), SIDE)


def test_last_map_without_levels(small: Small) -> None:
    assert last_map(small, SIDE) is small.maps
    network = nn.Sequential(nn.Conv2d(3, 4, 1), ChannelsLast(), nn.Flatten(), nn.Linear(4 * 64, 2)).eval()
    assert last_map(network, 8) is network[0]
    twice = nn.ReLU()
    network = nn.Sequential(nn.Conv2d(3, 4, 1), twice, nn.Conv2d(4, 4, 1), twice, nn.Flatten(), nn.Linear(256, 2))
    assert last_map(network.eval(), 8) is network[2]


# Figures


def texts(figure: Figure) -> list[str]:
    return [one.get_text() for one in figure.findobj(Text) if isinstance(one, Text) and one.get_text()]


@contextmanager
def rendered(figure: Figure) -> Iterator[tuple[NDArray[np.float64], Any]]:
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    with styled():
        canvas.draw()  # type: ignore[no-untyped-call]
        page = np.asarray(canvas.buffer_rgba())[:, :, :3].astype(np.float64)  # type: ignore[no-untyped-call]
        yield page, canvas.get_renderer()  # type: ignore[no-untyped-call]


def check_layout(figure: Figure) -> None:
    """Assert that texts lie on the page, and that none lies on another or on a picture."""
    with rendered(figure) as (page, renderer):
        beyond = [
            tick.label1
            for axes in figure.axes
            for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim()))
            for tick in axis.get_major_ticks()
            if not low <= tick.get_loc() <= high
        ]
        boxes = [
            (one.get_text(), one.get_window_extent(renderer))
            for one in figure.findobj(Text)
            if isinstance(one, Text) and one.get_text().strip() and one.get_visible() and one not in beyond
        ]
        boxes += [("picture", one.get_window_extent(renderer)) for axes in figure.axes for one in axes.images]
    for said, box in boxes:
        assert box.x0 >= 0, said
        assert box.y0 >= 0, said
        assert box.x1 <= page.shape[1], said
        assert box.y1 <= page.shape[0], said
    for (one, first), (other, second) in combinations(boxes, 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        down = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across <= 0 or down <= 0.5, f"{one!r} and {other!r} overlap"


KEYS = ("train_loss", "train_accuracy", "validation_loss", "accuracy", "balanced_accuracy", "macro_f1")


def run(epochs: int, seed: int = 0, lr: Callable[[int], float] = lambda _: 1e-3) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    return [
        {"epoch": epoch, "lr": lr(epoch)} | {key: float(rng.uniform(0.2, 0.9)) for key in KEYS}
        for epoch in range(1, epochs + 1)
    ]


def line(axes: Axes, label: str) -> Line2D:
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return found


def data(one: Line2D) -> NDArray[np.float64]:
    return np.asarray(one.get_ydata(), dtype=np.float64)


def rings(axes: Axes) -> list[tuple[str, float, float]]:
    return [
        (str(one.get_marker()), float(np.ravel(one.get_xdata())[0]), float(np.ravel(one.get_ydata())[0]))
        for one in axes.lines
        if one.get_markerfacecolor() == "white"
    ]


def dots(axes: Axes) -> list[tuple[float, float]]:
    found = [one for one in axes.lines if one.get_marker() == "o" and one.get_markerfacecolor() != "white"]
    points = [np.stack([np.asarray(part, dtype=np.float64) for part in one.get_data()], axis=1) for one in found]
    return sorted((float(x), float(y)) for x, y in np.concatenate(points))


SEEDS = {"seed 0": run(9), "seed 1": run(9, 1), "seed 2": run(9, 2)}


def test_the_mean_is_bold_and_the_runs_are_thin() -> None:
    figure = curves_figure(SEEDS, chosen={})
    panels = {"train_loss": 0, "validation_loss": 0, "accuracy": 1, "balanced_accuracy": 1, "macro_f1": 1, "lr": 2}
    for key, panel in panels.items():
        axes, factor = figure.axes[panel], 100 if panel == 1 else 1
        table = factor * np.array([[row[key] for row in rows] for rows in SEEDS.values()])
        mean = line(axes, f"mean {key}")
        np.testing.assert_allclose(data(mean), table.mean(axis=0))
        if key != "lr":
            band = axes.collections[[one for one in panels if panels[one] == panel].index(key)]
            assert [band.get_datalim(axes.transData).y0, band.get_datalim(axes.transData).y1] == pytest.approx(
                [table.min(), table.max()]
            )
        for name, values in zip(SEEDS, table, strict=True):
            one = line(axes, f"{name} {key}")
            np.testing.assert_array_equal(data(one), values)
            np.testing.assert_array_equal(one.get_xdata(), range(1, 10))
            assert one.get_linewidth() < mean.get_linewidth() / 2
    assert "Thin lines and bands are the 3 runs, bold lines their mean." in texts(figure)
    single = curves_figure({"seed 0": SEEDS["seed 0"]}, chosen={})
    assert line(single.axes[1], "seed 0 accuracy").get_linewidth() > 1.5
    assert not [one for one in single.axes[1].lines if str(one.get_label()).startswith("mean")]


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_the_chosen_epochs_are_marked(metric: str) -> None:
    chosen = {"seed 0": 4, "seed 1": 9, "seed 2": 1}
    figure = curves_figure(SEEDS, chosen=chosen, metric=metric)
    for axes, key, factor in zip(figure.axes, ("validation_loss", metric, "lr"), (1, 100, 1), strict=True):
        expected = [(epoch, factor * SEEDS[name][epoch - 1][key]) for name, epoch in chosen.items()]
        marks = rings(axes)
        assert [(x, y) for _, x, y in marks] == expected
        assert len({marker for marker, _, _ in marks}) == 3, "a shape a run"
    said = texts(figure)
    assert f"Chosen by {metric.replace('_', ' ').replace('f1', 'F1')}" in said
    assert f"seed 1: epoch 9, {100 * SEEDS['seed 1'][8][metric]:.1f}%" in said
    solid = {key for key in KEYS[3:] if line(figure.axes[1], f"mean {key}").get_linestyle() == "-"}
    assert solid == {metric}
    assert len({str(line(figure.axes[1], f"mean {key}")._dash_pattern) for key in KEYS[3:]}) == 3, "seen in grey"  # type: ignore[attr-defined]


def test_words_of_the_curves() -> None:
    figure = curves_figure(SEEDS, chosen={"seed 0": 2}, title="$\\frac{", subtitle="conv-cut on a_b^")
    said = texts(figure)
    for text in (
        *(
            "Loss",
            "train",
            "validation",
            "Validation metrics and training accuracy, %",
            "accuracy",
            "balanced",
            "macro F1",
        ),
        *("training", "Learning rate", "$\\frac{", "conv-cut on a_b^"),
    ):
        assert text in said, text
    assert said.count("epoch") == 3
    earlier = {
        name: [{key: row[key] for key in row if key != "train_accuracy"} for row in rows]
        for name, rows in SEEDS.items()
    }
    said = texts(curves_figure(earlier, chosen={}))
    assert "Validation metrics, %" in said
    assert "balanced accuracy" in said


def test_accuracy_in_training_is_drawn() -> None:
    metrics = curves_figure(SEEDS, chosen={}).axes[1]
    expected = [100 * row["train_accuracy"] for row in SEEDS["seed 1"]]
    np.testing.assert_allclose(data(line(metrics, "seed 1 train_accuracy")), expected)


def test_what_is_not_finite_leaves_a_gap(tmp_path: Path) -> None:
    rows = run(6)
    rows[1]["accuracy"] = rows[3]["accuracy"] = math.nan
    rows[2]["train_loss"] = math.inf
    figure = curves_figure({"one": rows, "two": run(6, 1)}, chosen={"one": 2}, metric="accuracy")
    metrics = figure.axes[1]
    assert np.flatnonzero(np.isnan(data(line(metrics, "one accuracy")))).tolist() == [1, 3]
    assert np.flatnonzero(np.isnan(data(line(metrics, "mean accuracy")))).tolist() == [1, 3]
    assert np.flatnonzero(np.isnan(data(line(figure.axes[0], "one train_loss")))).tolist() == [2]
    # The first and the third have a gap on either side: they are still there, of the run and of the mean.
    assert [x for x, _ in dots(metrics)] == [1, 1, 3, 3]
    assert 100 * rows[2]["accuracy"] in [y for _, y in dots(metrics)]
    save_figure(figure, tmp_path / "a.png", dpi=40)
    nothing = [row | dict.fromkeys((*KEYS, "lr"), math.nan) for row in rows]
    save_figure(curves_figure({"one": nothing}, chosen={}), tmp_path / "b.png", dpi=40)


def test_a_run_that_stops_early_ends_the_mean() -> None:
    figure = curves_figure({"seed 0": run(4), "seed 1": run(9, 1)}, chosen={"seed 0": 4, "seed 1": 9})
    mean = data(line(figure.axes[1], "mean accuracy"))
    assert np.isfinite(mean).tolist() == [True] * 4 + [False] * 5
    assert np.isfinite(data(line(figure.axes[1], "seed 1 accuracy"))).all()


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_epoch_still_shows(seeds: int) -> None:
    runs = {f"seed {k}": run(1, k) for k in range(seeds)}
    figure = curves_figure(runs, chosen=dict.fromkeys(runs, 1))
    for axes, lines in zip(figure.axes, (2, 4, 1), strict=True):
        assert len(dots(axes)) == lines * (seeds + (seeds > 1))
    check_layout(figure)
    with rendered(figure):
        for axes in figure.axes:
            low, high = axes.get_xlim()
            assert [text.get_text() for text in axes.get_xticklabels() if low < text.get_position()[0] < high] == ["1"]


@pytest.mark.parametrize(
    ("lr", "words", "labels"),
    [
        (lambda epoch: 1e-3 * 0.1 ** (epoch // 4), "Learning rate, log scale", ["10⁻⁵", "10⁻⁴", "10⁻³"]),
        (lambda epoch: 1e-3 * (epoch - 1) / 8, "Learning rate", ["0", "0.0005", "0.001"]),
        (lambda epoch: 1e-3 * (epoch - 1) / 80, "Learning rate, in 10⁻⁴", ["0", "0.5", "1"]),
        (lambda epoch: 1e-3 * (epoch - 1) ** 2, "Learning rate, log scale", ["10⁻³", "10⁻²"]),
        (lambda _: 2e-4, "Learning rate, in 10⁻⁴", ["0", "1", "2"]),
        (lambda _: 0.0, "Learning rate", ["0", "1"]),
    ],
)
def test_rates_over_decades_are_logarithmic(lr: Callable[[int], float], words: str, labels: list[str]) -> None:
    figure = curves_figure({"one": run(9, lr=lr)}, chosen={})
    axes = figure.axes[2]
    assert axes.get_yscale() == ("log" if "log" in words else "linear")
    with rendered(figure):
        low, high = axes.get_ylim()
        shown = {text.get_text() for text in axes.get_yticklabels() if low <= text.get_position()[1] <= high}
    assert set(labels) <= shown
    assert words in texts(figure)
    expected = [np.nan if "log" in words and lr(epoch) == 0 else lr(epoch) for epoch in range(1, 10)]
    np.testing.assert_array_equal(data(line(axes, "one lr")), expected)


@pytest.mark.parametrize(("runs", "epochs"), [(1, 1), (1, 2), (3, 50), (9, 300)])
def test_layout_of_the_curves(runs: int, epochs: int) -> None:
    several = {f"seed {k}": run(epochs, k, lambda epoch: 1e-3 * 0.9**epoch) for k in range(runs)}
    figure = curves_figure(several, chosen=dict.fromkeys(several, epochs), title="Training", subtitle="of what")
    check_layout(figure)
    assert 9.5 < figure.get_size_inches()[0] < 11


@pytest.mark.parametrize(
    ("runs", "chosen", "metric", "what"),
    [
        ({}, {}, "accuracy", "no run"),
        ({"a": []}, {}, "accuracy", "without an epoch"),
        ({"a": run(2)}, {"a": 3}, "accuracy", "epoch 3 of 'a'"),
        ({"a": run(2)}, {"b": 1}, "accuracy", "epoch 1 of 'b'"),
        ({"a": run(2)}, {}, "ece", "not by 'ece'"),
    ],
)
def test_what_no_curve_can_show(runs: Any, chosen: dict[str, int], metric: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        curves_figure(runs, chosen=chosen, metric=metric)


PATH = ParameterPath(
    "lambda",
    (0.01, 1.0, 100.0, 10000.0),
    {"semantic": (0.4, 0.45, 0.5, 0.48), "$\\frac{": (0.3, math.nan, 0.35, 0.32)},
    ("semantic", 100.0),
)


def test_the_path_of_a_parameter_is_logarithmic_and_its_choice_marked() -> None:
    figure = path_figure([PATH, ParameterPath("C", (1e-5,), {"logistic": (0.5,)})], "Selection", "of what")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    semantic, other = line(axes, "semantic"), line(axes, "$\\frac{")
    assert np.ravel(semantic.get_xdata()).tolist() == list(PATH.values)
    np.testing.assert_allclose(data(semantic), (40, 45, 50, 48))
    assert np.ravel(other.get_xdata()).tolist() == [0.01, 100, 10000]
    assert rings(axes) == [("o", 100, 50)]
    assert str(semantic._dash_pattern) != str(other._dash_pattern), "seen in grey"  # type: ignore[attr-defined]
    said = texts(figure)
    for text in ("chosen: 100", "lambda", "C", "semantic", "$\\frac{", "logistic", "Selection", "of what"):
        assert text in said, text
    with rendered(figure):
        low, high = axes.get_xlim()
        labels = {text.get_text() for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high}
    assert {"10⁻²", "10⁰", "10²", "10⁴"} <= labels
    assert all(text.startswith("10") for text in labels if text)
    check_layout(figure)


@pytest.mark.parametrize(
    ("paths", "what"),
    [
        ([], "no hyper-parameter"),
        ([ParameterPath("c", (1.0, 2.0), {"s": (1.0,)})], "the 2 values of c"),
        ([ParameterPath("c", (0.0, 2.0), {"s": (1.0, 2.0)})], "not positive"),
    ],
)
def test_what_no_path_can_show(paths: list[ParameterPath], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        path_figure(paths)


def example(predicted: str, probability: float = 0.61, size: int = 12, colour: bool = False) -> Example:
    heat = np.zeros((SIDE, SIDE), np.float32)
    heat[8:, :8] = 1  # lower left
    return Example(np.full((size, size, 3) if colour else (size, size), 90, np.uint8), heat, predicted, probability)


ROWS = [
    Row("happy", [example("happy", 0.934), example("happy", 0.999)], [example("sad", 0.612, colour=True)]),
    Row("fear", [], [example("surprise"), example("contempt"), example("a_b^$")]),
    Row("disgust", [example("disgust", 0.001)], []),
]


def test_words_of_the_grid() -> None:
    figure = gradcam_figure(ROWS, "Grad-CAM $\\frac{", "of what")
    said = texts(figure)
    assert [text for text in said if "%" in text] == [
        *("happy  93%", "happy  >99%", "sad  61%"),
        *("surprise  61%", "contempt  61%", "a_b^$  61%"),
        "disgust  <1%",
    ]
    for text in ("happy", "fear", "disgust", "right", "wrong", "less", "more", "Grad-CAM $\\frac{", "of what"):
        assert text in said, text
    assert said.count("none") == 2
    assert "no evidence" not in said
    check_layout(figure)


def shown(figure: Figure) -> list[tuple[float, float, float, float]]:
    """Return left, top, width and height of each example's picture, in the page's dots."""
    found = [one.get_extent() for one in figure.axes[0].images[:-1]]
    return [(left, top, right - left, bottom - top) for left, right, bottom, top in found]


def test_right_on_the_left_and_wrong_on_the_right() -> None:
    figure = gradcam_figure(ROWS)
    places = shown(figure)
    assert len(places) == 7
    at = {one.get_text(): one.get_position() for one in figure.axes[0].texts}
    for (x, y, _, high), row, block in zip(places, [0, 0, 0, 1, 1, 1, 2], "rrwwwwr", strict=True):
        assert (x >= at["wrong"][0] - 1e-9) == (block == "w")
        assert x >= at["right"][0] - 1e-9
        assert y < at[ROWS[row].name][1] < y + high, "beside its class"


@pytest.mark.parametrize("colour", [False, True])
def test_the_heatmap_is_overlaid_on_the_picture(colour: bool) -> None:
    from matplotlib import colormaps

    figure = gradcam_figure([Row("happy", [example("happy", colour=colour)], [])])
    with rendered(figure) as (page, renderer):
        box, bar = (one.get_window_extent(renderer) for one in figure.axes[0].images)
    height = page.shape[0]

    def at(across: float, down: float) -> NDArray[np.float64]:
        return np.asarray(page[int(height - box.y1 + down * box.height), int(box.x0 + across * box.width)])

    np.testing.assert_allclose(at(0.8, 0.2), 90, atol=2, err_msg="without evidence the picture stays as it is")
    np.testing.assert_allclose(at(0.8, 0.8), 90, atol=2)
    hot = 0.7 * 255 * np.array(colormaps["plasma"](0.95)[:3]) + 0.3 * 90
    np.testing.assert_allclose(at(0.2, 0.8), hot, atol=3)
    line = page[int(height - box.y1 + 0.8 * box.height), int(box.x0) : int(box.x1)].min(axis=1)
    assert line.max() > 150, "the line at half"
    assert 0.45 < line.argmax() / len(line) < 0.55
    x = int(bar.x0 + 0.8 * bar.width)
    evidence = (x + 0.5 - bar.x0) / bar.width
    opacity = 0.7 * evidence**2
    tint = opacity * 255 * np.array(colormaps["plasma"](0.1 + 0.85 * evidence)[:3]) + (1 - opacity) * 128
    np.testing.assert_allclose(page[int(height - (bar.y0 + bar.y1) / 2), x], tint, atol=3)


def test_a_coarse_map_does_not_hide_the_face() -> None:
    """Of a 2 x 2 map nothing is near zero: where there is half of the evidence, most of the picture shows through."""
    assert tinted(np.array([0.0, 0.5, 1.0]))[:, 3].tolist() == pytest.approx([0, 0.175, 0.7])


@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_a_flat_map_has_no_line_and_an_empty_one_says_so(heat: float) -> None:
    one = Example(np.zeros((9, 7), np.uint8), np.full((4, 4), heat, np.float32), "happy", 0.5)
    figure = gradcam_figure([Row("happy", [one], [])])
    picture = np.asarray(figure.axes[0].images[0].get_array())
    assert (picture == picture[0, 0]).all()
    assert ("no evidence" in texts(figure)) == (heat == 0)
    check_layout(figure)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_any_number_of_examples(count: int) -> None:
    figure = gradcam_figure(
        [Row("surprise", [example("surprise")] * count, [example("contempt", 0.999)] * count)], "t", "s"
    )
    check_layout(figure)
    assert texts(figure).count("none") == 2 * (count == 0)
    with pytest.raises(ValueError, match="no class"):
        gradcam_figure([])


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_same_each_time(tmp_path: Path, suffix: str) -> None:
    face, _ = drawn_face(4, 48)

    def figures() -> list[Figure]:
        ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
        return [
            curves_figure(SEEDS, chosen={"seed 0": 4}),
            gradcam_figure([Row("happy", [Example(face, ramp, "happy", 0.9)], [])]),
        ]

    for one, other in zip(figures(), figures(), strict=True):
        first = save_figure(one, tmp_path / f"a{suffix}", dpi=50).read_bytes()
        assert first == save_figure(other, tmp_path / f"b{suffix}", dpi=50).read_bytes()
        assert len(first) > 5000


def test_figures_import_neither_torch_nor_pyplot() -> None:
    code = """
import sys
import fer_cli.reporting.curves, fer_cli.reporting.gradcam
assert not {"matplotlib", "torch"} & set(sys.modules)
row = dict.fromkeys(("lr", "train_loss", "validation_loss", "accuracy", "balanced_accuracy", "macro_f1"), 0.5)
fer_cli.reporting.curves.curves_figure({"a": [row | {"epoch": 1}]}, chosen={"a": 1})
assert "matplotlib" in sys.modules and not {"matplotlib.pyplot", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
