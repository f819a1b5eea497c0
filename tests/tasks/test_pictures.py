"""Pictures say what the numbers say, in the right place, and no more."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from medgemma_tasks.colours import table
from medgemma_tasks.errors import InputError, InvalidRequest, NonFiniteRelevancy
from medgemma_tasks.geometry import cell_box, grid_square
from medgemma_tasks.pictures import (
    coverage,
    draw_heatmap,
    draw_overlay,
    number_texts,
    percent,
    shown_image,
    shown_size,
    to_png,
)

GREY = 100


def one_hot(cell: tuple[int, int]) -> np.ndarray:
    scores = np.zeros((16, 16), np.float32)
    scores[cell] = 1.0
    return scores


def image_part(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """The pixels of the picture that show the image: it stands centred above the legend."""
    shown = shown_size(*size)
    pixels = np.asarray(picture).astype(int)
    left = (picture.width - shown[0]) // 2
    top = max(13, round(max(shown) / 48))
    return pixels[top : top + shown[1], left : left + shown[0]]


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (300, 484), (700, 200), (900, 1300)])
@pytest.mark.parametrize("pad", [True, False])
def test_colour_stands_where_the_cell_lies(size: tuple[int, int], pad: bool) -> None:
    cell = (8, 6)
    square = grid_square(*size, pad=pad)
    picture = draw_overlay(
        Image.new("L", size, GREY), one_hot(cell), square=square, low=0, high=1, opacity=1
    )
    pixels = image_part(picture, size)
    coloured = (np.abs(pixels - GREY).max(axis=2) > 8).nonzero()
    factor = shown_size(*size)[0] / size[0]
    left, top, right, bottom = (edge * factor for edge in cell_box(cell, (16, 16), square))
    assert abs((coloured[1].min() + coloured[1].max() + 1) / 2 - (left + right) / 2) <= 2
    assert abs((coloured[0].min() + coloured[0].max() + 1) / 2 - (top + bottom) / 2) <= 2
    # Nothing beyond the neighbours of the cell.
    assert coloured[1].min() >= left - (right - left)
    assert coloured[1].max() <= right + (right - left)


def test_where_relevancy_is_least_the_image_is_untouched() -> None:
    rng = np.random.default_rng(0)
    original = Image.fromarray(rng.integers(0, 255, (600, 600), np.uint8))
    picture = draw_overlay(original, one_hot((2, 2)), square=(0, 0, 600, 600), low=0, high=1)
    shown = image_part(picture, (600, 600))
    assert np.array_equal(shown[300:, :, 0], np.asarray(original)[300:])


def test_opacity_rises_with_relevancy() -> None:
    ramp = np.linspace(0, 1, 50, dtype=np.float32)
    assert (np.diff(coverage(ramp)) > 0).all()
    assert (coverage(ramp)[0], coverage(ramp)[-1]) == (0, 1)


def test_the_heatmap_has_the_colour_of_its_peak() -> None:
    picture = draw_heatmap(
        one_hot((3, 12)), size=(512, 512), square=(0, 0, 512, 512), low=0, high=1
    )
    pixels = image_part(picture, (512, 512))
    assert np.array_equal(pixels[3 * 32 + 16, 12 * 32 + 16], table()[255])
    assert np.array_equal(pixels[400, 100], table()[0])


def test_a_flat_map_draws_no_colour_and_says_so() -> None:
    image = Image.new("L", (512, 512), GREY)
    flat = np.full((16, 16), 0.25, np.float32)
    picture = draw_overlay(image, flat, square=(0, 0, 512, 512), low=0.25, high=0.25)
    assert (image_part(picture, (512, 512)) == GREY).all()
    pixels = np.asarray(picture).astype(int)
    assert (pixels.max(axis=2) - pixels.min(axis=2)).max() <= 10  # no colour bar either
    heatmap = np.asarray(
        draw_heatmap(flat, size=(512, 512), square=(0, 0, 512, 512), low=0.25, high=0.25)
    ).astype(int)
    assert (heatmap.max(axis=2) - heatmap.min(axis=2)).max() <= 10


def test_rounding_noise_is_not_drawn_as_a_map() -> None:
    noise = np.float32(0.25) + np.random.default_rng(0).random((16, 16)).astype(np.float32) * 1e-7
    picture = draw_overlay(
        Image.new("L", (512, 512), GREY),
        noise,
        square=(0, 0, 512, 512),
        low=float(noise.min()),
        high=float(noise.max()),
    )
    assert (image_part(picture, (512, 512)) == GREY).all()


def test_sides_stand_in_the_margin_and_only_where_known() -> None:
    def draw(side: str) -> Image.Image:
        return draw_overlay(
            Image.new("L", (512, 512), GREY),
            one_hot((8, 8)),
            square=(0, 0, 512, 512),
            low=0,
            high=1,
            left_of_image=side,  # type: ignore[arg-type]
        )

    right, left, unknown = draw("patient-right"), draw("patient-left"), draw("unknown")
    same = image_part(right, (512, 512))
    assert np.array_equal(same, image_part(left, (512, 512)))
    assert np.array_equal(same, image_part(unknown, (512, 512)))
    margin = (right.width - 512) // 2
    first = right.crop((0, 0, margin, 60)).tobytes()
    assert first == left.crop((left.width - margin, 0, left.width, 60)).tobytes()  # the R moved
    assert first != left.crop((0, 0, margin, 60)).tobytes()
    paper = np.asarray(unknown)[:500, : (unknown.width - 512) // 2]
    assert (paper == paper[0, 0]).all()


def test_a_peak_in_the_padding_is_not_marked_on_the_image() -> None:
    scores = one_hot((0, 0))
    square = grid_square(100, 600, pad=True)
    picture = draw_overlay(Image.new("L", (100, 600), GREY), scores, square=square, low=0, high=1)
    assert (image_part(picture, (100, 600)) == GREY).all()


def test_scores_beyond_the_range_are_told_on_the_legend() -> None:
    image, square = Image.new("L", (512, 512)), (0.0, 0.0, 512.0, 512.0)
    inside = draw_overlay(image, one_hot((1, 1)), square=square, low=0, high=1)
    beyond = draw_overlay(image, one_hot((1, 1)) * 1.5, square=square, low=0, high=1)
    assert inside.crop((0, 560, *inside.size)).tobytes() != (
        beyond.crop((0, 560, *beyond.size)).tobytes()
    )


def test_what_has_no_colour_is_told_below_an_overlay_wherever_it_fits() -> None:
    even = np.full((16, 16), 0.5, np.float32) + one_hot((1, 1)) / 2
    for size in ((512, 512), (100, 600)):
        square = grid_square(*size, pad=True)
        image = Image.new("L", size)
        told = draw_overlay(image, even, square=square, low=0.5, high=1)
        other = draw_overlay(image, (even - 0.5) * 2, square=square, low=0.5, high=1)
        notice = told.height - 2 * 13
        middle = told.width // 2
        same, differ = (0, notice, middle, told.height), (middle, notice, told.width, told.height)
        assert told.crop(same).tobytes() == other.crop(same).tobytes(), "the notice is whole"
        assert told.crop(differ).tobytes() != other.crop(differ).tobytes()


def test_the_ends_of_a_scale_can_be_told_apart() -> None:
    assert number_texts(0.0, 0.0748123) == ("0", "0.0748")
    assert number_texts(0.123451, 0.123459) == ("0.12345", "0.12346")


def test_the_same_inputs_give_the_same_pixels() -> None:
    scores = np.random.default_rng(5).random((16, 16)).astype(np.float32)
    pictures = [
        to_png(
            draw_overlay(
                Image.new("RGB", (300, 484), (9, 90, 200)),
                scores,
                square=grid_square(300, 484, pad=True),
                low=float(scores.min()),
                high=float(scores.max()),
            )
        )
        for _ in range(2)
    ]
    assert pictures[0] == pictures[1]


def test_small_images_grow_by_a_whole_number_and_large_ones_shrink() -> None:
    assert shown_size(64, 64) == (512, 512)
    assert shown_size(300, 484) == (600, 968)
    assert shown_size(2000, 1500) == (2000, 1500)
    assert shown_size(10_000, 5_000) == (2048, 1024)
    assert shown_size(1, 20_000) == (1, 2048)
    assert shown_size(1, 1) == (512, 512)


def test_enlarging_keeps_every_pixel_and_colour() -> None:
    original = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    grown = np.asarray(shown_image(original, (12, 12)))
    assert np.array_equal(grown[1::3, 1::3], np.asarray(original))


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3, 2000), (5000, 40)])
def test_images_of_odd_shape_are_drawn(size: tuple[int, int]) -> None:
    picture = draw_overlay(
        Image.new("L", size, GREY),
        np.random.default_rng(0).random((16, 16)).astype(np.float32),
        square=grid_square(*size, pad=True),
        low=0,
        high=1,
        left_of_image="patient-right",
    )
    assert picture.mode == "RGB"
    assert picture.width > 300


def test_an_image_of_more_than_eight_bits_is_refused() -> None:
    with pytest.raises(InputError):
        shown_image(Image.new("I;16", (4, 4)), (4, 4))


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_an_opacity_that_is_none_is_refused(opacity: float) -> None:
    with pytest.raises(InvalidRequest):
        draw_overlay(
            Image.new("L", (4, 4)),
            one_hot((0, 0)),
            square=(0, 0, 4, 4),
            low=0,
            high=1,
            opacity=opacity,
        )


def test_what_is_not_finite_is_never_drawn() -> None:
    scores = one_hot((0, 0)) * np.float32(np.nan)
    with pytest.raises(NonFiniteRelevancy):
        draw_heatmap(scores, size=(4, 4), square=(0, 0, 4, 4), low=0, high=1)
    with pytest.raises(NonFiniteRelevancy):
        draw_overlay(Image.new("L", (4, 4)), scores, square=(0, 0, 4, 4), low=0, high=0)


def test_a_png_carries_no_metadata() -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("PatientName", "canary")
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG", pnginfo=notes, dpi=(300, 300))
    image = Image.open(buffer)
    image.load()
    image.info["icc_profile"] = b"canary"
    content = to_png(image)
    assert b"canary" not in content
    assert set(Image.open(io.BytesIO(content)).info) == set()


def test_a_small_part_is_told_from_none() -> None:
    assert [percent(part) for part in (0.0, 1e-9, 0.0123, 1.0)] == [
        *("0.0%", "under 0.1%", "1.2%", "100.0%"),
    ]
