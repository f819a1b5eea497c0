"""Where a grid of relevancy lies on an image, and how it is spread over the image's pixels.

Coordinates are in pixels of the original image: x to the right, y down, pixel (i, j) is the square
from (i, j) to (i + 1, j + 1), its centre at (i + 0.5, j + 0.5). Cells of the grid are
(row, column). Sizes are (width, height), arrays are (rows, columns).

MedGemma's processor resizes an image to a square without keeping its aspect. An image that was
padded to a square first is therefore covered by a grid that reaches beyond it; one that was not is
covered by a stretched grid. `Box` says which, and everything below follows from it.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medgemma_tasks.errors import EmptyImage, InternalError, InvalidRequest, NonFiniteRelevancy

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom of the area that a grid covers, in pixels of the original image."""

Cell: TypeAlias = tuple[int, int]
"""Row and column, from 0."""

FloatMap: TypeAlias = NDArray[np.float32]
"""float32 (rows, columns)."""

_BLOCK = 256
"""Rows of pixels spread at a time: bounds the float64 intermediates on images of 100 megapixels."""

_ZERO_IS_BLACK = frozenset({"1", "L", "LA", "I", "I;16", "F", "RGB", "RGBA"})


def _offsets(width: int, height: int) -> tuple[int, int, int]:
    """Side of the padded square, and the image's column and row in it."""
    if width < 1 or height < 1:
        raise EmptyImage(f"An image of {width} x {height} pixels has no pixels.")
    side = max(width, height)
    return side, (side - width) // 2, (side - height) // 2


def grid_square(width: int, height: int, pad: bool) -> Box:
    """The area which the model's grid covers.

    Without padding the image itself. With padding the centred square of side max(width, height).
    Offsets are whole pixels: an odd margin has its extra pixel at the right or bottom, exactly as
    `pad_to_square` puts it. Raises `EmptyImage`.
    """
    side, left, top = _offsets(width, height)
    if not pad:
        return (0.0, 0.0, float(width), float(height))
    return (float(-left), float(-top), float(side - left), float(side - top))


def pad_to_square(image: Image.Image) -> Image.Image:
    """The image on a centred black square of side max(width, height); itself if already square.

    Modes in which zero is not black (palettes, CMYK) become RGB. Raises `EmptyImage`.
    """
    side, left, top = _offsets(image.width, image.height)
    if image.width == image.height:
        return image
    if image.mode not in _ZERO_IS_BLACK:
        image = image.convert("RGB")
    padded = Image.new(image.mode, (side, side), 0)
    padded.paste(image, (left, top))
    return padded


def _check_square(square: Box) -> None:
    left, top, right, bottom = square
    if not all(map(math.isfinite, square)) or right <= left or bottom <= top:
        raise InvalidRequest(f"The grid's area {square} is empty.", square=list(square))


def cell_box(cell: Cell, grid: tuple[int, int], square: Box) -> Box:
    """The area of one cell; grid is (rows, columns). Raises `InvalidRequest` for no such cell."""
    _check_square(square)
    (row, column), (rows, columns) = cell, grid
    if not (0 <= row < rows and 0 <= column < columns):
        raise InvalidRequest(f"The grid of {rows} x {columns} has no cell {row}, {column}.")
    left, top, right, bottom = square
    # One formula for a cell's end and the next one's start, so that neighbours touch exactly.
    return (
        left + (right - left) * column / columns,
        top + (bottom - top) * row / rows,
        left + (right - left) * (column + 1) / columns,
        top + (bottom - top) * (row + 1) / rows,
    )


def cell_centre(cell: Cell, grid: tuple[int, int], square: Box) -> tuple[float, float]:
    """The point (x, y) in the middle of a cell."""
    left, top, right, bottom = cell_box(cell, grid, square)
    return ((left + right) / 2, (top + bottom) / 2)


def pixel_to_cell(x: float, y: float, grid: tuple[int, int], square: Box) -> Cell:
    """The cell that holds the point (x, y); for a pixel (i, j) ask for its centre.

    A point on a border belongs to the cell on its right or below. The right and bottom border of
    the whole area belong to its last cells. Raises `InvalidRequest` outside of the area.
    """
    _check_square(square)
    left, top, right, bottom = square
    if not (left <= x <= right and top <= y <= bottom):
        raise InvalidRequest(f"The point ({x}, {y}) lies outside of the grid's area {square}.")
    rows, columns = grid
    row = min(int((y - top) * rows / (bottom - top)), rows - 1)
    column = min(int((x - left) * columns / (right - left)), columns - 1)
    return row, column


