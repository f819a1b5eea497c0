"""The order of names that people expect: 2 before 10."""

from __future__ import annotations

import re


def as_people_count(name: str) -> list[tuple[int, int, str]]:
    """A key to sort by: runs of digits by their value, all else by its letters."""
    pieces = re.split(r"([0-9]+)", name)
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p.casefold()) for p in pieces if p]
