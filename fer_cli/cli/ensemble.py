"""``fer ensemble``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fer_cli.cli.common import Output, artifact_output
from fer_cli.cli.options import DeviceOption, ForceOption, command

if TYPE_CHECKING:
    from fer_cli.artifacts.result import Result
    from fer_cli.artifacts.store import Store


@command("ensemble")
def ensemble(
    store: Store,
    members: Annotated[list[str], typer.Argument(metavar="MEMBER...", help="Models and studies, two or more.")],
    weights: Annotated[
        Literal["equal", "fitted"],
        typer.Option(help="Of the members: equal, or fitted on the validation split, which counts as a selection."),
    ] = "equal",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    name: str | None = None,
) -> Output:
    """Put models and studies together: they answer by the mean of their calibrated probabilities.

    Members know the same classes in the same order and were trained on the same splits. What is made holds references
    and hashes, no weights: `fer eval`, `predict`, `compare`, `audit` and `distill.teacher` take it as they take a
    model. Its temperature is fitted on the validation split.
    """
    from fer_cli.artifacts.summaries import EnsembleSummary, member_role
    from fer_cli.cli.requests import answer

    options: dict[str, Any] = {"name": name, "weights": weights, "device": device}
    references = {member_role(number): (member, ("model", "study")) for number, member in enumerate(members)}

    def build(references: Mapping[str, Any]) -> Sequence[Result]:
        from fer_cli.stages.ensemble import ensemble as stage

        return [stage(store=store, members=list(references.values()), **options, force=force)]

    [result] = answer(store, "ensemble", options, references, build, force=force)
    summary = EnsembleSummary.of(result.artifact)
    kinds = [result.artifact.manifest.inputs[role].kind for role in references]
    lines = [
        (
            output,
            f"weight {weight:.3f}, validation accuracy {accuracy:.1%}"
            + (", by the mean of its probabilities" if kind == "study" else ""),
        )
        for output, weight, accuracy, kind in zip(
            summary.outputs, summary.weights, summary.member_accuracy, kinds, strict=True
        )
    ]
    scores = summary.selected
    lines += [
        (
            "ensemble",
            f"validation accuracy {scores.accuracy:.1%}, balanced {scores.balanced_accuracy:.1%}, "
            f"temperature {summary.temperature:.3g}",
        ),
        ("networks", f"{summary.networks}, {summary.parameters:,} parameters, {summary.multiply_adds:,} multiply-adds"),
    ]
    return artifact_output(result, lines)