def spread(scores: FloatMap, size: tuple[int, int], square: Box) -> FloatMap:
    """Relevancy of every pixel: float32 (rows, columns) to float32 (height, width), same unit.

    Each axis is interpolated between the centres of cells by a monotone cubic (Fritsch and Carlson,
    SIAM J. Numer. Anal. 17 (1980) 238; slopes after Fritsch and Butland, SIAM J. Sci. Stat. Comput.
    5 (1984) 300), which is smooth and never leaves the range of the two cells it lies between;
    beyond the outermost centres it is constant. The pixel that holds the centre of a cell has
    exactly that cell's score, so the largest value of a map is the largest score of the cells whose
    centres lie in the image, and stands where that cell stands. Where one pixel holds several
    centres (images smaller than the grid) it shows the largest: a peak is never lost.

    Raises `NonFiniteRelevancy` for NaN or infinity, `InternalError` for no 2-D grid.
    """
    values = check_scores(scores).astype(np.float64)
    _check_square(square)
    width, height = size
    if width < 1 or height < 1:
        raise EmptyImage(f"An image of {width} x {height} pixels has no pixels.")
    left, top, right, bottom = square
    across = _Axis(values.T, width, left, right).at(0, width)
    down = _Axis(np.ascontiguousarray(across.T), height, top, bottom)
    out = np.empty((height, width), np.float32)
    for start in range(0, height, _BLOCK):
        stop = min(start + _BLOCK, height)
        out[start:stop] = down.at(start, stop)
    # The cubic obeys the range up to rounding only.
    return np.clip(out, np.float32(values.min()), np.float32(values.max()), out=out)


def check_scores(scores: FloatMap) -> FloatMap:
    """The same scores as float32 (rows, columns), or a typed error that says what is wrong."""
    grid = np.asarray(scores, dtype=np.float32)
    if grid.ndim != 2 or grid.size == 0:
        raise InternalError(f"A grid of relevancy has 2 axes, not the shape {grid.shape}.")
    if not np.isfinite(grid).all():
        raise NonFiniteRelevancy("The relevancy holds NaN or infinity and cannot be drawn.")
    return grid


class _Axis:
    """Interpolation along axis 0: n cells from `low` to `high`, sampled at pixels 0..count-1."""

    def __init__(self, values: NDArray[np.float64], count: int, low: float, high: float) -> None:
        cell = (high - low) / len(values)
        holder = np.floor(low + (np.arange(len(values)) + 0.5) * cell)
        holder = np.clip(holder, -1, count).astype(np.intp)
        if cell < 1:
            # Several centres in one pixel: their maximum stands for them, in cells of one pixel.
            first = int(holder[0])
            gathered = np.full((int(holder[-1]) - first + 1, values.shape[1]), -np.inf)
            np.maximum.at(gathered, holder - first, values)
            values, low, cell = gathered, float(first), 1.0
            holder = np.arange(first, first + len(values))
        self.values, self.low, self.cell = values, low, cell
        self.holder = holder
        """The pixel that holds the centre of each cell."""
        self.slopes = _slopes(values)

    def at(self, start: int, stop: int) -> NDArray[np.float64]:
        """Values at the centres of pixels start..stop-1, float64 (stop - start, ...)."""
        place = (np.arange(start, stop) + 0.5 - self.low) / self.cell - 0.5
        before = np.floor(place)
        # Within half a pixel of a centre the cell's own value holds, and the way between two
        # centres is shortened by that: so sampling never misses a peak.
        rim = 0.5 / self.cell
        t = np.clip((place - before - rim) / max(1.0 - 2.0 * rim, 1e-9), 0.0, 1.0)[:, None]
        last = len(self.values) - 1
        i = np.clip(before, 0, last).astype(np.intp)
        j = np.clip(before + 1, 0, last).astype(np.intp)
        t2, t3 = t * t, t * t * t
        out: NDArray[np.float64] = (2 * t3 - 3 * t2 + 1) * self.values[i]
        out += (t3 - 2 * t2 + t) * self.slopes[i]
        out += (3 * t2 - 2 * t3) * self.values[j]
        out += (t3 - t2) * self.slopes[j]
        here = (self.holder >= start) & (self.holder < stop)
        out[self.holder[here] - start] = self.values[here]
        return out


def _slopes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slope at each node, per cell: harmonic mean of both sides, 0 at turns and at both ends."""
    slopes = np.zeros_like(values)
    if len(values) > 2:
        step = np.diff(values, axis=0)
        before, after = step[:-1], step[1:]
        same = before * after > 0
        total = np.where(same, before + after, 1.0)
        slopes[1:-1] = np.where(same, 2.0 * (before / total) * after, 0.0)
    return slopes
