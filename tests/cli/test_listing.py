"""``fer ls --csv``."""

from __future__ import annotations

import csv

from fer_cli.cli.listing import csv_of


def test_a_study_has_the_sd_of_its_runs_in_a_column() -> None:
    interval = {"value": 0.7, "low": 0.6, "high": 0.8}
    entries: list[dict[str, object]] = [
        {"kind": "evaluation", "name": "of-study", "version": "0123456789ab", "accuracy": {**interval, "sd": 0.02}},
        {"kind": "evaluation", "name": "of-run", "version": "ba9876543210", "accuracy": interval},
        {"kind": "dataset", "name": "faces", "version": "aa9876543210"},
    ]
    rows = list(csv.DictReader(csv_of(entries, ["reference", "accuracy", "tags"]).splitlines()))
    assert [row["accuracy_sd"] for row in rows] == ["0.02", "", ""]
    assert [row["accuracy"] for row in rows] == ["0.7", "0.7", ""]
    assert list(rows[0]) == ["reference", "accuracy", "accuracy_low", "accuracy_high", "accuracy_sd", "tags"]
