from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_client.volume.places import most_relevant, peak_of, place_of
from medgemma_tasks.geometry import grid_square, pixel_to_cell
from medgemma_tasks.models import ImageAttributes, ImageGrid, Plane
from tests.parts import picture, reference

AXIAL = Plane(origin_mm=(-100.0, -80.0, 30.0), row=(1.0, 0.0, 0.0), column=(0.0, 1.0, 0.0))


def grid(
    size: tuple[int, int] = (40, 20),
    plane: Plane | None = AXIAL,
    spacing: tuple[float, float] | None = (2.0, 0.5),
) -> ImageGrid:
    attributes = ImageAttributes(plane=plane, spacing_mm=spacing)
    return ImageGrid(
        image=reference(picture(size)).model_copy(update={"attributes": attributes}),
        rows=16,
        columns=16,
        square=grid_square(*size, True),
        heatmap="heatmap-0.png",
        overlay="overlay-0.png",
    )


def test_the_centre_of_the_first_pixel_lies_at_the_origin() -> None:
    assert place_of(grid(), 0.5, 0.5) == AXIAL.origin_mm


def test_columns_go_along_the_row_by_the_second_spacing_and_rows_by_the_first() -> None:
    assert place_of(grid(), 10.5, 0.5) == (-95.0, -80.0, 30.0)
    assert place_of(grid(), 0.5, 10.5) == (-100.0, -60.0, 30.0)


def test_an_image_that_does_not_say_where_it_lies_has_no_place() -> None:
    assert place_of(grid(plane=None), 1, 1) is None
    assert place_of(grid(spacing=None), 1, 1) is None


@given(
    st.sampled_from([(40, 20), (20, 40), (30, 30), (7, 90)]),
    st.floats(0, 0.999),
    st.floats(0, 0.999),
)
def test_the_peak_of_a_patch_lies_within_half_a_cell_of_it_through_the_padding(
    size: tuple[int, int], across: float, down: float
) -> None:
    shown = grid(size)
    x, y = across * size[0], down * size[1]
    scores = np.zeros((1, 16, 16), np.float32)
    scores[(0, *pixel_to_cell(x, y, (16, 16), shown.square))] = 1.0
    peak = peak_of(scores, [shown])
    cell = max(size) / 16
    assert abs(peak.pixel[0] - x) <= cell / 2 + 1e-9
    assert abs(peak.pixel[1] - y) <= cell / 2 + 1e-9
    place = place_of(shown, x, y)
    assert place is not None
    assert peak.mm is not None
    assert abs(peak.mm[0] - place[0]) <= 0.5 * cell / 2 + 1e-6
    assert abs(peak.mm[1] - place[1]) <= 2.0 * cell / 2 + 1e-6


def test_the_peak_is_in_the_image_with_the_largest_score_and_may_lie_in_the_padding() -> None:
    scores = np.zeros((3, 16, 16), np.float32)
    scores[1, 0, 5], scores[2, 8, 8] = 1.0, 0.5
    peak = peak_of(scores, [grid(), grid(), grid()])
    assert (peak.image, peak.cell, peak.inside) == (1, (0, 5), False)
    scores[2, 8, 8] = 2.0
    assert peak_of(scores, [grid(), grid(), grid()]).inside


@pytest.mark.parametrize(
    ("shares", "most", "found"),
    [((0.1, 0.5, 0.2), 2, [1, 2]), ((0.2, 0.2, 0.2), 2, [0, 1]), ((0.3,), 6, [0])],
)
def test_the_slices_that_matter_most_come_in_their_order(
    shares: tuple[float, ...], most: int, found: list[int]
) -> None:
    assert most_relevant(shares, most) == found
