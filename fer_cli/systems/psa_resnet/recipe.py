"""The recipe of ``fer train psa-resnet``."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from fer_cli.core.recipes import key
from fer_cli.systems.classifier import ClassifierModel, ClassifierRecipe


class PSAResNetModel(ClassifierModel):
    """A ResNet with pyramid split attention (:mod:`fer_cli.models.psa`)."""

    renamed: ClassVar[dict[str, str]] = {"taken": "branch_input"}

    groups: Literal["reference", "paper"] = key(
        "psa: groups of the four convolutions, 1/4/8/16 or the paper's 2/4/8/16", default="reference"
    )
    branch_input: Literal["whole", "split"] = key(
        "psa: each branch takes the whole input, or a quarter of its channels", default="whole"
    )


class PSAResNetRecipe(ClassifierRecipe):
    """Recipe of ``fer train psa-resnet``."""

    model: PSAResNetModel

    @model_validator(mode="after")
    def _form_of_psa(self) -> Self:
        if self.model.attention != "psa":
            for name in ("groups", "branch_input"):
                if getattr(self.model, name) != type(self.model).model_fields[name].default:
                    raise ValueError(f"model.{name} is of psa alone: leave it out")
        return self

    def variant(self) -> tuple[str, ...]:
        """Return the attention and the loss where they are others, and psa's form where it is the paper's."""
        model = self.model
        attention = "plain" if model.attention == "none" else model.attention
        form = [f"{model.groups}-groups"] if model.groups != "reference" else []
        form += [model.branch_input] if model.branch_input != "whole" else []
        return (
            *([attention] if attention != "psa" else form),
            *(self.loss.variant()[1:] if self.loss.name == "island" else self.loss.variant()),
        )
