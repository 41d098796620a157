"""What SLFER adds to a model's summary."""

from __future__ import annotations

from typing import Literal

from fer_cli.systems.base import SystemSummary


class ComponentTarget(SystemSummary):
    """How much the component task has to say: the entropy of which regions are the largest, and the usual ones."""

    entropy_bits: float
    different: int
    most_common: list[str]
    most_common_share: float


class SLFERSummary(SystemSummary):
    """Where the attention is, and what the auxiliary tasks have to say."""

    attention_place: Literal["blocks", "last map"] | None
    head_parameters: int
    component_target: ComponentTarget | None
