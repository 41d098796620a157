"""The recipe of ``fer train baseline``."""

from __future__ import annotations

from fer_cli.systems.classifier import ClassifierRecipe


class BaselineRecipe(ClassifierRecipe):
    """Recipe of ``fer train baseline``."""

    def variant(self) -> tuple[str, ...]:
        """Return the attention and the loss where they are others, and whether the backbone is frozen."""
        return (
            *([self.model.attention] if self.model.attention != "none" else []),
            *(self.loss.variant() if self.loss.name != "cross-entropy" else []),
            *(["frozen"] if self.model.frozen else []),
        )
