"""The colour maps that a reader can choose from; the first is that of the pictures in the store.

All rise in lightness from low to high in equal steps, so that order survives every kind of colour
blindness and a grey print. The last has no colour at all: it darkens the image where relevancy is
low, since greys over an X-ray would pass for anatomy.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from medgemma_tasks.colours import Colours, Points, table, table_of

_GREEN: Points = (
    (0.20, 0.075, 305.0),
    (0.33, 0.095, 285.0),
    (0.46, 0.085, 250.0),
    (0.58, 0.080, 205.0),
    (0.70, 0.115, 165.0),
    (0.82, 0.150, 135.0),
    (0.93, 0.165, 112.0),
)
# From blue through grey to yellow, the axis that red-green deficiencies keep: a hue of blue, whose
# chroma falls below zero to its opposite.
_BLUE: Points = (
    (0.22, 0.085, 262.0),
    (0.345, 0.066, 262.0),
    (0.47, 0.030, 262.0),
    (0.59, -0.015, 262.0),
    (0.70, -0.065, 268.0),
    (0.82, -0.115, 274.0),
    (0.93, -0.140, 282.0),
)


@dataclass(frozen=True, eq=False)
class Palette:
    """A colour map by its name. table: uint8 (256, 3), low to high. falling: its colour covers the
    image where relevancy is low, not where it is high."""

    name: str
    label: str
    table: Colours
    falling: bool = False

    @property
    def packed(self) -> str:
        """The colours as base64, red, green and blue of each from low to high."""
        return base64.b64encode(self.table.tobytes()).decode("ascii")

    @property
    def gradient(self) -> str:
        """The colours as CSS has them, for a small sample."""
        if self.falling:
            return "linear-gradient(90deg, #000, #cfcfcf)"
        stops = ", ".join(
            f"rgb({r} {g} {b})" for r, g, b in self.table[np.linspace(0, 255, 9).astype(int)]
        )
        return f"linear-gradient(90deg, {stops})"


@lru_cache(maxsize=1)
def palettes() -> tuple[Palette, ...]:
    return (
        Palette("fire", "violet to yellow", table()),
        Palette("green", "blue to green", table_of(_GREEN)),
        Palette("blue", "blue to yellow", table_of(_BLUE)),
        Palette("spotlight", "no colour: dark where low", _black(), falling=True),
    )


def _black() -> Colours:
    return np.zeros((256, 3), np.uint8)
