from __future__ import annotations

import gzip
from collections.abc import Sequence
from itertools import permutations, product

import nibabel
import numpy as np
import pytest

from medgemma_client.volume.nifti import DESCRIPTION, encode
from medgemma_client.volume.places import place_of
from medgemma_tasks.errors import GeometryContradictory, GeometryMissing
from medgemma_tasks.geometry import cell_centre, grid_square
from medgemma_tasks.models import ImageAttributes, ImageGrid, Plane
from tests.parts import picture, reference

SIZE = (40, 24)
START = np.array([5.0, -7.0, 11.0])

Vector = tuple[float, float, float]


def directions() -> list[tuple[Vector, Vector]]:
    """The 24 ways in which an image's axes can lie along the patient's, right-handed."""
    found = []
    for axes in permutations(range(3), 2):
        for signs in product((1.0, -1.0), repeat=2):
            row, column = np.zeros(3), np.zeros(3)
            row[axes[0]], column[axes[1]] = signs
            found.append((tuple(row.tolist()), tuple(column.tolist())))
    return found


def slices(row: Vector, column: Vector, depths: Sequence[float]) -> list[ImageGrid]:
    """Slices of 40 x 24 pixels, 0.5 by 0.8 mm, at depths in mm along their normal."""
    normal = np.cross(row, column)
    return [
        ImageGrid(
            image=reference(picture(SIZE)).model_copy(
                update={
                    "attributes": ImageAttributes(
                        plane=Plane(
                            origin_mm=tuple((START + depth * normal).tolist()),
                            row=row,
                            column=column,
                        ),
                        spacing_mm=(0.8, 0.5),
                    )
                }
            ),
            rows=16,
            columns=16,
            square=grid_square(*SIZE, True),
            heatmap=f"heatmap-{k}.png",
            overlay=f"overlay-{k}.png",
        )
        for k, depth in enumerate(depths)
    ]


def read(content: bytes) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(content))


@pytest.mark.parametrize(("row", "column"), directions())
def test_a_cell_lies_in_the_volume_where_it_lies_in_the_patient(
    row: Vector, column: Vector
) -> None:
    images = slices(row, column, [0.0, 3.0, 6.0, 9.0])
    scores = np.random.default_rng(1).random((4, 16, 16), np.float32)
    scores[2, 9, 4] = 5.0
    volume = read(encode(scores, images))
    values = volume.get_fdata(dtype=np.float32)
    assert values.shape == (16, 16, 4)
    voxel = np.unravel_index(values.argmax(), values.shape)
    assert values[voxel] == np.float32(5.0)
    ras = volume.affine @ np.array([*voxel, 1.0])
    lps = place_of(images[2], *cell_centre((9, 4), (16, 16), images[2].square))
    assert lps is not None
    assert np.allclose(ras[:3], np.array(lps) * [-1, -1, 1], atol=1e-4)


def test_each_value_is_a_cell_s_and_nothing_is_put_in_between() -> None:
    scores = np.random.default_rng(2).random((3, 16, 16), np.float32)
    row, column = directions()[0]
    values = read(encode(scores, slices(row, column, [0, 2, 4]))).get_fdata(dtype=np.float32)
    assert np.array_equal(values, scores.transpose(2, 1, 0))


def test_the_header_says_millimetres_the_scanner_s_space_and_what_it_is_not_for() -> None:
    row, column = directions()[0]
    header = read(encode(np.ones((2, 16, 16), np.float32), slices(row, column, [0, 2]))).header
    assert header.get_xyzt_units()[0] == "mm"
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header["descrip"].item().decode() == DESCRIPTION
    assert np.allclose(header.get_zooms(), (40 / 16 * 0.5, 40 / 16 * 0.8, 2.0))


def test_a_sampled_series_is_put_at_even_distances_and_keeps_its_slices() -> None:
    row, column = directions()[0]
    scores = np.zeros((4, 16, 16), np.float32)
    scores[:, 3, 3] = [0.0, 4.0, 6.0, 7.0]
    volume = read(encode(scores, slices(row, column, [0.0, 2.0, 3.0, 4.0])))
    assert volume.shape == (16, 16, 5)
    assert np.allclose(volume.get_fdata()[3, 3], [0.0, 2.0, 4.0, 6.0, 7.0])
    assert np.isclose(volume.header.get_zooms()[2], 1.0)


def test_one_slice_alone_is_as_thick_as_it_says() -> None:
    (only,) = slices(*directions()[0], [0.0])
    attributes = only.image.attributes
    assert attributes.plane is not None
    plane = attributes.plane.model_copy(update={"thickness_mm": 4.0})
    image = only.image.model_copy(
        update={"attributes": attributes.model_copy(update={"plane": plane})}
    )
    volume = read(
        encode(np.ones((1, 16, 16), np.float32), [only.model_copy(update={"image": image})])
    )
    assert np.isclose(volume.header.get_zooms()[2], 4.0)


def test_images_that_do_not_say_where_they_lie_are_no_volume() -> None:
    (only,) = slices(*directions()[0], [0.0])
    bare = only.model_copy(update={"image": reference(picture(SIZE))})
    with pytest.raises(GeometryMissing, match="study"):
        encode(np.ones((1, 16, 16), np.float32), [bare])


@pytest.mark.parametrize("depths", [[0.0, 0.0], [0.0, 2.0, 1.0]])
def test_slices_that_do_not_follow_one_another_are_no_volume(depths: list[float]) -> None:
    images = slices(*directions()[0], depths)
    with pytest.raises(GeometryContradictory):
        encode(np.ones((len(images), 16, 16), np.float32), images)


def test_slices_of_two_directions_are_no_volume() -> None:
    images = slices(*directions()[0], [0.0]) + slices(*directions()[9], [3.0])
    with pytest.raises(GeometryContradictory, match="directions"):
        encode(np.ones((2, 16, 16), np.float32), images)
