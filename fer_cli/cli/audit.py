"""``fer audit``: is this sound?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fer_cli.cli.common import (
    DebugOption,
    JsonOption,
    StoreOption,
    console,
    open_store,
    print_json,
    print_pairs,
    print_table,
)
from fer_cli.core.errors import CheckFailedError, UsageError

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Artifact


def audit(
    reference: Annotated[
        str | None,
        typer.Argument(metavar="REF", help="A model, a study, an ahm or a data set. [default: the newest model]"),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a model. [default: test, else validation]")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Of a data set: draw the worst cases, PNG, SVG or PDF.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Of a data set: look for copies among neighbours by these features too.")
    ] = None,
    device: Annotated[str, typer.Option(help="Of a deep model: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Is the number of a model, or a data set, sound? What leaks, what moves, what was chosen on the test.

    Exit code 3 when it is not.
    """
    from fer_cli.stages.audit_model import KINDS, audit_model

    place = open_store(store)
    newest = KINDS if reference is None and place.directories(KINDS) else ("dataset", *KINDS)
    artifact = place.find(reference, newest)
    if artifact.kind == "dataset":
        if split is not None:
            raise UsageError("--split is of a model's audit", hint="leave it out: a data set is looked at as a whole")
        _dataset(artifact, None if features is None else place.find(features, ["features"]), out, json)
        return
    for option, given in (("--out", out), ("--features", features)):
        if given is not None:
            raise UsageError(f"{option} is of a data set's audit", hint=f"leave it out: {artifact.reference} is none")
    from fer_cli.cli.audit_model import print_model_audit

    print_model_audit(audit_model(store=place, model=artifact.reference, split=split, device=device), as_json=json)


def _dataset(artifact: Artifact, features: Artifact | None, out: Path | None, json: bool) -> None:
    from fer_cli.stages.audit_dataset import audit_dataset

    result = audit_dataset(dataset=artifact, features=features, out=out)
    if json:
        print_json(
            "audit",
            audited=artifact.to_json(),
            passed=not result.leaks,
            verdict=result.verdict,
            findings=result.to_json(),
            sheet=None if result.sheet is None else str(result.sheet),
        )
    else:
        console().print(f"[bold]{artifact.reference}[/bold]", highlight=False, soft_wrap=True)
        rows = [[finding.check, _STATES[finding.state], finding.text] for finding in result.findings]
        print_table({"check": "left", "": "left", "found": "left"}, rows, wrap=["found"])
        pairs = [("verdict", result.verdict)]
        if out is not None:
            pairs.append(("drawn", "no case to draw" if result.sheet is None else str(result.sheet)))
        print_pairs(pairs)
    if result.leaks:
        copies = {"copies" in finding.check for finding in result.leaks}
        hints = {
            True: "'fer prepare' with --drop-duplicates leaves training copies out",
            False: "'fer split' with --folds keeps persons and sequences whole",
        }
        raise CheckFailedError(
            f"{artifact.reference} leaks: {', '.join(finding.check for finding in result.leaks)}",
            hint="; ".join(text for of_copies, text in hints.items() if of_copies in copies),
        )


_STATES: Final = {"ok": "ok", "defect": "DEFECT", "leak": "LEAK", "unknown": "?"}
