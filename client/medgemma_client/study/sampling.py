"""Which slices are shown where there are more than MedGemma takes."""

from __future__ import annotations

MOST_SLICES = 85
"""Of a CT or MR series, as MedGemma 1.5 was trained."""
MOST_PATCHES = 125
"""Of a slide."""


def sample(count: int, most: int) -> list[int]:
    """Indices of the slices shown, from 0, rising: all of them, or ``most`` at even distances.

    Google's rule for MedGemma 1.5: round(i / most * (count - 1)) for i = 1..most. It always takes
    the last one, and where it leaves any out, never the first.
    """
    if count <= most:
        return list(range(count))
    return [round(i / most * (count - 1)) for i in range(1, most + 1)]
