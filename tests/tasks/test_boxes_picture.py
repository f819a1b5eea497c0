"""Boxes are drawn where they lie, on the image and on its heatmap, and listed below."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from medgemma_tasks.boxes import LocatedBox, LocatedBoxes, locate, read_boxes
from medgemma_tasks.boxes_picture import MOST, draw_boxes, line_of
from medgemma_tasks.errors import InvalidRequest, NonFiniteRelevancy
from medgemma_tasks.geometry import Box, grid_square

GREY = 100
BLUE = line_of(0)[0]


def one(box: Box, label: str = "nodule", share: float | None = 0.25) -> LocatedBoxes:
    return LocatedBoxes((LocatedBox(label, box, share, 0.5),), 0)


def draw(boxes: LocatedBoxes, size: tuple[int, int], **options: object) -> np.ndarray:
    given = {"square": grid_square(*size, pad=True), "low": 0.0, "high": 1.0} | options
    scores = given.pop("scores", np.zeros((16, 16), np.float32))
    picture = draw_boxes(Image.new("L", size, GREY), scores, boxes, **given)  # type: ignore[arg-type]
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def panels(size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Left, top, right, bottom of both images, found on a picture without boxes."""
    grey = (draw(LocatedBoxes((), 0), size) == GREY).all(axis=2)
    rows = np.flatnonzero(grey.any(axis=1))
    edges = np.flatnonzero(np.diff(np.r_[0, grey[rows[0]].astype(int), 0]))
    assert len(edges) == 4
    bottom = int(rows[0]) + int(np.argmin(np.r_[grey[rows[0] :, edges[0]], False]))
    return [(int(a), int(rows[0]), int(b), bottom) for a, b in (edges[:2], edges[2:])]


@pytest.mark.parametrize("size", [(64, 64), (300, 484), (700, 200), (2000, 1500), (3000, 900)])
def test_a_box_stands_at_its_place_on_both_images(size: tuple[int, int]) -> None:
    box = (size[0] * 0.2, size[1] * 0.1, size[0] * 0.6, size[1] * 0.9)
    pixels = draw(one(box), size)
    blue = (pixels == BLUE).all(axis=2)
    for left, top, right, bottom in panels(size):
        rows, columns = blue[top:bottom, left:right].nonzero()
        x, y = (right - left) / size[0], (bottom - top) / size[1]
        drawn = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert drawn == pytest.approx((box[0] * x, box[1] * y, box[2] * x, box[3] * y), abs=1)
        # An outline: what is inside stays as it is.
        inside = pixels[top:bottom, left:right][(bottom - top) // 2, round(size[0] * 0.4 * x)]
        assert tuple(inside) == (GREY,) * 3


def test_the_side_of_a_box_that_lies_in_the_padding_is_not_drawn() -> None:
    size = (600, 300)
    blue = (draw(one((100, -50, 200, 150)), size) == BLUE).all(axis=2)
    left, top, right, bottom = panels(size)[0]
    assert not blue[:top].any()
    crossing = blue[top, left:right]  # two sides go on upwards, and nothing runs between them
    assert 0 < crossing.sum() < 20
    assert blue[top:bottom, left:right].sum(axis=1).max() > 90


def test_a_box_outside_of_the_image_is_said_and_not_drawn() -> None:
    size = (600, 300)
    outside, inside = (draw(one(box, "x"), size) for box in ((0, -90, 90, -50), (0, 50, 90, 90)))
    _, top, _, bottom = panels(size)[0]
    assert not (outside == BLUE).all(axis=2)[top:bottom].any()
    assert not np.array_equal(outside[bottom:], inside[bottom:])  # its line says so


def test_the_map_lies_on_the_second_image_alone() -> None:
    scores = np.zeros((16, 16), np.float32)
    scores[4, 4] = 1.0
    first, second = panels((256, 256))
    pixels = draw(LocatedBoxes((), 0), (256, 256), scores=scores)
    for (left, top, right, bottom), coloured in ((first, False), (second, True)):
        part = pixels[top:bottom, left:right]
        assert (np.ptp(part, axis=2) > 20).any() == coloured


def test_neighbouring_boxes_are_told_apart_without_colour() -> None:
    lines = [line_of(index) for index in range(9)]
    assert len(set(lines)) == 9
    for (colour, dash), (next_colour, next_dash) in pairwise(lines):
        assert colour != next_colour
        assert dash != next_dash


def test_a_flat_map_is_no_hindrance() -> None:
    flat = draw(one((1, 1, 30, 30), share=None), (64, 64), low=0.0, high=0.0)
    assert (flat == BLUE).all(axis=2).any()


def test_of_very_many_boxes_the_first_are_drawn_and_the_rest_counted() -> None:
    box = LocatedBox("x", (1, 1, 30, 30), 0.1, 0.1)
    many, most = (draw(LocatedBoxes((box,) * n, 0), (64, 64)) for n in (10_000, MOST + 1))
    assert many.shape == most.shape


@pytest.mark.parametrize(
    "label", ["a\nb", "\u202egnorw", "\x00", "\ud800", "肺", "x" * 100_000, " " * 9, "{}"]
)
def test_any_label_can_be_drawn(label: str) -> None:
    answer = json.dumps({"box_2d": [10, 10, 500, 500], "label": label})
    boxes = locate(read_boxes(answer), np.ones((4, 4), np.float32), (0, 0, 64, 64))
    assert len(boxes) == 1
    draw(boxes, (64, 64))


def test_a_box_thinner_than_its_line_is_still_seen() -> None:
    pixels = draw(one((500.0, 500.0, 500.9, 500.4)), (3000, 3000))
    (left, top, right, bottom), _ = panels((3000, 3000))
    assert (pixels == BLUE).all(axis=2)[top:bottom, left:right].any()


def test_the_sides_and_what_was_left_out_are_said() -> None:
    plain = draw(one((1, 1, 30, 30)), (64, 64))
    sides = draw(one((1, 1, 30, 30)), (64, 64), left_of_image="patient-right")
    assert sides.shape[1] > plain.shape[1]  # room for the letters
    left_out = draw(LocatedBoxes(one((1, 1, 30, 30)).found, 3), (64, 64))
    assert left_out.shape != plain.shape or not np.array_equal(left_out, plain)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        draw(one((1, 1, 2, 2)), (8, 8), opacity=1.5)
    with pytest.raises(NonFiniteRelevancy):
        draw(one((1, 1, 2, 2)), (8, 8), scores=np.full((2, 2), np.nan, np.float32))
