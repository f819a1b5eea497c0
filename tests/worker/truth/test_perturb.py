"""Covering cells: exactly their pixels change, whatever the image's size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medgemma_worker.truth.perturb import Covering, Fill, pixels_of


def picture(height: int, width: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(6, 40), st.integers(6, 40))
def test_every_pixel_belongs_to_one_cell_and_cells_are_of_one_size(
    rows: int, columns: int, height: int, width: int
) -> None:
    total = np.zeros((height, width), dtype=int)
    sizes = []
    for cell in range(rows * columns):
        cells = np.zeros(rows * columns, dtype=np.bool_)
        cells[cell] = True
        pixels = pixels_of(cells.reshape(rows, columns), height, width)
        total += pixels
        sizes.append((int(pixels.any(axis=1).sum()), int(pixels.any(axis=0).sum())))
    assert (total == 1).all()
    assert np.ptp(np.array(sizes), axis=0).max() <= 1


def test_a_division_without_remainder_is_that_of_the_phantoms() -> None:
    cells = np.random.default_rng(1).random((16, 16)) < 0.5
    assert np.array_equal(pixels_of(cells, 256, 256), np.kron(cells, np.ones((16, 16), bool)))


@pytest.mark.parametrize("fill", ["blur", "mean"])
def test_only_covered_cells_change(fill: Fill) -> None:
    images = [picture(50, 50), picture(64, 64)]
    covering = Covering(images, fill)
    shown = np.ones((2, 4, 4), dtype=np.bool_)
    shown[1, 2, 3] = False
    first, second = covering.show(shown)
    assert np.array_equal(np.asarray(first), np.asarray(images[0]))
    changed = (np.asarray(second) != np.asarray(images[1])).any(axis=2)
    where = pixels_of(~shown[1], 64, 64)
    assert not changed[~where].any()
    assert changed[where].mean() > 0.9


def test_a_fully_covered_image_tells_nothing_of_its_details() -> None:
    nothing = np.zeros((1, 4, 4), dtype=np.bool_)
    (mean,) = Covering([picture(64, 64)], "mean").show(nothing)
    (blurred,) = Covering([picture(64, 64)], "blur").show(nothing)
    assert np.asarray(mean).std(axis=(0, 1)).max() == 0
    whole = np.asarray(picture(64, 64)).std()
    assert np.asarray(blurred).std(axis=(0, 1)).max() < 0.1 * whole
