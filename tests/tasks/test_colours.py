"""The colour map keeps order and distance, for every kind of eye."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_tasks.colours import (
    colourise,
    curve,
    is_flat,
    oklab_to_srgb,
    scale_to_unit,
    table,
    uncoloured,
)
from medgemma_tasks.errors import InternalError, InvalidRequest, NonFiniteRelevancy

# Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009): severity 1.0, on linear RGB.
DEFICIENCIES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colours: np.ndarray) -> np.ndarray:
    values = colours / 255.0
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lightness(linear_rgb: np.ndarray) -> np.ndarray:
    """CIE L* of linear sRGB."""
    luminance = np.clip(linear_rgb @ [0.2126, 0.7152, 0.0722], 0, None)
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def test_lightness_rises_from_entry_to_entry() -> None:
    assert (np.diff(curve(256)[:, 0]) > 0).all()
    # The table has whole numbers: over any 4 entries the rise must be seen.
    light = lightness(linear(table()))
    assert (light[4:] > light[:-4]).all()


def test_equal_steps_look_equally_far_apart() -> None:
    steps = np.linalg.norm(np.diff(curve(64), axis=0), axis=1)
    assert steps.max() / steps.min() < 1.01


def test_no_colour_lies_outside_of_what_a_screen_shows() -> None:
    colours = oklab_to_srgb(curve(256))
    assert colours.min() >= 0
    assert colours.max() <= 1


@pytest.mark.parametrize("kind", DEFICIENCIES)
def test_the_colour_blind_see_the_same_order(kind: str) -> None:
    seen = np.clip(linear(table()) @ np.array(DEFICIENCIES[kind]).T, 0, 1)
    light = lightness(seen)
    assert (light[8:] > light[:-8]).all()
    assert light[-1] - light[0] > 70


def test_colours_are_those_of_the_table() -> None:
    colours = colourise(np.array([[0.0, 0.5, 1.0]]))
    assert colours.dtype == np.uint8
    assert np.array_equal(colours[0], table()[[0, 128, 255]])


def test_values_beyond_the_ends_get_the_colours_of_the_ends() -> None:
    assert np.array_equal(colourise(np.array([[-3.0, 7.0]]))[0], table()[[0, 255]])


def test_what_is_not_a_number_has_no_colour() -> None:
    with pytest.raises(NonFiniteRelevancy):
        colourise(np.array([[np.nan]]))
    with pytest.raises(InternalError):
        colourise(np.zeros(3))


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=30))
def test_scaling_keeps_order_and_ends(values: list[float]) -> None:
    scores = np.array(values, np.float32)
    low, high = float(scores.min()), float(scores.max())
    unit = scale_to_unit(scores, low, high)
    assert unit.dtype == np.float32
    if is_flat(low, high):
        assert (unit == 0).all()
    else:
        assert (unit.min(), unit.max()) == (0, 1)
        assert (np.diff(unit[np.argsort(scores)]) >= 0).all()


def test_a_range_of_mere_rounding_is_flat() -> None:
    value = np.float32(0.25)
    above = np.nextafter(value, np.float32(1))
    assert is_flat(float(value), float(above))
    assert (scale_to_unit(np.array([value, above]), float(value), float(above)) == 0).all()
    assert not is_flat(0.0, 1e-30)
    assert not is_flat(0.25, 0.2501)


def test_a_range_that_runs_backwards_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        scale_to_unit(np.zeros(2), 1.0, 0.0)
    with pytest.raises(NonFiniteRelevancy):
        scale_to_unit(np.zeros(2), 0.0, float("nan"))


def test_what_all_cells_have_alike_is_uncoloured() -> None:
    scores = np.array([[1.0, 1.0], [1.0, 5.0]], np.float32)
    assert uncoloured(scores, 1.0) == pytest.approx(4 / 8)
    assert uncoloured(scores, 0.5) == pytest.approx(2 / 8)
    assert uncoloured(scores, 0.0) == 0.0
    # Of maps that each have a scale of their own, together.
    both = np.stack([scores, scores * 3])
    assert uncoloured(both, both.min(axis=(1, 2), keepdims=True)) == pytest.approx(4 / 8)


def test_where_relevancy_may_be_negative_nothing_is_uncoloured() -> None:
    assert uncoloured(np.array([[-1.0, 2.0]], np.float32), -1.0) == 0.0
    assert uncoloured(np.array([[-1.0, -2.0]], np.float32), 0.5) == 0.0


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=64))
def test_it_is_a_part_of_the_whole(cells: list[float]) -> None:
    scores = np.array([cells], np.float32)
    assert 0.0 <= uncoloured(scores, float(scores.min())) <= 1.0 + 1e-9
