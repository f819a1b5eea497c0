"""What doctor found: in colour where somebody watches, plain in a pipe, JSON for machines."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

from medgemma_cli.doctor.finding import Finding, Level

MARKS = {
    Level.OK: ("ok", "green"),
    Level.WARNING: ("warning", "yellow"),
    Level.FAILED: ("FAILED", "bold red"),
    Level.NOT_APPLICABLE: ("-", "bright_black"),
}
MARK, NAME = 7, 25
"""Characters of the two columns before what was found."""

NARROWEST = 20


def show(findings: Iterable[Finding]) -> list[Finding]:
    """Print each as it is known; all of them."""
    seen = []
    terminal = sys.stdout.isatty()
    for finding in findings:
        seen.append(finding)
        (_pretty if terminal else _plain)(finding)
    (_pretty_sum if terminal else print)(in_sum(seen))
    return seen


def as_json(findings: Sequence[Finding]) -> str:
    """One object: all findings, and how many there are of each level."""
    told = [
        {
            "part": one.part,
            "check": one.check,
            "level": one.level.value,
            "found": one.found,
            "advice": one.advice,
        }
        for one in findings
    ]
    return json.dumps({"findings": told, **_counts(findings)})


def in_sum(findings: Sequence[Finding]) -> str:
    counts = ", ".join(f"{number} {level}" for level, number in _counts(findings).items())
    wrong = [f"{one.part}, {one.check}" for one in findings if one.level is Level.FAILED]
    told = f" To be mended: {'; '.join(wrong)}." if wrong else ""
    return f"{len(findings)} checks: {counts}.{told}"


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {level.value: sum(one.level is level for one in findings) for level in Level}


def _plain(finding: Finding) -> None:
    mark, _ = MARKS[finding.level]
    print(f"{mark:{MARK}} {finding.part}, {finding.check}: {finding.found}", flush=True)
    if finding.advice:
        print(f"{'':{MARK}} -> {finding.advice}", flush=True)


def _pretty(finding: Finding) -> None:
    from rich.console import Console
    from rich.text import Text

    mark, style = MARKS[finding.level]
    console = Console(highlight=False)
    dim = "bright_black" if finding.level is Level.NOT_APPLICABLE else ""
    head = Text(f"{mark:{MARK}} ", style)
    head.append(f"{finding.part}, {finding.check}"[:NAME].ljust(NAME) + " ", dim or "bold")
    _print_beside(console, head, finding.found, dim)
    if finding.advice:
        _print_beside(console, Text(" " * (MARK + NAME) + "→ "), finding.advice, dim or "cyan")


def _print_beside(console: object, head: object, text: str, style: str) -> None:
    """A text in its column, broken between words; commands and addresses are not hyphenated."""
    from rich.console import Console
    from rich.text import Text

    assert isinstance(console, Console)  # noqa: S101
    assert isinstance(head, Text)  # noqa: S101
    start = MARK + NAME + 2
    width = max(shutil.get_terminal_size().columns - start - 1, NARROWEST)
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
    console.print(head + Text(lines[0], style), soft_wrap=True)
    for line in lines[1:]:
        console.print(Text(" " * start + line, style), soft_wrap=True)


def _pretty_sum(text: str) -> None:
    from rich.console import Console

    Console(highlight=False, markup=False).print(f"\n{text}", style="bold")
