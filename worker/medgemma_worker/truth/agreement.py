"""How alike two maps are, and where a map lies that should lie on a known lesion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating]


def ranks(values: Map) -> NDArray[np.float64]:
    """Ranks from 0, flat; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def rank_correlation(a: Map, b: Map) -> float:
    """Spearman's correlation over all cells; 0 where a map is constant and so has no order."""
    x, y = (r - r.mean() for r in (ranks(a), ranks(b)))
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm else 0.0


def mass_over_area(values: Map, region: NDArray[np.bool_]) -> float:
    """Share of the map's sum within the region over the region's share of the cells; 1 is chance.

    values: not negative, of the region's shape. A map of zeros has no mass anywhere: 0.
    """
    total = float(values.sum())
    if not total or not region.any():
        return 0.0
    return float(values[region].sum()) / total / float(region.mean())


def peak(values: Map) -> tuple[int, int]:
    """Row and column of the largest value of a map (rows, columns), the first of equal ones."""
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return int(row), int(column)
