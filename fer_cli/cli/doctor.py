"""``fer doctor``."""

from __future__ import annotations

from fer_cli.cli.common import DebugOption, JsonOption, StoreOption, console, open_store, print_json, print_table


def doctor(store: StoreOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Say what is installed and what is missing.

    Also which device will be used, where store, weights and data are, and how to get what is not there.
    """
    from fer_cli.stages.doctor import examine

    findings = examine(open_store(store))
    if json:
        print_json("doctor", findings=[finding.to_json() for finding in findings])
        return
    marks = {"ok": "ok", "note": "note", "missing": "missing"}
    rows = [[marks[finding.state], finding.what, finding.found, finding.advice] for finding in findings]
    print_table({"": "left", "what": "left", "found": "left", "what to do": "left"}, rows)
    missing = sum(finding.state == "missing" for finding in findings)
    console().print("everything that fer needs is here" if not missing else f"{missing} missing", highlight=False)
