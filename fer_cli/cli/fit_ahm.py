"""``fer fit-ahm``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fer_cli.cli.common import (
    DebugOption,
    ForceOption,
    JsonOption,
    StoreOption,
    listed,
    open_store,
    print_json,
    print_result,
    summary_of,
)
from fer_cli.core.errors import UsageError


def fit_ahm(
    features: Annotated[str | None, typer.Argument(help="The features. [default: the newest]")] = None,
    hierarchy: Annotated[
        Path | None, typer.Option("--hierarchy", help="A hierarchy in TOML. [default: fer's own]")
    ] = None,
    print_hierarchy: Annotated[
        bool, typer.Option("--print-hierarchy", help="Print fer's own hierarchy, to copy and edit, and exit.")
    ] = False,
    paths: Annotated[str, typer.Option(help="shared, or full (an ablation: orthogonal prototypes).")] = "shared",
    lambdas: Annotated[
        str | None, typer.Option(help="Multiples of the balanced lambda, as 0.01,1,100. [default: 20 from 1e-4 to 1e4]")
    ] = None,
    ridge: Annotated[float, typer.Option(help="Relative ridge on SS' and XX'; 0 for none.")] = 1e-6,
    metric: Annotated[str, typer.Option(help="accuracy or balanced: what validation chooses by.")] = "accuracy",
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Fit AHM, and two plain classifiers beside it.

    Nearest class mean and logistic regression see the same features: AHM's gain is measured each time.
    """
    from fer_cli.stages.fit_ahm import fit_ahm as stage
    from fer_cli.systems.ahm.fit import RELATIVE_LAMBDAS
    from fer_cli.systems.ahm.hierarchy import default_hierarchy

    if print_hierarchy:
        text = default_hierarchy().text
        if json:
            print_json("fit-ahm", hierarchy=text)
        else:
            typer.echo(text, nl=False)
        return
    result = stage(
        store=open_store(store),
        features=features,
        hierarchy=hierarchy,
        paths=paths,
        lambdas=RELATIVE_LAMBDAS if lambdas is None else _numbers(lambdas),
        ridge=ridge,
        metric=metric,
        force=force,
    )
    summary = summary_of(result)
    lines = [("fitted on", f"{summary['training_samples']:,} samples"), ("chosen", summary["chosen"])]
    for name, scores in summary["validation"].items():
        setting = summary["settings"].get(name)
        at = "" if setting is None else f"  at {'C' if name == 'logistic' else 'lambda'} {setting:.4g}"
        lines.append(
            (name, f"validation accuracy {scores['accuracy']:.1%}, balanced {scores['balanced_accuracy']:.1%}{at}")
        )
    print_result("fit-ahm", result, lines, as_json=json)


def _numbers(text: str) -> list[float]:
    try:
        return [float(item) for item in listed(text, "--lambdas")]
    except ValueError as error:
        raise UsageError(f"--lambdas {text!r} are not all numbers", hint="write them as 0.01,1,100") from error
