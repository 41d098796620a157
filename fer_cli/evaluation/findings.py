"""Findings: what a check looked at, what it measured, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["pass", "caution", "fail", "not measured"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. ``measured`` and ``advice`` are phrases without a full stop; what passed needs no advice."""

    check: str
    verdict: Verdict
    measured: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        """Return plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Finding:
        """Return what :meth:`to_json` wrote."""
        return Finding(value["check"], value["verdict"], value["measured"], value["advice"])


def failed(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that fail."""
    return [finding for finding in findings if finding.verdict == "fail"]
