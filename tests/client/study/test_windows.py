"""Values of slices to the 8 bits that MedGemma was trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_client.study import Study, read_study
from medgemma_client.study.windows import ct_to_rgb
from tests.client.study.phantom import ct_slice

Find = Callable[[str], Path]


def shown(study: Study) -> list[Any]:
    return [np.asarray(image.pixels).tolist() for image in study.images]


def mr(values: Any, k: int = 0, **tags: Any) -> bytes:
    """Stored without a rescale of its own: the values are those stored."""
    said = {"Modality": "MR", "RescaleIntercept": 0, **tags}
    return ct_slice(np.array(values) - 1024, position=(0, 0, k), number=k + 1, **said)


@pytest.mark.parametrize(
    ("hounsfield", "colour"),
    [
        (-3000, (0, 0, 0)),
        (-1024, (0, 0, 0)),
        (-135, (111, 0, 0)),  # 889 / 2048 of 255
        (0, (128, 98, 0)),  # 127.5 to the even one; 135 / 350
        (40, (132, 128, 128)),  # 127.5 twice
        (80, (137, 157, 255)),
        (215, (154, 255, 255)),
        (1024, (255, 255, 255)),
        (3000, (255, 255, 255)),
    ],
)
def test_three_windows_make_red_green_and_blue_of_a_ct(
    hounsfield: int, colour: tuple[int, int, int]
) -> None:
    assert ct_to_rgb(np.array([[float(hounsfield)]])).tolist() == [[list(colour)]]
    study = read_study(ct_slice(np.full((2, 3), max(hounsfield, -1024))))
    assert study.images[0].pixels.mode == "RGB"
    assert study.images[0].pixels.getpixel((0, 0)) == colour
    assert study.images[0].attributes.window is None


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_denser_is_never_darker(one: float, other: float) -> None:
    low, high = sorted((one, other))
    colours = ct_to_rgb(np.array([low, high])).astype(int)
    assert (colours[1] >= colours[0]).all()


@pytest.mark.parametrize("stored", [np.int16, np.uint16])
@pytest.mark.parametrize("size", [(8, 8), (300, 300)])
def test_large_slices_are_shown_as_small_ones(stored: type, size: tuple[int, int]) -> None:
    """The former by a table of all values."""
    signed = stored is np.int16
    values = np.resize(np.arange(-1024, 3000, 7), size)
    raw = (values if signed else values + 1024).astype(stored)
    data = ct_slice(
        values,
        PixelRepresentation=int(signed),
        RescaleIntercept=0 if signed else -1024,
        PixelData=raw.tobytes(),
    )
    assert np.array_equal(
        np.asarray(read_study(data).images[0].pixels), ct_to_rgb(values.astype(float))
    )


def test_slices_of_one_series_keep_their_own_rescale() -> None:
    """As PET and some CT have it."""
    size = np.zeros((300, 300))
    files = [
        ct_slice(size, position=(0, 0, k), number=k, RescaleIntercept=intercept)
        for k, intercept in enumerate((-1024, -984, -1024))
    ]
    blue = [image.pixels.getpixel((0, 0))[2] for image in read_study(files).images]  # type: ignore[index]
    assert blue == [0, 128, 0]


def test_an_mr_is_scaled_over_the_whole_acquisition_and_not_slice_by_slice() -> None:
    study = read_study([mr([[0, 100]]), mr([[200, 300]], 1), mr([[400, 510]], 2)])
    assert shown(study) == [[[0, 50]], [[100, 150]], [[200, 255]]]
    assert study.images[0].attributes.window == (255.0, 510.0)


def test_slices_that_are_not_shown_count_for_the_range() -> None:
    files = [mr([[0, 100]]), mr([[1000, 100]], 1), mr([[250, 500]], 2)]
    study = read_study(files, max_slices=1)
    assert (shown(study), study.shown) == ([[[64, 128]]], (2,))


def test_padding_does_not_count_for_the_range() -> None:
    study = read_study([mr([[60000, 100, 200]], PixelPaddingValue=60000), mr([[100, 100, 150]], 1)])
    assert shown(study) == [[[255, 0, 255]], [[0, 0, 128]]]


def test_a_flat_acquisition_is_all_white() -> None:
    assert shown(read_study([mr([[7, 7]]), mr([[7, 7]], 1)])) == [[[255, 255]], [[255, 255]]]


def test_the_window_of_the_file_can_be_asked_for() -> None:
    values = np.array([[-61, 40, 140]])
    files = [ct_slice(values, WindowCenter=40, WindowWidth=201)]
    assert shown(read_study(files, window="file")) == [[[0, 128, 255]]]
    assert read_study(files, window="file").images[0].attributes.window == (40, 201)


def test_one_window_can_be_asked_for_whatever_the_file_says() -> None:
    values = np.array([[0, 100, 200]])
    study = read_study(ct_slice(values, WindowCenter=40, WindowWidth=80), window=(100.5, 201))
    assert shown(study) == [[[0, 128, 255]]]
    assert study.images[0].attributes.window == (100.5, 201)
    assert "Shown through the window of centre 100.5, width 201." in study.notes
    inverted = ct_slice(values, PhotometricInterpretation="MONOCHROME1")
    assert shown(read_study(inverted, window=(100.5, 201))) == [[[255, 128, 0]]]


def test_a_ct_that_does_not_say_its_units_is_told_of() -> None:
    told = " ".join(read_study(ct_slice(np.zeros((2, 2)), RescaleIntercept=None)).notes)
    assert "do not say how their values become Hounsfield units" in told
    assert "Hounsfield units;" not in " ".join(read_study(ct_slice(np.zeros((2, 2)))).notes)


def test_a_radiograph_is_shown_as_when_it_is_read_alone(wheel_file: Find) -> None:
    from medgemma_client.images import read_image

    for name in ("dicomdirtests/77654033/CR1/6154", "examples_rgb_color.dcm"):
        study = read_study(wheel_file(name))
        alone = read_image(wheel_file(name))
        assert study.images[0].name == alone.name
        assert study.images[0].attributes == alone.attributes
