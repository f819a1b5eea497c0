"""Ages and sizes as people write them on a command line."""

from __future__ import annotations

import re

import typer

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"


def seconds(said: str) -> float:
    """An age: a number of s, m, h, d or w; seconds where it has no letter."""
    match = re.fullmatch(_NUMBER + "([smhdw]?)", said)
    if match is None:
        raise typer.BadParameter("an age is a number of s, m, h, d or w: 90d, 12h, 3600s")
    return float(match[1]) * _SECONDS[match[2]]


def size(said: str) -> int:
    """Bytes: a number of B, KB, MB, GB or TB, each 1000 of the one before."""
    match = re.fullmatch(_NUMBER + " ?(B|KB|MB|GB|TB|)", said.upper())
    if match is None:
        raise typer.BadParameter("a size is a number of B, KB, MB, GB or TB: 500GB")
    return int(float(match[1]) * _BYTES[match[2]])
