"""Where on an image its relevancy lies, in words: two sides times three thirds.

The image's middle column divides the sides, and its height is cut into three equal parts. These are
the middle and the thirds of the image, not of the patient: who stands beside the middle, or was
cropped, is cut elsewhere, and no lung zone is meant. Names are the patient's where it is known
which way up and round the image is, and else the image's own ("image left"), never a guess.

A cell of the grid that zones cut is divided between them by area, as if its relevancy lay evenly in
it. What lies in the padding around an image, whether cell or part of a cell, is its own entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medgemma_tasks.errors import EmptyImage
from medgemma_tasks.geometry import Box, FloatMap, cell_box, check_scores
from medgemma_tasks.models import Zone, Zones
from medgemma_tasks.models.zones import Level, Side

Left: TypeAlias = Literal["patient-right", "patient-left", "unknown"]
"""Which side of the patient the left edge of an image shows."""

Top: TypeAlias = Literal["patient-head", "patient-feet", "patient-front", "patient-back", "unknown"]
"""Which end of the patient the top edge of an image shows."""

_SIDES: dict[Left, tuple[Side, Side]] = {
    "patient-right": ("patient-right", "patient-left"),
    "patient-left": ("patient-left", "patient-right"),
    "unknown": ("image-left", "image-right"),
}
_LEVELS: dict[Top, tuple[Level, Level, Level]] = {
    "patient-head": ("upper", "middle", "lower"),
    "patient-feet": ("lower", "middle", "upper"),
    "patient-front": ("front", "middle", "back"),
    "patient-back": ("back", "middle", "front"),
    "unknown": ("image-top", "image-middle", "image-bottom"),
}


def zone_shares(
    scores: FloatMap,
    square: Box,
    size: tuple[int, int],
    *,
    left_of_image: Left = "unknown",
    top_of_image: Top = "unknown",
) -> Zones | None:
    """The share of relevancy in each zone; None where there is no relevancy to share out.

    scores: relevancy as computed, float32 (rows, columns). Where a method gives negative values,
    their positive part alone counts: evidence against cannot be a share of anything. square: where
    the grid lies on the image (`geometry.grid_square`). size: width and height of the image in
    pixels.

    Raises `NonFiniteRelevancy` for NaN or infinity, `InternalError` for no 2-D grid, `EmptyImage`,
    `InvalidRequest` for an empty square.
    """
    positive = np.maximum(check_scores(scores).astype(np.float64), 0.0)
    width, height = size
    if width < 1 or height < 1:
        raise EmptyImage(f"An image of {width} x {height} pixels has no pixels.")
    grid = (positive.shape[0], positive.shape[1])
    down = [cell_box((row, 0), grid, square)[1::2] for row in range(grid[0])]
    across = [cell_box((0, column), grid, square)[::2] for column in range(grid[1])]
    largest = float(positive.max())
    if largest == 0.0:
        return None
    # Parts beyond the edges are reckoned like the others, so that nothing is lost on the way.
    rows = _parts(down, [-np.inf, 0.0, height / 3, height * 2 / 3, height, np.inf])
    columns = _parts(across, [-np.inf, 0.0, width / 2, width, np.inf])
    amounts = rows.T @ (positive / largest) @ columns
    amounts /= amounts.sum()
    inside = amounts[1:-1, 1:-1]
    zones = tuple(
        Zone(side=side, level=level, share=_fraction(inside[i, j]))
        for i, level in enumerate(_LEVELS[top_of_image])
        for j, side in enumerate(_SIDES[left_of_image])
    )
    amounts[1:-1, 1:-1] = 0.0
    return Zones(zones=zones, outside=_fraction(amounts.sum()))


def in_words(zones: Zones | None, most: int = 3) -> str:
    """One line for people, largest share first: "patient right, upper third 41%; ...".

    most: how many zones are named at the most; those under 1% are left out but for the first. What
    lies outside the image is always said, if it is 1% or more.
    """
    if zones is None:
        return "no relevancy on this image"
    ordered = sorted(zones.zones, key=lambda zone: -zone.share)
    named = [z for i, z in enumerate(ordered[:most]) if z.share >= 0.01 or (i == 0 < z.share)]
    parts = [f"{zone.name} {_percent(zone.share)}" for zone in named]
    if zones.outside >= 0.01:
        parts.append(f"outside the image {_percent(zones.outside)}")
    return "; ".join(parts)


def _parts(cells: Sequence[tuple[float, ...]], edges: Sequence[float]) -> NDArray[np.float64]:
    """How much of each cell's length lies between neighbouring edges: (cells, edges - 1), 0..1."""
    low, high = np.array(cells).T[:, :, None]
    from_, to = np.array(edges[:-1]), np.array(edges[1:])
    overlap = np.minimum(high, to) - np.maximum(low, from_)
    return np.asarray(np.maximum(overlap, 0.0) / (high - low))


def _fraction(value: float) -> float:
    """Rounding may carry a share past 1 in its last digit."""
    return min(1.0, float(value))


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "under 1%"
