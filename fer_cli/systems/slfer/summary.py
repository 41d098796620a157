"""What SLFER adds to a model's summary."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from fer_cli.systems.base import SystemSummary

ALMOST_CONSTANT: Final = 0.05
"""Bits below which a region's target is said to be the same in almost all images: 1 image in 180 differs."""


class ComponentTarget(SystemSummary):
    """How much the component task has to say: the entropy of which regions are large, and those that mostly are.

    ``region_bits`` is the entropy of each region alone: of one that always is, or never, nothing can be learned.
    """

    entropy_bits: float
    different: int
    most_common: list[str]
    most_common_share: float
    region_bits: dict[str, float] = Field(default_factory=dict)

    def __str__(self) -> str:
        usual = ", ".join(self.most_common) or "no region"
        constant = [region for region, bits in self.region_bits.items() if bits < ALMOST_CONSTANT]
        still = f"; the same in almost all: {', '.join(constant)}" if constant else ""
        return (
            f"{self.entropy_bits:.2f} bits, {self.different:,} different; {usual} in {self.most_common_share:.1%} of "
            f"the training images{still}"
        )


class SLFERSummary(SystemSummary):
    """Where the attention is, and what the auxiliary tasks have to say."""

    attention_place: Literal["blocks", "last map"] | None
    head_parameters: int
    component_target: ComponentTarget | None
