"""``fer audit``: is this sound?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fer_cli.cli.common import (
    Output,
    check_place,
    counted,
    headline,
    padded,
    plain,
    print_line,
    print_pairs,
    print_table,
    width_of,
)
from fer_cli.cli.options import DeviceOption, SplitOption, command
from fer_cli.core.errors import CheckFailedError, UsageError

if TYPE_CHECKING:
    from fer_cli.artifacts.artifact import Artifact
    from fer_cli.artifacts.store import Store
    from fer_cli.stages.audit_model import ModelAudit


@command("audit")
def audit(
    store: Store,
    reference: Annotated[
        str | None,
        typer.Argument(metavar="REF", help="A model, study, ahm artifact or dataset. [default: the newest model]"),
    ] = None,
    split: SplitOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="For a dataset: draw the worst cases, PNG, SVG or PDF.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="For a dataset: write its pairs of copies, a .csv or .parquet file.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="For a dataset: also search near-duplicates by these features.")
    ] = None,
    device: DeviceOption = "auto",
) -> Output:
    """Check whether a dataset, or a model's number, is sound.

    It looks for leaks, copies, batch dependence and selection on the test split.

    Exit code 3 if a check fails.
    """
    newest = _MODELS if reference is None and store.directories(_MODELS) else ("dataset", *_MODELS)
    artifact = store.find(reference, newest)
    if artifact.kind == "dataset":
        if split is not None:
            raise UsageError("--split does not apply to a dataset", hint="leave it out: all splits are checked")
        return _dataset_audit(artifact, None if features is None else store.find(features, ["features"]), out, pairs)
    for option, given in (("--out", out), ("--pairs", pairs), ("--features", features)):
        if given is not None:
            raise UsageError(f"{option} applies to a dataset, {artifact.reference} is none", hint="leave it out")
    from fer_cli.stages.audit_model import audit_model

    return model_audit_output(audit_model(store=store, model=artifact.reference, split=split, device=device))


def _dataset_audit(artifact: Artifact, features: Artifact | None, out: Path | None, pairs: Path | None) -> Output:
    from fer_cli.audit import reach
    from fer_cli.stages.audit_dataset import audit_dataset
    from fer_cli.stages.export import form_of, table_file

    suffix = form_of(pairs, "--pairs")
    check_place(pairs)
    result = audit_dataset(dataset=artifact, features=features, out=out)
    if pairs is not None:
        import pyarrow as pa

        from fer_cli.artifacts.atomic_io import write_atomic

        table = pa.table(result.pairs())
        write_atomic(pairs, table_file(table, suffix))

    def show() -> None:
        headline(artifact.reference)
        rows = [[finding.check, _VERDICTS[finding.verdict], finding.measured] for finding in result.findings]
        print_table({"check": "left", "": "left", "found": "left"}, rows, wrap=["found"])
        lines = [
            ("verdict", result.verdict),
            ("looked for", f"copies of equal pixels, and changed ones, of which the search finds: {reach.within()}"),
            ("often missed", reach.beyond() or "none of the changes measured"),
        ]
        if out is not None:
            lines.append(("drawn", "no case to draw" if result.sheet is None else str(result.sheet)))
        if pairs is not None:
            lines.append(("pairs", f"{counted(len(table), 'pair')} of copies: {pairs}"))
        print_pairs(lines)

    def check() -> None:
        if not result.leaks:
            return
        raise CheckFailedError(
            f"{artifact.reference} leaks: {', '.join(finding.check for finding in result.leaks)}",
            hint="; ".join(dict.fromkeys(finding.advice for finding in result.leaks)),
        )

    values: dict[str, object] = {
        "audited": artifact.to_json(),
        "passed": not result.leaks,
        "verdict": result.verdict,
        "findings": result.to_json(),
        "reach": [{**row.to_json(), "recall": row.recall, "interval": row.interval} for row in result.reach],
        "pairs": None if pairs is None else str(pairs),
        "sheet": None if result.sheet is None else str(result.sheet),
    }
    return Output(values, show, check)


def model_audit_output(audit: ModelAudit) -> Output:
    """Return what is printed of a model's audit: its findings, one below the other."""

    def show() -> None:
        headline(audit.artifact.reference)
        print_pairs(
            [
                ("scored on", f"{audit.dataset.reference}, {audit.split} split, {audit.images:,} images"),
                ("scored again", f"{audit.run:,} images: one by one, shuffled and class by class"),
            ]
        )
        gap, width = plain("  "), width_of(finding.check for finding in audit.findings)
        for finding in audit.findings:
            verdict = padded(finding.verdict, 14, _STYLES[finding.verdict])
            print_line(gap, verdict, gap, padded(finding.check, width), gap, plain(finding.measured))
            if finding.advice:
                print_line(gap, padded("", 14), gap, padded("", width), gap, plain(finding.advice, "dim"))

    return Output(audit.to_json(), show, audit.check)


_MODELS: Final = ("ahm", "model", "study", "ensemble")
_STYLES: Final = {
    "pass": "green",
    "caution": "yellow",
    "cannot be told": "yellow",
    "not measured": "yellow",
    "fail": "bold red",
}
_VERDICTS: Final = {"pass": "ok", "caution": "CAUTION", "fail": "LEAK", "cannot be told": "?", "not measured": "?"}
