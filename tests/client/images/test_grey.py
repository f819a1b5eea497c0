"""Lookup tables, windows and ranges, against the formulas of the standard and pydicom's code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing

from medgemma_client.images.grey import Function, Lookup, Window
from medgemma_tasks.eight_bits import min_max_to_uint8, unit_to_uint8

VALUES = np.linspace(-3000, 3000, 1201)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (0.5, 1), (-600, 1500), (2048, 4096)])
def test_a_window_is_pydicoms_window_scaled_to_one(
    function: Function, centre: float, width: float
) -> None:
    ds = Dataset()
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsStored, ds.PixelRepresentation = 16, 0  # pydicom's range is then 0..65535
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = centre, width, function
    expected = apply_windowing(VALUES, ds) / 65535
    assert np.allclose(Window(centre, width, function)(VALUES), expected, atol=1e-9)


def test_a_lookup_table_holds_its_ends() -> None:
    table = Lookup(first=10, entries=np.array([1, 5, 9], np.uint16), bits=4)
    assert table(np.array([-5.0, 10, 11, 12, 99])).tolist() == [1, 1, 5, 9, 9]


def test_the_first_value_of_a_table_is_signed_where_the_values_are() -> None:
    table = Lookup(first=2**16 - 1000, entries=np.array([0, 7], np.uint16), bits=4)
    assert table(np.array([-1000.0, -999])).tolist() == [0, 7]


def test_the_range_goes_from_black_to_white() -> None:
    assert min_max_to_uint8(np.array([[-4.0, 0, 4]])).tolist() == [[0, 128, 255]]
    assert min_max_to_uint8(np.array([[-4.0, 0, 4]]), invert=True).tolist() == [[255, 128, 0]]


def test_a_flat_image_is_black_inverted_or_not() -> None:
    for invert in (False, True):
        assert not min_max_to_uint8(np.full((2, 2), 9.0), invert=invert).any()


def test_what_does_not_count_is_clipped() -> None:
    values = np.array([-100.0, 0, 10, 500])
    keep = np.array([False, True, True, False])
    assert min_max_to_uint8(values, keep=keep).tolist() == [0, 0, 255, 255]
    assert min_max_to_uint8(values, keep=np.zeros(4, bool))[3] == 255  # nothing left: count all


@given(st.lists(st.floats(width=64), min_size=1, max_size=20))
def test_any_floats_give_8_bits_in_their_order(numbers: list[float]) -> None:
    values = np.array(numbers)
    out = min_max_to_uint8(values)
    assert out.dtype == np.uint8
    finite = np.isfinite(values)
    order = np.argsort(values[finite])
    assert (np.diff(out[finite][order].astype(int)) >= 0).all()


def test_halves_are_rounded_and_not_cut() -> None:
    assert unit_to_uint8(np.array([0.0, 0.999, 1.0])).tolist() == [0, 255, 255]
