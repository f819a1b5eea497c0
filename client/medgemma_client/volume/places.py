"""From a cell of a map to a place in the image and in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medgemma_tasks.geometry import cell_centre
from medgemma_tasks.models import ImageGrid
from medgemma_tasks.pictures import peak_cell

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Peak:
    """The cell with the most relevancy of all images."""

    image: int
    """Which one, from 0 in the order of the request."""
    cell: tuple[int, int]
    """Row and column, from 0."""
    pixel: tuple[float, float]
    """x and y of the cell's centre; the first pixel reaches from 0 to 1, its centre is at 0.5."""
    inside: bool
    """Whether that is in the image, and not in the padding."""
    mm: Point | None
    """The same in the patient, DICOM's coordinates: x to the patient's left, y to the back, z to
    the head. None where the image does not say where it lies."""


def peak_of(scores: NDArray[np.float32], images: Sequence[ImageGrid]) -> Peak:
    """scores: float32 (n, rows, columns), of as many images."""
    image = int(np.argmax(scores.reshape(len(scores), -1).max(axis=1)))
    cell, grid = peak_cell(scores[image]), images[image]
    x, y = cell_centre(cell, (grid.rows, grid.columns), grid.square)
    return Peak(
        image=image,
        cell=cell,
        pixel=(x, y),
        inside=0 <= x < grid.image.width and 0 <= y < grid.image.height,
        mm=place_of(grid, x, y),
    )


def place_of(grid: ImageGrid, x: float, y: float) -> Point | None:
    """Where a point of an image lies in the patient, mm, LPS; None where that is not known.

    x, y: in pixels, (0, 0) being the outer corner of the first one. ``models.Plane`` has the
    formula, which counts from the centre of that pixel.
    """
    attributes = grid.image.attributes
    if attributes.plane is None or attributes.spacing_mm is None:
        return None
    plane, (down, across) = attributes.plane, attributes.spacing_mm
    place = (
        np.array(plane.origin_mm)
        + np.array(plane.row) * (x - 0.5) * across
        + np.array(plane.column) * (y - 0.5) * down
    )
    return float(place[0]), float(place[1]), float(place[2])


def is_volume(images: Sequence[ImageGrid]) -> bool:
    """Whether images are slices that say where they lie in the patient."""
    return len(images) > 1 and all(grid.image.attributes.plane for grid in images)


def most_relevant(shares: Sequence[float], most: int) -> list[int]:
    """The images with the largest shares, in the order of the request."""
    first = sorted(range(len(shares)), key=lambda k: (-shares[k], k))[:most]
    return sorted(first)
