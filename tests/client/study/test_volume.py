"""Slices find their order and their place in the patient, whichever way they were taken."""

from __future__ import annotations

import random
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from medgemma_client.study import Study, read_study
from medgemma_tasks.errors import (
    GeometryContradictory,
    GeometryMissing,
    SlicesDuplicated,
    SlicesUneven,
)
from tests.client.study.phantom import Scan, ct_slice

AXES = np.eye(3)
ORIENTATIONS = [
    (tuple(one * AXES[a]), tuple(other * AXES[b]))
    for (a, b), one, other in product(permutations(range(3), 2), (1, -1), (1, -1))
]
"""Rows and columns along the axes of the patient, each way: 24."""
FLAT = np.zeros((4, 4), np.int16)


def bright(study: Study) -> np.ndarray:
    """Indices (slice, row, column) of the cube's pixels in the images as they would be uploaded."""
    shown = np.stack([np.asarray(image.pixels) for image in study.images])
    return np.argwhere(shown[..., 1] == 255)


def slab(count: int = 6, step: float = 2.0, **changed: float) -> list[bytes]:
    """Slices of nothing, one above the other. ``changed``: at_K, the height of slice K instead."""
    heights = [changed.get(f"at_{k}", step * k) for k in range(count)]
    return [ct_slice(FLAT, position=(0, 0, z), number=k + 1) for k, z in enumerate(heights)]


@pytest.mark.parametrize("shift", [0.0, 1.2, -0.8])
@pytest.mark.parametrize("step", [3.0, -3.0])
@pytest.mark.parametrize(("row", "column"), ORIENTATIONS)
def test_the_cube_is_found_where_it_is(
    row: tuple[float, ...], column: tuple[float, ...], step: float, shift: float
) -> None:
    scan = Scan(row=row, column=column, step=step, shift=shift)
    files = scan.files()
    random.Random(7).shuffle(files)
    study = read_study(files)
    found = bright(study)
    volume = study.volume
    assert volume is not None

    # Its slices: those whose planes cross it, counted along the normal.
    normal = np.cross(row, column)
    depths = sorted(float(scan.position(taken) @ normal) for taken in range(scan.slices))
    crossed = [
        k for k, d in enumerate(depths) if abs(d - float(np.dot(scan.cube, normal))) <= scan.half
    ]
    assert sorted(set(found[:, 0])) == crossed

    # Its place: every bright pixel lies in it, and their middle is its middle, by the planes that
    # travel with the images and by the one matrix of the volume.
    spacing = np.array(study.images[0].attributes.spacing_mm or ())
    assert np.allclose(spacing, scan.spacing)
    by_plane = []
    for k, j, i in found:
        plane = study.images[k].attributes.plane
        assert plane is not None
        assert plane.step_mm == pytest.approx(abs(step))
        place = (
            np.array(plane.origin_mm)
            + np.array(plane.row) * i * spacing[1]
            + np.array(plane.column) * j * spacing[0]
        )
        assert np.allclose(place, volume.place(i, j, k))
        by_plane.append(place)
    assert volume.affine is not None
    ones = np.ones(len(found))
    by_matrix = (volume.affine @ np.stack([found[:, 2], found[:, 1], found[:, 0], ones]))[:3].T
    assert np.allclose(by_plane, by_matrix, atol=1e-4)
    assert (np.abs(np.array(by_plane) - scan.cube) <= scan.half + 1e-4).all()
    assert np.abs(np.mean(by_plane, axis=0) - scan.cube).max() <= 3.0 / 2  # half a voxel

    # Its side: it lies to the left, the front and the head of the middle.
    attributes = study.images[0].attributes
    columns, rows = found[:, 2].mean() / scan.columns, found[:, 1].mean() / scan.rows
    begins = {"patient-right": True, "patient-left": False}
    assert (attributes.left_of_image in begins) == (row[0] != 0)
    if row[0]:
        assert (columns > 0.5) == begins[attributes.left_of_image]
    tops = {
        "patient-front": -1,
        "patient-back": 1,
        "patient-head": -1,
        "patient-feet": 1,
    }
    assert (attributes.top_of_image in tops) == (column[0] == 0)
    if column[0] == 0:
        assert np.sign(rows - 0.5) == tops[attributes.top_of_image]


@pytest.mark.parametrize("shift", [1.2, -0.8])
def test_slices_that_lean_are_told_of(shift: float) -> None:
    study = read_study(Scan(shift=shift, slices=4).files())
    angle = np.degrees(np.arctan(abs(shift) / 3))
    assert f"The slices lean by {angle:.1f} degrees" in " ".join(study.notes)


def test_instance_numbers_do_not_say_the_order() -> None:
    files = [ct_slice(FLAT + k, position=(0, 0, -k), number=k + 1) for k in range(5)]
    study = read_study(files)
    assert study.volume is not None
    assert [plane.origin_mm[2] for plane in study.volume.planes] == [-4, -3, -2, -1, 0]
    assert study.shown == (0, 1, 2, 3, 4)


