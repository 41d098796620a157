"""What a paper cites that uses the analytic hierarchical model."""

from __future__ import annotations

from typing import Final

from fer_cli.core.citations import Citation

ZHANG_AHM: Final = Citation(
    "zhang-ahm",
    "misc",
    "Facial Expression Recognition Via Multi Semantic Diffusion Model on Imbalanced Datasets",
    ("Zhang, Ling", "Dong, Junlan"),
)
