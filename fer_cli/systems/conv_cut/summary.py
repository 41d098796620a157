"""What Conv-cut adds to a model's summary."""

from __future__ import annotations

from typing import Final

from fer_cli.systems.base import SystemSummary

IDLE: Final = 0.01
"""Share of predictions below which attention that could be left out is said to do next to nothing."""


class AttentionMeasure(SystemSummary):
    """How far attention A V is from V, the identity, and from the mean of V's rows, on images that were not trained on.

    ``rows`` is how many attend to each other; with equal weights each has ``1 / rows``, and ``self_weight`` is the mean
    of what a row gives itself. Distances are Frobenius norms relative to that of V. ``changed_by`` counts the images
    whose prediction is another where the identity, or the mean, stands in for the attention.
    """

    images: int
    rows: int
    self_weight: float
    from_identity: float
    from_mean: float
    identity_from_mean: float
    changed_by_identity: int
    changed_by_mean: int

    @property
    def is_idle(self) -> bool:
        """Whether leaving the attention out changes fewer than 1% of the predictions."""
        return self.changed_by_identity < IDLE * self.images

    def __str__(self) -> str:
        idle = ": it does next to nothing" if self.is_idle else ""
        return (
            f"self-weight {self.self_weight:.3f} among {self.rows} (equal weights: {1 / self.rows:.3f}), "
            f"{self.from_identity:.3f} from the identity, {self.from_mean:.3f} from the mean, which are "
            f"{self.identity_from_mean:.3f} apart; without it {self.changed_by_identity:,} of {self.images:,} "
            f"predictions change, with the mean in its place {self.changed_by_mean:,}{idle}"
        )


class ConvCutSummary(SystemSummary):
    """Where the backbone was cut, what is trained on it, and what its attention does on the validation images."""

    cut: str
    map: tuple[int, int, int]  # channels, height, width
    head_parameters: int
    attention: AttentionMeasure | None = None
