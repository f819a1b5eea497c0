"""Insertion and deletion: which cells come first, what is shown at each step, the area.

Petsiuk, Das, Saenko, *RISE: Randomized Input Sampling for Explanation of Black-box Models*, BMVC
2018, for the two curves. Two things are ours: the logarithmic axis, since a focal finding fills a
few cells and a linear axis would hardly see them; and the scale, which takes off what the model
gives without the image's details.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medgemma_worker.truth.perturb import Cells

Curve = Literal["deletion", "insertion"]
CURVES: tuple[Curve, Curve] = ("deletion", "insertion")

Floats = NDArray[np.float64]


def steps(cells: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to half of the cells: for 256 cells up to 128."""
    return tuple(1 << i for i in range(max(1, cells // 2).bit_length()))


def ranking(scores: NDArray[np.floating], seed: int) -> NDArray[np.intp]:
    """Flat indices of a map of any shape, highest score first; ties in an order of the seed's.

    In reading order ties would favour the upper left corner: a map of zeros would not be random.
    """
    flat = np.asarray(scores, dtype=np.float64).ravel()
    if not np.isfinite(flat).all():
        raise ValueError("a map with NaN or infinity has no order")
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(flat.size)
    ranked: NDArray[np.intp] = shuffled[np.argsort(-flat[shuffled], kind="stable")]
    return ranked


def shown_cells(
    order: NDArray[np.intp], count: int, curve: Curve, shape: tuple[int, int, int]
) -> Cells:
    """What is shown once ``count`` cells of ``order`` are deleted, or have been inserted."""
    cells = np.full(order.size, curve == "deletion", dtype=np.bool_)
    cells[order[:count]] = curve == "insertion"
    return cells.reshape(shape)


def normalised(log_p: Floats, log_whole: float, log_covered: float) -> Floats:
    """(p - p_covered) / (p_whole - p_covered), any shape: 1 as the image is, 0 with all covered.

    Natural logarithms go in, since p of a long answer is too small for a float. Not clipped: a
    covered image may be worse than the fully covered one, or better than the whole.
    """
    covered = np.exp(log_covered - log_whole)
    if not covered < 1:
        raise ValueError("the target does not depend on the image")
    return np.asarray((np.exp(log_p - log_whole) - covered) / (1 - covered), dtype=np.float64)


def area(values: Floats, counts: tuple[int, ...]) -> float:
    """Area under values (steps,) over log2 of the counts, which is scaled to a width of 1."""
    if len(counts) < 2:
        return float(values[0])
    axis = np.log2(np.asarray(counts, dtype=np.float64))
    middles = (values[1:] + values[:-1]) / 2
    return float(middles @ np.diff(axis) / (axis[-1] - axis[0]))
