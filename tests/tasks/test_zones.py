"""Shares of relevancy by zone: what lies where, and by whose names."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from medgemma_tasks.errors import EmptyImage, InternalError, InvalidRequest, NonFiniteRelevancy
from medgemma_tasks.geometry import grid_square
from medgemma_tasks.zones import Left, Top, Zone, Zones, in_words, zone_shares

sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
grids = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 17), st.integers(1, 17)),
    elements=st.floats(-1e6, 1e6, width=32),
)
lefts, tops = st.sampled_from(get_args(Left)), st.sampled_from(get_args(Top))

CHEST = {"left_of_image": "patient-right", "top_of_image": "patient-head"}
AXIAL = {"left_of_image": "patient-right", "top_of_image": "patient-front"}
UNIT = (0.0, 0.0, 60.0, 60.0)


def shares(zones: Zones | None) -> dict[tuple[str, str], float]:
    assert zones is not None
    return {(zone.side, zone.level): zone.share for zone in zones.zones}


def one_hot(rows: int, columns: int, cell: tuple[int, int]) -> np.ndarray:
    scores = np.zeros((rows, columns), np.float32)
    scores[cell] = 0.25
    return scores


@given(grids, sizes, st.booleans(), lefts, tops)
def test_shares_add_up_to_one_and_are_six(
    scores: np.ndarray, size: tuple[int, int], pad: bool, left: Left, top: Top
) -> None:
    found = zone_shares(
        scores, grid_square(*size, pad=pad), size, left_of_image=left, top_of_image=top
    )
    if scores.max() <= 0:
        assert found is None
        return
    assert len(shares(found)) == 6
    assert found is not None
    assert sum(shares(found).values()) + found.outside == pytest.approx(1.0, abs=1e-12)
    if not pad:
        assert found.outside == 0.0


@given(grids, sizes, st.booleans())
def test_a_mirrored_image_swaps_the_sides(
    scores: np.ndarray, size: tuple[int, int], pad: bool
) -> None:
    size = (
        size[0],
        size[1] + (size[0] + size[1]) % 2,
    )  # an odd margin is no mirror image of itself
    square = grid_square(*size, pad=pad)
    there = zone_shares(scores, square, size, **CHEST)  # type: ignore[arg-type]
    back = zone_shares(scores[:, ::-1], square, size, **CHEST)  # type: ignore[arg-type]
    if there is None:
        assert back is None
        return
    swap = {"patient-right": "patient-left", "patient-left": "patient-right"}
    mirrored = {(swap[side], level): share for (side, level), share in shares(back).items()}
    assert mirrored == pytest.approx(shares(there), abs=1e-9)
    # And an image mirrored with its orientation shows the patient as before.
    told = zone_shares(
        scores[:, ::-1], square, size, left_of_image="patient-left", top_of_image="patient-head"
    )
    assert shares(told) == pytest.approx(shares(there), abs=1e-9)


@given(grids, sizes, st.booleans())
def test_an_image_upside_down_with_its_orientation_shows_the_patient_as_before(
    scores: np.ndarray, size: tuple[int, int], pad: bool
) -> None:
    size = (size[0], size[1] + (size[0] + size[1]) % 2)
    square = grid_square(*size, pad=pad)
    for top, bottom in (("patient-head", "patient-feet"), ("patient-front", "patient-back")):
        there = zone_shares(scores, square, size, top_of_image=top)  # type: ignore[arg-type]
        back = zone_shares(scores[::-1], square, size, top_of_image=bottom)  # type: ignore[arg-type]
        assert (there is None) == (back is None)
        if there is not None:
            assert shares(back) == pytest.approx(shares(there), abs=1e-9)


@given(grids, sizes, st.booleans(), st.floats(2.0**-20, 2.0**20))
def test_shares_are_of_the_positive_part_whatever_its_unit(
    scores: np.ndarray, size: tuple[int, int], pad: bool, unit: float
) -> None:
    square = grid_square(*size, pad=pad)
    scores = np.round(scores)
    plain = zone_shares(scores, square, size)
    scaled = zone_shares((np.maximum(scores, 0) * unit).astype(np.float32), square, size)
    assert (plain is None) == (scaled is None)
    if plain is not None:
        assert shares(scaled) == pytest.approx(shares(plain), abs=1e-6)


@pytest.mark.parametrize("size", [(60, 60), (300, 484), (2000, 700), (7, 3)])
def test_an_even_map_gives_each_zone_its_area(size: tuple[int, int]) -> None:
    flat = np.full((16, 16), 0.5, np.float32)
    stretched = zone_shares(flat, grid_square(*size, pad=False), size)
    assert list(shares(stretched).values()) == pytest.approx([1 / 6] * 6)
    padded = zone_shares(flat, grid_square(*size, pad=True), size)
    part = min(size) / max(size)
    assert list(shares(padded).values()) == pytest.approx([part / 6] * 6)
    assert padded is not None
    assert padded.outside == pytest.approx(1 - part)


def test_the_patients_right_is_at_the_left_of_a_chest_image() -> None:
    found = zone_shares(one_hot(16, 16, (1, 2)), UNIT, (60, 60), **CHEST)  # type: ignore[arg-type]
    assert shares(found)["patient-right", "upper"] == 1.0
    found = zone_shares(one_hot(16, 16, (15, 15)), UNIT, (60, 60), **CHEST)  # type: ignore[arg-type]
    assert shares(found)["patient-left", "lower"] == 1.0


def test_the_front_is_at_the_top_of_an_axial_image() -> None:
    found = zone_shares(one_hot(16, 16, (1, 2)), UNIT, (60, 60), **AXIAL)  # type: ignore[arg-type]
    assert shares(found)["patient-right", "front"] == 1.0
    assert [zone.level for zone in found.zones[::2]] == ["front", "middle", "back"]  # type: ignore[union-attr]


def test_what_is_not_known_of_the_patient_is_named_by_the_image() -> None:
    found = zone_shares(one_hot(16, 16, (1, 2)), UNIT, (60, 60))
    assert shares(found)["image-left", "image-top"] == 1.0
    names = {name for pair in shares(found) for name in pair}
    assert all(name.startswith("image-") for name in names)


def test_one_edge_may_be_known_without_the_other() -> None:
    found = zone_shares(one_hot(4, 4, (0, 3)), UNIT, (60, 60), top_of_image="patient-head")
    assert shares(found)["image-right", "upper"] == 1.0
    found = zone_shares(one_hot(4, 4, (0, 3)), UNIT, (60, 60), left_of_image="patient-left")
    assert shares(found)["patient-right", "image-top"] == 1.0


def test_a_cell_that_zones_cut_is_divided_by_area() -> None:
    # 3 x 4 cells over 60 pixels: column 1 is pixels 20..40 of sides that part at 30, and row 1 is
    # pixels 15..30 of thirds that part at 20.
    found = shares(zone_shares(one_hot(4, 3, (1, 1)), UNIT, (60, 60), **CHEST))  # type: ignore[arg-type]
    assert found["patient-right", "upper"] == pytest.approx(1 / 6)
    assert found["patient-left", "upper"] == pytest.approx(1 / 6)
    assert found["patient-right", "middle"] == pytest.approx(1 / 3)
    assert found["patient-left", "middle"] == pytest.approx(1 / 3)


def test_a_grid_of_one_cell_is_divided_evenly() -> None:
    found = zone_shares(np.ones((1, 1), np.float32), (0, 0, 7, 5), (7, 5))
    assert list(shares(found).values()) == pytest.approx([1 / 6] * 6)


def test_relevancy_in_the_padding_is_outside_the_image() -> None:
    size = (30, 60)
    square = grid_square(*size, pad=True)  # the image is columns 4 to 11 of 16
    outside = zone_shares(one_hot(16, 16, (3, 0)), square, size)
    assert outside is not None
    assert outside.outside == 1.0
    assert set(shares(outside).values()) == {0.0}
    inside = zone_shares(one_hot(16, 16, (3, 4)), square, size)
    assert inside is not None
    assert inside.outside == 0.0
    # 3 cells of 20 pixels on 60 around an image of 30: its edges halve the outer two.
    cut = zone_shares(one_hot(3, 3, (0, 0)), square, size)
    assert cut is not None
    assert cut.outside == pytest.approx(0.75)
    assert shares(cut)["image-left", "image-top"] == pytest.approx(0.25)


def test_a_map_without_relevancy_has_no_shares() -> None:
    assert zone_shares(np.zeros((16, 16), np.float32), UNIT, (60, 60)) is None
    assert zone_shares(np.full((16, 16), -1.0, np.float32), UNIT, (60, 60)) is None


@pytest.mark.parametrize("value", [np.float32(1e-45), np.finfo(np.float32).max])
def test_neither_the_smallest_nor_the_largest_numbers_lose_their_shares(value: np.float32) -> None:
    found = zone_shares(np.full((4, 4), value), UNIT, (60, 60))
    assert list(shares(found).values()) == pytest.approx([1 / 6] * 6)


def test_what_is_no_map_is_refused() -> None:
    good = np.ones((2, 2), np.float32)
    with pytest.raises(NonFiniteRelevancy):
        zone_shares(np.array([[np.nan, 1.0]], np.float32), UNIT, (60, 60))
    with pytest.raises(InternalError):
        zone_shares(np.ones(4, np.float32), UNIT, (60, 60))
    with pytest.raises(InvalidRequest):
        zone_shares(good, (0, 0, 0, 4), (60, 60))
    with pytest.raises(EmptyImage):
        zone_shares(good, UNIT, (0, 60))


def test_zones_survive_their_way_through_json() -> None:
    found = zone_shares(one_hot(4, 3, (1, 1)), UNIT, (60, 60), **CHEST)  # type: ignore[arg-type]
    assert found is not None
    assert Zones.model_validate_json(found.model_dump_json()) == found


def zones_of(*parts: tuple[str, str, float], outside: float = 0.0) -> Zones:
    return Zones(
        zones=tuple(Zone(side=a, level=b, share=c) for a, b, c in parts),  # type: ignore[arg-type]
        outside=outside,
    )


def test_words_name_the_largest_shares_first() -> None:
    found = zones_of(
        ("patient-right", "upper", 0.412),
        ("patient-left", "upper", 0.05),
        ("patient-left", "middle", 0.3),
        ("patient-right", "lower", 0.138),
        outside=0.1,
    )
    assert in_words(found) == (
        "patient right, upper third 41%; patient left, middle third 30%; "
        "patient right, lower third 14%; outside the image 10%"
    )
    assert in_words(found, most=1) == "patient right, upper third 41%; outside the image 10%"


def test_words_of_the_image_are_said_to_be_the_images() -> None:
    assert in_words(zones_of(("image-left", "image-top", 1.0))) == (
        "image left, top third of the image 100%"
    )
    assert in_words(zones_of(("patient-left", "front", 1.0))) == "patient left, front third 100%"


def test_words_leave_out_what_is_next_to_nothing() -> None:
    found = zones_of(("image-left", "upper", 0.004), ("image-right", "upper", 0.0), outside=0.996)
    assert in_words(found) == "image left, upper third under 1%; outside the image 100%"
    assert in_words(zones_of(("image-left", "upper", 0.0), outside=1.0)) == (
        "outside the image 100%"
    )
    assert in_words(None) == "no relevancy on this image"
