"""A contact sheet shows each map in its place, on the scale that it says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from medgemma_tasks.errors import InvalidRequest, NonFiniteRelevancy
from medgemma_tasks.geometry import grid_square
from medgemma_tasks.sheet import draw_sheet

GREY = 100
SQUARE = (0.0, 0.0, 256.0, 256.0)


def stack(*cells: tuple[int, int], values: float = 1.0) -> np.ndarray:
    """One map for each cell, with its only relevancy there."""
    maps = np.zeros((len(cells), 16, 16), np.float32)
    for index, cell in enumerate(cells):
        maps[index][cell] = values
    return maps


def draw(maps: np.ndarray, *, size: tuple[int, int] = (256, 256), **options: object) -> np.ndarray:
    captions = options.pop("captions", [f"map {i}" for i in range(len(maps))])
    square = grid_square(*size, pad=True)
    sheet = draw_sheet(Image.new("L", size, GREY), maps, captions, square=square, **options)  # type: ignore[arg-type]
    assert sheet.mode == "RGB"
    return np.asarray(sheet).astype(int)


Tile = tuple[slice, slice]


def tiles(count: int, **options: object) -> list[Tile]:
    """Where the images stand, in reading order: found on a sheet of maps without relevancy."""
    grey = (draw(stack(*[(0, 0)] * count, values=0.0), **options) == GREY).all(axis=2)
    corner = grey.copy()
    corner[1:] &= ~grey[:-1]
    corner[:, 1:] &= ~grey[:, :-1]
    found = []
    for y, x in zip(*corner.nonzero(), strict=True):
        width, height = (
            int(np.argmin(np.append(line, False))) for line in (grey[y, x:], grey[y:, x])
        )
        if min(width, height) > 20:  # and not a dot of a letter
            found.append((slice(int(y), int(y) + height), slice(int(x), int(x) + width)))
    return found


def beneath(tile: Tile) -> Tile:
    """The text under a tile."""
    return slice(tile[0].stop, tile[0].stop + 64), tile[1]


def test_maps_stand_in_reading_order_each_over_the_image() -> None:
    cells = [(8, 2), (8, 5), (8, 8), (8, 11), (8, 14), (4, 8)]
    pixels = draw(stack(*cells), opacity=1.0)
    places = tiles(6)
    assert len(places) == 6
    for (row, column), tile in zip(cells, places, strict=True):
        coloured = (np.abs(pixels[tile] - GREY).max(axis=2) > 8).nonzero()
        cell = pixels[tile].shape[0] / 16
        assert coloured[0].mean() == pytest.approx((row + 0.5) * cell, abs=2)
        assert coloured[1].mean() == pytest.approx((column + 0.5) * cell, abs=2)


def test_a_map_stands_where_its_cell_lies_on_a_padded_image() -> None:
    size = (200, 900)
    tile = tiles(6, size=size)[0]
    pixels = draw(stack(*[(4, 7)] * 6), size=size, opacity=1.0)[tile]
    coloured = (np.abs(pixels - GREY).max(axis=2) > 8).nonzero()
    cell = pixels.shape[0] / 16
    assert coloured[0].mean() == pytest.approx(4.5 * cell, abs=2)
    assert coloured[1].mean() == pytest.approx(
        7.5 * cell - (16 * cell - pixels.shape[1]) / 2, abs=2
    )


def test_on_one_scale_a_small_map_is_pale_and_on_its_own_it_is_not() -> None:
    maps = stack((8, 8), (8, 8))
    maps[1] /= 10
    together = [int(np.abs(draw(maps)[tile] - GREY).max()) for tile in tiles(2)]
    apart = draw(maps, own_scales=True)
    alone = [int(np.abs(apart[tile] - GREY).max()) for tile in tiles(2, own_scales=True)]
    assert together[1] < together[0] / 2
    assert alone == [together[0]] * 2


def test_each_scale_of_its_own_is_written_beneath_its_map() -> None:
    maps = stack((8, 8), (8, 8))
    one, other = draw(maps, own_scales=True), draw(maps * [[[1.0]], [[0.5]]], own_scales=True)
    first, second = tiles(2, own_scales=True)
    assert np.array_equal(one[second], other[second])
    assert np.array_equal(one[beneath(first)], other[beneath(first)])
    assert not np.array_equal(one[beneath(second)], other[beneath(second)])


def test_the_one_scale_is_written_at_the_foot() -> None:
    maps = stack((8, 8), (8, 8))
    one, other = draw(maps), draw(maps * 0.5)
    foot = tiles(2)[-1][0].stop + 30
    assert np.array_equal(one[:foot], other[:foot])
    assert not np.array_equal(one[foot:], other[foot:])


def test_captions_and_title_are_written_and_the_images_left_alone() -> None:
    maps = stack((8, 8), (8, 8))
    plain = draw(maps)
    named = draw(maps, captions=["layer 0, local", "layer 5, global"])
    for tile in tiles(2):
        assert np.array_equal(plain[tile], named[tile])
        assert not np.array_equal(plain[beneath(tile)], named[beneath(tile)])
    assert tiles(2, title="How it builds up")[0][0].start > tiles(2)[0][0].start


def test_a_long_caption_does_not_reach_its_neighbour() -> None:
    maps = stack(*[(8, 8)] * 6)
    short = draw(maps, captions=list("abcdef"))
    long = draw(maps, captions=["a", "b" * 500, *"cdef"])
    first, second, third = tiles(6)[:3]
    assert not np.array_equal(short[beneath(second)], long[beneath(second)])
    for tile in (first, third):
        assert np.array_equal(short[beneath(tile)], long[beneath(tile)])


@pytest.mark.parametrize("size", [(256, 256), (100, 900)])
def test_sides_stand_beneath_the_edges_and_never_on_the_image(size: tuple[int, int]) -> None:
    maps = stack(*[(8, 8)] * 6)
    right = draw(maps, size=size, left_of_image="patient-right")
    left = draw(maps, size=size, left_of_image="patient-left")
    changed = (right != left).any(axis=2)
    for tile in tiles(6, size=size, left_of_image="patient-right"):
        assert not changed[tile].any()
        middle = (tile[1].start + tile[1].stop) // 2
        below = changed[beneath(tile)[0]]
        assert below[:, :middle].any()
        assert below[:, middle:].any()


def test_flat_maps_draw_no_colour() -> None:
    flat = np.full((3, 16, 16), 0.5, np.float32)
    for own in (False, True):
        pixels = draw(flat, own_scales=own)
        for tile in tiles(3, own_scales=own):
            assert (pixels[tile] == GREY).all()


def test_one_flat_map_among_others_draws_no_colour_on_a_scale_of_its_own() -> None:
    maps = stack((8, 8), (8, 8))
    maps[0] = 0.5
    flat, other = tiles(2, own_scales=True)
    pixels = draw(maps, own_scales=True)
    assert (pixels[flat] == GREY).all()
    assert (pixels[other] != GREY).any()


@pytest.mark.parametrize("count", [1, 2, 4, 8, 12, 34, 62])
@pytest.mark.parametrize("size", [(256, 256), (200, 900), (900, 200), (3000, 2000), (7, 5)])
def test_all_maps_are_there_whatever_their_number_and_the_images_shape(
    count: int, size: tuple[int, int]
) -> None:
    places = tiles(count, size=size)
    assert len(places) == count
    for rows, columns in places:
        shown = (columns.stop - columns.start) / (rows.stop - rows.start)
        assert shown == pytest.approx(size[0] / size[1], rel=0.05)
    sheet = draw(stack(*[(8, 8)] * count), size=size)
    assert max(sheet.shape) < 4000
    assert 1 / 3 < sheet.shape[1] / sheet.shape[0] < 4.5


def test_the_same_inputs_give_the_same_pixels() -> None:
    maps = np.random.default_rng(0).random((5, 16, 16)).astype(np.float32)
    assert np.array_equal(draw(maps, own_scales=True), draw(maps, own_scales=True))


def test_what_cannot_be_drawn_is_refused() -> None:
    image, maps = Image.new("L", (256, 256)), stack((8, 8), (1, 1))
    with pytest.raises(InvalidRequest, match="2 maps and 1 captions"):
        draw_sheet(image, maps, ["one"], square=SQUARE)
    with pytest.raises(InvalidRequest, match="one or more"):
        draw_sheet(image, maps[:0], [], square=SQUARE)
    with pytest.raises(InvalidRequest, match="opacity"):
        draw_sheet(image, maps, ["a", "b"], square=SQUARE, opacity=2)
    with pytest.raises(NonFiniteRelevancy):
        draw_sheet(image, maps * np.nan, ["a", "b"], square=SQUARE)
