"""Joint softmax and island loss (PSA-ResNet, equations 7 and 8; the island loss is Cai et al., FG 2018).

The papers write sums over the batch; here the softmax is a mean over its images, so that a rate fits any batch, and the
centre term is one too unless it is asked for as the sum that they print.
Centres are no parameters: they move by their own rule. As the pairwise term does not depend on the features, that rule
is the only place where it acts: without its gradient there, the term would be a number that changes nothing.
"""

from __future__ import annotations

import torch

from fer_cli.core.distributed import Ranks, all_reduce, ranks
from fer_cli.core.errors import FerError
from fer_cli.losses.cross_entropy import CrossEntropy
from fer_cli.losses.objective import Objective


class IslandLoss(Objective):
    """Cross-entropy and ``island * (1/2 mean |x - c_y|^2 + pairs * sum over j != k of (cos(c_j, c_k) + 1))``.

    The sum is over ordered pairs. After every step, with n_j images of class j in the batch of all processes:

        delta_j = sum over y = j of (c_j - x) / (1 + n_j) + pairs / (C - 1) * sum over k != j of d cos(c_j, c_k) / d c_j
        c_j <- c_j - rate * delta_j

    A centre starts at zero. It then has no direction, and is in no pair until an image of its class has come.

    Args:
        softmax: the cross-entropy.
        classes: C.
        width: d, of the features.
        island: lambda, 1 in the paper; .01 is usual elsewhere.
        pairs: lambda1, between the two terms of the island loss.
        rate: alpha, of the centres.
        summed: take the centre term as a sum over the images of the batch of all processes, in place of the mean.
    """

    centres: torch.Tensor

    def __init__(
        self,
        softmax: CrossEntropy,
        classes: int,
        width: int,
        *,
        island: float,
        pairs: float,
        rate: float,
        summed: bool = False,
    ) -> None:
        super().__init__()
        if classes < 2:
            raise FerError(
                "the island loss separates classes, and the dataset has one", hint="take loss.name = 'cross-entropy'"
            )
        self.softmax = softmax
        self.island, self.pairs, self.rate = island, pairs, rate
        self.summed = summed
        self.register_buffer("centres", torch.zeros(classes, width))
        self.seen: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(
        self, output: tuple[torch.Tensor, torch.Tensor], target: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Return the loss.

        Args:
            output: logits (n, C) and features (n, d).
            target: what the softmax learns, classes (n,) or shares (n, C), and the classes (n,) of the centres.
        """
        logits, features = output
        features = features.to(self.centres.dtype)
        wanted, labels = target
        apart = features - self.centres[labels]
        centre = apart.square().sum(1).mean() / 2
        if self.summed:  # gradients are averaged over the processes, which have equal shares of the batch
            centre = centre * len(features) * ranks().world
        self.seen = (features.detach(), labels)
        softmax: torch.Tensor = self.softmax(logits, wanted)
        return softmax + self.island * (centre + self.pairs * self._pairs())

    @torch.no_grad()
    def _pairs(self) -> torch.Tensor:
        cosines, there = self._cosines()
        return ((cosines + 1) * there).sum()

    def _cosines(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cos(c_j, c_k), and where j and k differ and both have a direction; (C, C) both."""
        norms = self.centres.norm(dim=1)
        has = norms > 0
        unit = self.centres / torch.where(has, norms, 1)[:, None]
        there = has[:, None] & has & ~torch.eye(len(norms), dtype=torch.bool, device=norms.device)
        return unit @ unit.T, there

    @torch.no_grad()
    def advance(self, ranks: Ranks) -> None:
        """Move the centres on by the batch of the last :meth:`forward`, of all processes."""
        assert self.seen is not None, "there was no batch"
        features, labels = self.seen
        classes = len(self.centres)
        counts = torch.zeros(classes, 1, dtype=features.dtype, device=features.device)
        counts.index_add_(0, labels, torch.ones_like(features[:, :1]))
        sums = torch.zeros_like(self.centres).index_add_(0, labels, features)
        counts, sums = all_reduce(counts, ranks), all_reduce(sums, ranks)
        delta = (counts * self.centres - sums) / (1 + counts)
        cosines, there = self._cosines()
        norms = self.centres.norm(dim=1, keepdim=True)
        norms = torch.where(norms > 0, norms, 1)
        unit = self.centres / norms
        # d cos(c_j, c_k) / d c_j = (u_k - cos(c_j, c_k) u_j) / |c_j|, summed over k.
        slope = (there.to(unit) @ unit - (cosines * there).sum(1, keepdim=True) * unit) / norms
        delta += self.pairs / (classes - 1) * slope
        self.centres -= self.rate * delta
        self.seen = None
