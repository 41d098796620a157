"""Mistakes that were made, or nearly, in the losses and networks of papers: the tests must notice each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mistake:
    """A wrong text in place of a right one, which stands once in the module; at least one of the tests must fail."""

    name: str
    module: str
    tests: tuple[str, ...]
    right: str
    wrong: str


_ISLAND: Final[dict[str, tuple[str, str]]] = {
    "a constant on the diagonal": (" & ~torch.eye(len(norms), dtype=torch.bool, device=norms.device)", ""),
    "the pairs' sign in the loss": ("self.pairs * self._pairs())", "self.pairs * -self._pairs())"),
    "the cosine's sign": ("((cosines + 1) * there)", "((1 - cosines) * there)"),
    "the pairs' sign in the movement": ("delta += self.pairs", "delta -= self.pairs"),
    "no pairs in the movement": ("delta += self.pairs", "delta += 0"),
    "unordered pairs": ("* there).sum()\n", "* there).sum() / 2\n"),
    "centres in the optimiser": (
        'self.register_buffer("centres", torch.zeros(classes, width))',
        "self.centres = torch.nn.Parameter(torch.zeros(classes, width))",
    ),
    "a sum over the batch where the others average": ("apart.square().sum(1).mean()", "apart.square().sum()"),
    "a mean over the features": ("apart.square().sum(1).mean()", "apart.square().mean()"),
    "centres drawn by sums": ("/ (1 + counts)", ""),
    "centres drawn by plain means": ("/ (1 + counts)", "/ counts.clamp(min=1)"),
    "centres that move away": ("self.centres -= self.rate", "self.centres += self.rate"),
    "centres that jump": ("self.rate * delta", "delta"),
    "a cosine with a centre of zero": ("has = norms > 0\n", "has = norms >= 0\n"),
    "a division by a zero centre": ("torch.where(norms > 0, norms, 1)\n", "norms\n"),
    "no half": (".mean() / 2", ".mean()"),
    "lambda over the softmax too": ("return softmax + self.island * (", "return self.island * (softmax + "),
}
_PSA: Final[dict[str, tuple[str, str]]] = {
    "weighed against its own channels": ("gates.softmax(1)", "gates.softmax(2)"),
    "not weighed against each other": ("gates.softmax(1)", "gates"),
    "gates without their sigmoid": (", nn.Sigmoid()\n", "\n"),
    "pooled over all branches": ("self.se(maps.flatten(0, 1))", "self.se(maps.mean(1).repeat_interleave(branches, 0))"),
    "the stride on the first branch": (
        "nn.Conv2d(width, branch, kernel, stride, kernel // 2,",
        "nn.Conv2d(width, branch, kernel, stride if kernel == 3 else 1, kernel // 2,",
    ),
    "branches interleaved": ("weighed.reshape(", "weighed.transpose(1, 2).reshape("),
    "the paper's groups for the reference's": ('"reference": (1, 4, 8, 16)', '"reference": (2, 4, 8, 16)'),
    "the input always whole": ("x.chunk(len(KERNELS), 1) if self.split else ", ""),
}
_SLFER_LOSS: Final[dict[str, tuple[str, str]]] = {
    "equation 3 as printed": ("loss + self.components *", "loss - self.components *"),
    "a mean over regions": ("each.sum(1).mean()", "each.mean()"),
    "a sum over images": ("each.sum(1).mean()", "each.sum()"),
    "lambda1 for lambda2": (
        "self.segmentation, self.components = segmentation",
        "self.components, self.segmentation = segmentation",
    ),
    "a sum over pixels": ("maps.long())", 'maps.long(), reduction="sum")'),
    "logits taken for shares": (
        "binary_cross_entropy_with_logits(large.float()",
        "binary_cross_entropy(large.float().clamp(0, 1)",
    ),
}
_COMPONENT_TARGET: Final[dict[str, tuple[str, str]]] = {
    "the smallest": ("descending=True", "descending=False"),
    "one too many": ("order[:, :number]", "order[:, : number + 1]"),
    "regions that are not there": ("return large & (areas > 0)", "return large"),
    "pixels counted in one direction": (".sum((1, 2))", ".any(1).sum(1)"),
}
_SLFER_NETWORK: Final[dict[str, tuple[str, str]]] = {
    "the training skips the attention": ("maps = own.attention(last)", "maps = last"),
    "the training skips the hidden layers": ("own.classifier(own.dropout(features))", "own.classifier[-1](features)"),
}
_MAP_AUGMENTATION: Final[dict[str, tuple[str, str]]] = {
    "a map is not mirrored": ("    maps = _flipped(maps, draw, settings)\n", ""),
    "a map is not cropped": (
        "movement = _movement(draw, settings, preprocessing.crop).to(maps.device)",
        "movement = _movement(draw, settings, 0.0).to(maps.device)",
    ),
    "a map lies half a pixel beside": (
        'movement, preprocessing.size, "nearest")',
        'movement + 1 / preprocessing.size, preprocessing.size, "nearest")',
    ),
}

MISTAKES: Final = [
    Mistake(name, module, tests, right, wrong)
    for module, tests, mistakes in (
        (
            "fer_cli/losses/island.py",
            (
                "tests/losses/test_island.py::test_the_loss_and_the_centres_are_what_loops_give",
                "tests/losses/test_island.py::test_centres_are_no_parameters_and_travel_with_a_checkpoint",
            ),
            _ISLAND,
        ),
        ("fer_cli/models/psa.py", ("tests/models/test_psa.py::test_it_is_what_loops_give",), _PSA),
        (
            "fer_cli/systems/slfer/loss.py",
            ("tests/systems/test_slfer.py::test_the_losses_are_what_loops_give",),
            _SLFER_LOSS,
        ),
        (
            "fer_cli/systems/slfer/loss.py",
            ("tests/systems/test_slfer.py::test_the_largest_regions_are_those_that_counting_gives",),
            _COMPONENT_TARGET,
        ),
        (
            "fer_cli/systems/slfer/network.py",
            ("tests/systems/test_slfer.py::test_what_is_trained_is_what_is_tested",),
            _SLFER_NETWORK,
        ),
        (
            "fer_cli/training/augmentation.py",
            (
                "tests/systems/test_slfer.py::test_maps_move_with_their_pictures",
                "tests/systems/test_slfer.py::test_a_map_moves_by_parts_of_a_pixel_as_its_picture_does",
            ),
            _MAP_AUGMENTATION,
        ),
    )
    for name, (right, wrong) in mistakes.items()
]
"""All of them, by module."""
