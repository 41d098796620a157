"""``fer fit-ahm``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_cli.cli.common import Output, artifact_output, listed, print_file
from fer_cli.cli.options import FeaturesArgument, ForceOption, SeedOption, command
from fer_cli.core.errors import UsageError

if TYPE_CHECKING:
    from fer_cli.artifacts.result import Result
    from fer_cli.artifacts.store import Store


@command("fit-ahm")
def fit_ahm(
    store: Store,
    features: FeaturesArgument = None,
    hierarchy: Annotated[
        Path | None, typer.Option("--hierarchy", help="A hierarchy in TOML. [default: the built-in one]")
    ] = None,
    print_hierarchy: Annotated[
        bool, typer.Option("--print-hierarchy", help="Print the built-in hierarchy, to copy and edit, and exit.")
    ] = False,
    paths: Annotated[str, typer.Option(help="shared, or full (an ablation: orthogonal prototypes).")] = "shared",
    lambdas: Annotated[
        str | None, typer.Option(help="Multiples of the balanced lambda: 0.01,1,100. [default: 20 from 1e-4 to 1e4]")
    ] = None,
    ridge: Annotated[float, typer.Option(help="Relative ridge on SS' and XX'; 0 for none.")] = 1e-6,
    metric: Annotated[str, typer.Option(help="accuracy or balanced: selection metric on validation.")] = "accuracy",
    centring: Annotated[
        str,
        typer.Option(
            help="Of X and S in the projection: features (X is standardised), none (both as they are: the paper), "
            "both (S less its mean too), intercept (X standardised, with a constant)."
        ),
    ] = "features",
    reduce: Annotated[
        str | None,
        typer.Option(help="Fit on a share of a class's training images: disgust=0.1, or several with commas."),
    ] = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    name: str | None = None,
) -> Output:
    """Fit AHM and two plain classifiers on the same features.

    The plain ones are nearest class mean and logistic regression.

    The two plain classifiers show what AHM gains.
    """
    from fer_cli.artifacts.summaries import AhmSummary

    if print_hierarchy:
        from fer_cli.systems.ahm.hierarchy import default_hierarchy

        text = default_hierarchy().text
        return Output({"hierarchy": text}, partial(print_file, text))
    from fer_cli.cli.requests import answer

    options: dict[str, Any] = {
        "name": name,
        "hierarchy": hierarchy,
        "paths": paths,
        "ridge": ridge,
        "metric": metric,
        "centring": centring,
        "reduce": _shares(reduce),
        "seed": seed,
    }
    if lambdas is not None:
        options["lambdas"] = _numbers(lambdas)

    def build(references: Mapping[str, Any]) -> Sequence[Result]:
        from fer_cli.stages.fit_ahm import fit_ahm as stage

        return [stage(store=store, **references, **options, force=force)]

    [result] = answer(store, "fit-ahm", options, {"features": (features, ["features"])}, build, force=force)
    summary = AhmSummary.of(result.artifact)
    lines = [("fitted on", f"{summary.training_samples:,} samples"), ("chosen", summary.chosen)]
    for predictor, scores in summary.validation.items():
        setting = summary.settings.get(predictor)
        at = "" if setting is None else f"  at {'C' if predictor == 'logistic' else 'lambda'} {setting:.4g}"
        lines.append(
            (predictor, f"validation accuracy {scores.accuracy:.1%}, balanced {scores.balanced_accuracy:.1%}{at}")
        )
    return artifact_output(result, lines)


def _shares(text: str | None) -> dict[str, float]:
    shares: dict[str, float] = {}
    for item in [] if text is None else listed(text, "--reduce"):
        name, _, share = item.partition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError as error:
            raise UsageError(f"--reduce {item!r} is not CLASS=SHARE", hint="write it as disgust=0.1") from error
    return shares


def _numbers(text: str) -> list[float]:
    try:
        return [float(item) for item in listed(text, "--lambdas")]
    except ValueError as error:
        raise UsageError(f"--lambdas {text!r} are not all numbers", hint="write them as 0.01,1,100") from error
