"""``fer audit`` of a model: what the stage found, printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_cli.cli.common import console, print_json, print_pairs

if TYPE_CHECKING:
    from fer_cli.stages.audit_model import ModelAudit

_STYLES: Final = {"pass": "green", "caution": "yellow", "not measured": "yellow", "fail": "bold red"}


def print_model_audit(audit: ModelAudit, *, as_json: bool) -> None:
    """Print the findings of an audit, one below the other, and raise where a check failed.

    Raises:
        CheckFailedError: a check failed; all is printed before.
    """
    if as_json:
        print_json("audit", **audit.to_json())
    else:
        from rich.markup import escape

        from fer_cli.core.errors import one_line

        out = console()
        out.print(f"[bold]{audit.artifact.reference}[/bold]", highlight=False, soft_wrap=True)
        print_pairs(
            [
                ("scored on", f"{audit.dataset.reference}, {audit.split} split, {audit.images:,} images"),
                ("run again", f"{audit.run:,} images alone, shuffled and class by class"),
            ]
        )
        wide = max(len(one.check) for one in audit.findings)
        for one in audit.findings:
            style = _STYLES[one.verdict]
            out.print(
                f"  [{style}]{one.verdict:<12}[/{style}]  {one.check:<{wide}}  {escape(one_line(one.measured))}",
                highlight=False,
                soft_wrap=True,
            )
            if one.advice:
                out.print(
                    f"  {'':<12}  {'':<{wide}}  [dim]{escape(one_line(one.advice))}[/dim]",
                    highlight=False,
                    soft_wrap=True,
                )
    audit.check()
