"""Text for a terminal: lines that break between words, and tables that fit."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import TextIO

NARROWEST = 8
"""Characters to which a long name may be cut."""


def folded(line: str, stream: TextIO, indent: int = 0) -> str:
    """For eyes, lines that break between words, all but the first indented by so many characters;
    in a pipe or a log it stays one line."""
    if not stream.isatty():
        return line
    return textwrap.fill(
        line,
        shutil.get_terminal_size().columns,
        subsequent_indent=" " * indent,
        # What is to be copied, a command or an address, is not hyphenated.
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(
    rows: Sequence[Sequence[str]],
    *,
    cut: Collection[str] = (),
    right: Collection[str] = (),
    least: Mapping[str, int] | None = None,
) -> list[str]:
    """Rows of text below each other, the first of them the columns' names.

    cut: columns that are shortened in a terminal that is too narrow, the widest first. right: those
    that stand at the right. least: characters that a column has whatever is in it, so that nothing
    jumps where a table is shown again and again.
    """
    least = least or {}
    widths = [max(least.get(column[0], 0), *map(len, column)) for column in zip(*rows, strict=True)]
    if sys.stdout.isatty():
        excess = sum(widths) + 2 * (len(widths) - 1) - shutil.get_terminal_size().columns
        long = [place for place, name in enumerate(rows[0]) if name in cut]
        while excess > 0 and long:
            widest = max(long, key=lambda place: widths[place])
            if widths[widest] <= NARROWEST:
                break
            widths[widest] -= 1
            excess -= 1
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if name in right else _shortened(text, width).ljust(width)
            for text, width, name in zip(row, widths, rows[0], strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _shortened(text: str, width: int) -> str:
    """Most of ``google/medgemma-4b-it`` is told by its end, of ``gpu-0@host`` by how it begins."""
    if len(text) <= width:
        return text
    return f"…{text[1 - width :]}" if "/" in text else f"{text[: width - 1]}…"
