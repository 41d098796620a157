"""What every stage returns."""

from __future__ import annotations

from dataclasses import dataclass

from fer_cli.artifacts.artifact import Artifact


@dataclass(frozen=True, slots=True)
class Result:
    """The artifact of a stage, and whether it was there already."""

    artifact: Artifact
    up_to_date: bool