def test_a_tilted_gantry_does_not_make_even_slices_uneven() -> None:
    tilted = np.radians(20)
    orientation = [1, 0, 0, 0, np.cos(tilted), -np.sin(tilted)]
    files = [
        ct_slice(FLAT, position=(0, 0, 5 * k), orientation=orientation, number=k) for k in range(6)
    ]
    study = read_study(files)
    assert study.volume is not None
    assert study.volume.step_mm == pytest.approx(5 * np.cos(tilted), abs=1e-4)
    assert study.volume.affine is not None
    assert np.allclose(study.volume.affine[:3, 2], [0, 0, 5])


def test_a_missing_slice_is_refused_or_gone_on_without() -> None:
    files = slab()
    del files[2]
    with pytest.raises(SlicesUneven, match=r"4\.00 mm between slice 2 and 3, where 2\.00 mm"):
        read_study(files)
    study = read_study(files, gaps="report")
    assert len(study.images) == 5
    assert any("uneven distances" in note for note in study.notes)
    assert study.volume is not None
    assert study.volume.affine is None
    assert [plane.origin_mm[2] for plane in study.volume.planes] == [0, 2, 6, 8, 10]


def test_what_headers_round_is_not_uneven() -> None:
    assert read_study(slab(at_2=4.04, at_4=7.97)).volume is not None


def test_slices_at_one_place_are_refused_or_the_first_of_each_is_taken() -> None:
    again = [
        ct_slice(FLAT + 50, position=(0, 0, 2 * k), number=k + 100, AcquisitionNumber=2)
        for k in range(3)
    ]
    with pytest.raises(SlicesDuplicated, match="3 of 9 slices"):
        read_study(again + slab())
    study = read_study(again + slab(), gaps="report")
    assert len(study.images) == 6
    assert {image.name for image in study.images} == {read_study(slab()).images[0].name}


def test_the_same_file_twice_is_one_slice() -> None:
    study = read_study(slab() + slab()[:2])
    assert len(study.images) == 6
    assert "Left out: 2 files: a copy of an image that is there already." in study.notes


def test_slices_shifted_against_each_other_are_uneven() -> None:
    files = slab()
    files[3] = ct_slice(FLAT, position=(20, 0, 6), number=4)
    with pytest.raises(SlicesUneven, match=r"shifted against each other, by up to 20\.0 mm"):
        read_study(files)


@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        ({"position": None}, "position"),
        ({"PixelSpacing": None}, "pixel spacing"),
        ({"PixelSpacing": [0, 0]}, "pixel spacing"),
    ],
)
def test_slices_that_do_not_say_where_they_lie_are_taken_by_number_if_at_all(
    lacking: dict[str, Any], named: str
) -> None:
    files = slab()
    tags: dict[str, Any] = {"position": (0, 0, 2), "number": 9, **lacking}
    files[1] = ct_slice(FLAT + 1000, **tags)
    with pytest.raises(GeometryMissing, match=rf"missing are: {named} \(1\)"):
        read_study(files)
    study = read_study(files, gaps="report")
    assert study.volume is None
    assert all(image.attributes.plane is None for image in study.images)
    assert [np.asarray(image.pixels).max() for image in study.images].index(255) == 5


def test_a_series_without_any_orientation_is_taken_by_number_if_at_all() -> None:
    files = [ct_slice(FLAT, position=None, orientation=None, number=k) for k in range(3)]
    with pytest.raises(GeometryMissing, match=r"position \(3\), orientation \(3\)"):
        read_study(files)
    assert len(read_study(files, gaps="report").images) == 3


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"orientation": [1, 0, 0, 0.5, 0.5, 0]}, "no right angle"),
        ({"orientation": [2, 0, 0, 0, 1, 0]}, "no unit vectors"),
        ({"PatientOrientation": ["R", "P"]}, "PatientOrientation"),
        ({"PatientOrientation": ["L", "H"]}, "PatientOrientation"),
    ],
)
def test_contradictory_orientation_is_refused_or_leaves_no_place(
    tags: dict[str, Any], why: str
) -> None:
    files = [ct_slice(FLAT, position=(0, 0, k), number=k, **tags) for k in range(3)]
    with pytest.raises(GeometryContradictory, match=why):
        read_study(files)
    study = read_study(files, gaps="report")
    assert study.volume is None
    assert any(why in note for note in study.notes)


def test_letters_that_agree_are_no_contradiction() -> None:
    files = [
        ct_slice(FLAT, position=(0, 0, k), number=k, PatientOrientation=["L", "P"])
        for k in range(3)
    ]
    assert read_study(files).volume is not None


def test_pixels_of_two_sizes_in_one_series_contradict_each_other() -> None:
    files = slab()
    files[2] = ct_slice(FLAT, position=(0, 0, 4), number=3, PixelSpacing=[2, 2])
    with pytest.raises(GeometryContradictory, match="spacing of pixels"):
        read_study(files)


def test_one_slice_has_a_place_and_its_thickness() -> None:
    study = read_study(ct_slice(FLAT, position=(1, 2, 3), SliceThickness=2.5))
    plane = study.images[0].attributes.plane
    assert plane is not None
    assert (plane.origin_mm, plane.thickness_mm, plane.step_mm) == ((1, 2, 3), 2.5, None)
    assert study.volume is not None
    assert study.volume.affine is not None
    assert study.volume.affine[2, 2] == 2.5
