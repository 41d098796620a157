"""``fer doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_cli.cli.common import Output, print_table, say
from fer_cli.cli.options import command

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Store


@command("doctor")
def doctor(store: Store) -> Output:
    """Check packages, device, store, weights and data.

    Each line that is not ok says what to do about it.
    """
    from fer_cli.stages.doctor import examine

    findings = examine(store)

    def show() -> None:
        rows = [[_MARKS[one.verdict], one.check, one.measured, one.advice] for one in findings]
        print_table({"": "left", "what": "left", "found": "left", "what to do": "left"}, rows)
        missing = sum(finding.verdict == "fail" for finding in findings)
        say(f"{missing} missing" if missing else "nothing is missing")

    return Output({"findings": [finding.to_json() for finding in findings]}, show)


_MARKS: Final = {"pass": "ok", "caution": "note", "fail": "missing", "cannot be told": "?", "not measured": "?"}
