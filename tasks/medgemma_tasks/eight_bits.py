"""Grey values of any range to 8 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def min_max_to_uint8(
    values: Values, *, keep: NDArray[np.bool_] | None = None, invert: bool = False
) -> NDArray[np.uint8]:
    """Scale the smallest value to 0 and the largest to 255; a flat image becomes 0.

    ``keep`` (same shape) marks what counts for the range; values outside of it are clipped, and
    those that are not finite become the smallest.
    """
    counted = np.isfinite(values)
    if keep is not None and (counted & keep).any():
        counted &= keep
    if not counted.any():
        return unit_to_uint8(np.zeros_like(values), invert=invert)
    low, high = float(values[counted].min()), float(values[counted].max())
    # Halved first, since the range of extreme floats overflows.
    span = high / 2 - low / 2
    finite = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled = (finite / 2 - low / 2) / span if span > 0 else np.zeros_like(values)
    return unit_to_uint8(np.clip(scaled, 0.0, 1.0), invert=invert and span > 0)


def unit_to_uint8(values: Values, *, invert: bool = False) -> NDArray[np.uint8]:
    """Round values in 0..1 to 0..255, inverted for MONOCHROME1 and MinIsWhite."""
    if invert:
        values = 1.0 - values
    return np.rint(values * 255).astype(np.uint8)
