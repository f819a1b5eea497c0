"""Where a grid lies on an image, and that spreading it moves nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from medgemma_tasks.errors import EmptyImage, InternalError, InvalidRequest, NonFiniteRelevancy
from medgemma_tasks.geometry import (
    cell_box,
    cell_centre,
    grid_square,
    pad_to_square,
    pixel_to_cell,
    spread,
)

sizes = st.tuples(st.integers(1, 220), st.integers(1, 220))
grids = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 16), st.integers(1, 16)),
    elements=st.floats(-1e6, 1e6, width=32),
)


def test_without_padding_the_grid_covers_the_image() -> None:
    assert grid_square(300, 484, pad=False) == (0, 0, 300, 484)


def test_with_padding_the_grid_reaches_beyond_the_short_sides() -> None:
    assert grid_square(300, 484, pad=True) == (-92, 0, 392, 484)
    assert grid_square(484, 300, pad=True) == (0, -92, 484, 392)


def test_an_odd_margin_has_its_extra_pixel_at_the_right() -> None:
    assert grid_square(2, 5, pad=True) == (-1, 0, 4, 5)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(EmptyImage):
        grid_square(0, 5, pad=True)


@given(sizes)
def test_padding_puts_the_image_where_the_grid_says(size: tuple[int, int]) -> None:
    image = Image.new("L", size, 255)
    padded = pad_to_square(image)
    left, top, right, bottom = grid_square(*size, pad=True)
    assert padded.size == (right - left, bottom - top)
    white = padded.getbbox()
    assert white == (-left, -top, -left + size[0], -top + size[1])
    assert padded.crop(white).tobytes() == image.tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "P", "CMYK", "RGBA"])
def test_padding_is_black_in_every_mode(mode: str) -> None:
    padded = pad_to_square(Image.new(mode, (2, 4)))
    assert padded.size == (4, 4)
    corner = padded.getpixel((0, 0))
    assert corner == 0 or tuple(np.ravel(corner))[:3] == (0, 0, 0)


def test_a_square_image_is_left_alone() -> None:
    image = Image.new("RGB", (7, 7), (1, 2, 3))
    assert pad_to_square(image) is image


@given(sizes, st.booleans(), st.integers(1, 16), st.integers(1, 16))
def test_cells_tile_the_grid_without_gap(
    size: tuple[int, int], pad: bool, rows: int, columns: int
) -> None:
    square = grid_square(*size, pad=pad)
    first = cell_box((0, 0), (rows, columns), square)
    last = cell_box((rows - 1, columns - 1), (rows, columns), square)
    assert (first[:2], last[2:]) == (square[:2], square[2:])
    if columns > 1:
        assert cell_box((0, 1), (rows, columns), square)[0] == first[2]


@given(sizes, st.booleans(), st.data())
def test_the_centre_of_a_cell_is_in_that_cell(
    size: tuple[int, int], pad: bool, data: st.DataObject
) -> None:
    square = grid_square(*size, pad=pad)
    cell = data.draw(st.tuples(st.integers(0, 15), st.integers(0, 15)))
    x, y = cell_centre(cell, (16, 16), square)
    assert pixel_to_cell(x, y, (16, 16), square) == cell


def test_the_corners_of_the_area_are_in_the_corner_cells() -> None:
    square = grid_square(300, 484, pad=True)
    assert pixel_to_cell(-92, 0, (16, 16), square) == (0, 0)
    assert pixel_to_cell(392, 484, (16, 16), square) == (15, 15)


def test_a_point_outside_of_the_area_has_no_cell() -> None:
    with pytest.raises(InvalidRequest):
        pixel_to_cell(-1, 3, (16, 16), grid_square(10, 10, pad=False))
    with pytest.raises(InvalidRequest):
        cell_box((16, 0), (16, 16), (0, 0, 1, 1))


def test_an_empty_area_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        spread(np.ones((2, 2), np.float32), (4, 4), (0, 0, 0, 4))


@given(grids, sizes, st.booleans())
def test_spreading_never_leaves_the_range_of_the_scores(
    scores: np.ndarray, size: tuple[int, int], pad: bool
) -> None:
    spread_out = spread(scores, size, grid_square(*size, pad=pad))
    assert spread_out.shape == (size[1], size[0])
    assert spread_out.dtype == np.float32
    assert spread_out.min() >= scores.min()
    assert spread_out.max() <= scores.max()


@given(grids, sizes, st.booleans(), st.data())
def test_the_peak_is_reached_within_half_a_cell_of_its_centre(
    scores: np.ndarray, size: tuple[int, int], pad: bool, data: st.DataObject
) -> None:
    grid = (scores.shape[0], scores.shape[1])
    cell = data.draw(st.tuples(st.integers(0, grid[0] - 1), st.integers(0, grid[1] - 1)))
    scores[cell] = scores.max() + 1
    square = grid_square(*size, pad=pad)
    x, y = cell_centre(cell, grid, square)
    spread_out = spread(scores, size, square)
    if not (0 <= x < size[0] and 0 <= y < size[1]):
        return  # the peak lies in the padding, not in the image
    assert spread_out.max() == scores[cell]
    row, column = np.unravel_index(np.argmax(spread_out), spread_out.shape)
    left, top, right, bottom = cell_box(cell, grid, square)
    # Half a cell, or half a pixel where cells are narrower than that.
    assert abs(column + 0.5 - x) <= max((right - left) / 2, 0.5)
    assert abs(row + 0.5 - y) <= max((bottom - top) / 2, 0.5)


@given(st.integers(16, 220), st.integers(16, 220), st.booleans(), st.data())
def test_every_pixel_that_holds_a_centre_has_that_cells_score(
    width: int, height: int, pad: bool, data: st.DataObject
) -> None:
    scores = np.arange(256, dtype=np.float32).reshape(16, 16) ** 1.5
    square = grid_square(width, height, pad=pad)
    cell = data.draw(st.tuples(st.integers(0, 15), st.integers(0, 15)))
    x, y = cell_centre(cell, (16, 16), square)
    if 0 <= x < width and 0 <= y < height:
        assert spread(scores, (width, height), square)[int(y), int(x)] == scores[cell]


@given(sizes, st.booleans(), st.floats(-(2.0**100), 2.0**100, width=32))
def test_a_flat_grid_stays_flat(size: tuple[int, int], pad: bool, value: float) -> None:
    spread_out = spread(np.full((16, 16), value, np.float32), size, grid_square(*size, pad=pad))
    assert (spread_out == np.float32(value)).all()


@given(st.integers(64, 220), st.integers(64, 220), st.booleans())
def test_a_mirrored_grid_gives_the_mirrored_map(width: int, height: int, pad: bool) -> None:
    scores = np.random.default_rng(3).random((16, 16)).astype(np.float32)
    width += (width - height) % 2  # an odd margin is no mirror image of itself
    square = grid_square(width, height, pad=pad)
    there = spread(scores, (width, height), square)
    back = spread(scores[:, ::-1], (width, height), square)[:, ::-1]
    # All but the pixels where a centre falls on the border between two: it belongs to one of them.
    assert np.quantile(np.abs(back - there), 0.8) < 1e-6
    assert np.corrcoef(back.ravel(), there.ravel())[0, 1] > 0.99


def test_a_cell_per_pixel_gives_the_scores_themselves() -> None:
    scores = np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32)
    assert np.array_equal(spread(scores, (16, 16), (0, 0, 16, 16)), scores)


def test_a_tiny_image_shows_the_largest_score_of_each_pixel() -> None:
    scores = np.zeros((16, 16), np.float32)
    scores[5, 14] = 1.0
    spread_out = spread(scores, (4, 4), (0, 0, 4, 4))
    assert spread_out[1, 3] == 1.0
    assert spread_out.sum() == 1.0


def test_an_image_one_pixel_wide_shows_the_column_it_cuts() -> None:
    scores = np.zeros((16, 16), np.float32)
    scores[:, 8] = np.arange(16)
    spread_out = spread(scores, (1, 1600), grid_square(1, 1600, pad=True))
    assert spread_out.shape == (1600, 1)
    assert np.argmax(spread_out) >= 1500


def test_between_two_centres_the_map_only_rises() -> None:
    scores = np.array([[0, 0, 1, 4, 4, 9]], np.float32)
    assert (np.diff(spread(scores, (120, 20), (0, 0, 120, 20))[0]) >= 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    scores = np.zeros((4, 4), np.float32)
    scores[1, 2] = bad
    with pytest.raises(NonFiniteRelevancy):
        spread(scores, (8, 8), (0, 0, 8, 8))


def test_scores_without_two_axes_are_refused() -> None:
    with pytest.raises(InternalError):
        spread(np.zeros((1, 4, 4), np.float32), (8, 8), (0, 0, 8, 8))
