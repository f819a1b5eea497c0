"""Which attributes of a DICOM file are read, and from where in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medgemma_client.images import SourceImage, read_image

Find = Callable[[str], Path]
Make = Callable[..., bytes]

RAMP = np.array([[0, 1000], [2000, 4000]], np.int16)


def shown(source: SourceImage) -> list[Any]:
    values: list[Any] = np.asarray(source.pixels).tolist()
    return values


def item(**attributes: Any) -> Sequence:
    """A sequence of one item."""
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return Sequence([ds])


def test_enhanced_files_keep_their_window_and_orientation_in_functional_groups(
    make_dicom: Make,
) -> None:
    frames = np.concatenate([RAMP, RAMP])
    groups = [
        item(
            PixelValueTransformationSequence=item(RescaleSlope=slope, RescaleIntercept=0),
            FrameVOILUTSequence=item(WindowCenter=1000, WindowWidth=2001),
        )[0]
        for slope in (1, 2)
    ]
    shared = item(
        PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.25]),
        PlaneOrientationSequence=item(ImageOrientationPatient=[-1, 0, 0, 0, -1, 0]),
    )
    data = make_dicom(
        frames,
        Rows=2,
        NumberOfFrames=2,
        PerFrameFunctionalGroupsSequence=Sequence(groups),
        SharedFunctionalGroupsSequence=shared,
    )
    assert shown(read_image(data)) == [[0, 128], [255, 255]]
    second = read_image(data, frame=1)
    assert shown(second) == [[0, 255], [255, 255]]
    assert second.attributes.spacing_mm == (0.5, 0.25)
    assert second.attributes.left_of_image == "patient-left"


def test_spacing_is_recorded_and_nothing_is_resampled(make_dicom: Make) -> None:
    image = read_image(make_dicom(RAMP, PixelSpacing=[0.5, 2], ImagerPixelSpacing=[9, 9]))
    assert image.attributes.spacing_mm == (0.5, 2.0)
    assert image.pixels.size == (2, 2)
    film = read_image(make_dicom(RAMP, ImagerPixelSpacing=[0.1, 0.1]))
    assert film.attributes.spacing_mm == (0.1, 0.1)
    for nonsense in ([0, 1], [-1, 1], [1, 2, 3]):
        assert read_image(make_dicom(RAMP, PixelSpacing=nonsense)).attributes.spacing_mm is None


def test_the_known_side_flips_no_pixels(make_dicom: Make) -> None:
    left = read_image(make_dicom(RAMP, ImageOrientationPatient=[1, 0, 0, 0, 1, 0]))
    right = read_image(make_dicom(RAMP, ImageOrientationPatient=[-1, 0, 0, 0, 1, 0]))
    assert left.attributes.left_of_image == "patient-right"
    assert right.attributes.left_of_image == "patient-left"
    assert left.name == right.name


def test_a_modality_that_is_no_term_of_the_standard_is_left_out(make_dicom: Make) -> None:
    assert read_image(make_dicom(RAMP, Modality="DOEJANE")).attributes.modality is None
