"""What a part's checks told, by their names."""

from __future__ import annotations

from medgemma_cli.doctor.finding import Finding, Level, Part, examine


def findings(part: Part) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(part)}


def levels(part: Part) -> dict[str, Level]:
    return {check: finding.level for check, finding in findings(part).items()}
