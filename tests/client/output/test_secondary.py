from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medgemma_client.study import read_study
from medgemma_tasks.pictures import shown_image, shown_size
from tests.client.images.conftest import Make
from tests.client.output.conftest import Ask
from tests.client.output.reading import (
    by_dcmtk,
    by_highdicom,
    by_pydicom,
    errors,
    placed,
    radiograph,
    thorax,
    written,
)
from tests.client.study.phantom import ct_slice
from tests.parts import picture

WORDS = ["no", "pneumothorax"]
"""Two targets: the pictures of the first are the stub's, those of the second are drawn."""
SOURCES = [
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_bigendian.dcm",
    "examples_overlay.dcm",
    "examples_rgb_color.dcm",
    "examples_ybr_color.dcm",
    "examples_palette.dcm",
    "radiograph",
]


@pytest.mark.parametrize("name", SOURCES)
def test_every_reader_finds_the_overlay_and_the_validator_no_error(
    ask: Ask, wheel_file: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    source = radiograph() if name == "radiograph" else wheel_file(name)
    result = ask(source, keyword=WORDS)
    path = written(result.to_dicom("sc", source, target=1), tmp_path)
    assert errors(path) <= errors(source)
    wanted = np.asarray(result.overlay(target=1))
    assert np.array_equal(by_pydicom(path), wanted)
    assert np.array_equal(by_highdicom(path)[0], wanted)
    assert np.array_equal(by_dcmtk(path), wanted)


@pytest.mark.parametrize("shape", [(300, 120), (90, 412), (33, 64), (700, 512)])
def test_the_peak_stands_on_its_pixel(ask: Ask, tmp_path: Path, shape: tuple[int, int]) -> None:
    """Image 8 of 9 has its only relevancy in column 8: so in the image, however it is padded."""
    grey = np.full(shape, -500, np.int16)
    source = ct_slice(grey, PixelSpacing=[0.7, 0.4])
    result = ask([source] * 9, keyword=["canary", "no", *["pneumothorax"] * 4])
    image, target = 8, 5
    path = written(result.to_dicom("sc", source, image, target), tmp_path)
    x, y, half_x, half_y = placed(result, image, target)
    width, height = shown_size(shape[1], shape[0])
    pixels = by_pydicom(path).astype(int)
    base = np.asarray(shown_image(result.image(image), (width, height))).astype(int)
    left = (pixels.shape[1] - width) // 2
    top = next(
        row
        for row in range(pixels.shape[0] - height)
        if np.array_equal(pixels[row, left : left + 2], base[0, :2])
    )
    changed = np.abs(pixels[top : top + height, left : left + width] - base).sum(axis=2)
    rows, columns = np.nonzero(changed > changed.max() * 0.8)
    found_x = (columns.mean() + 0.5) * shape[1] / width
    found_y = (rows.mean() + 0.5) * shape[0] / height
    assert abs(found_x - x) <= half_x
    assert abs(found_y - y) <= half_y
    made = pydicom.dcmread(path)
    assert float(made.PixelSpacing[0]) == pytest.approx(0.7 * shape[0] / height)
    assert float(made.PixelSpacing[1]) == pytest.approx(0.4 * shape[1] / width)


def test_its_letters_are_those_of_the_overlay(ask: Ask) -> None:
    source = radiograph()
    assert ask(source).to_dicom("sc", source).PatientOrientation == ["L", "F"]
    said = ask(source, left_of_image="patient-left").to_dicom("sc", source)
    assert said.PatientOrientation == ["R", "F"]
    drawn = picture()
    assert not ask(drawn).to_dicom("sc", drawn).PatientOrientation


@pytest.mark.parametrize(("said", "says"), [("YES", "YES"), ("NO", "NO"), (None, None)])
def test_names_that_are_burnt_into_the_source_are_not_denied(
    ask: Ask, make_dicom: Make, said: str | None, says: str | None
) -> None:
    attributes = {"BurnedInAnnotation": said} if said else {}
    source = make_dicom(
        StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5", SOPInstanceUID="1.2.6", **attributes
    )
    assert ask(source).to_dicom("sc", source).get("BurnedInAnnotation") == says


def test_pictures_of_one_job_are_one_series_and_each_the_same_object_again(ask: Ask) -> None:
    study = read_study(thorax())
    result = ask(study, keyword=WORDS)
    made = [result.to_dicom("sc", study, image) for image in range(5)]
    assert len({one.SeriesInstanceUID for one in made}) == 1
    assert len({one.SOPInstanceUID for one in made}) == 5
    assert [one.InstanceNumber for one in made] == [1, 2, 3, 4, 5]
    assert result.to_dicom("sc", study, 2) == made[2]
    other = result.to_dicom("sc", study, 2, target=1)
    assert other.SeriesInstanceUID != made[2].SeriesInstanceUID
    source = pydicom.dcmread(thorax()[0])
    assert made[0].StudyInstanceUID == source.StudyInstanceUID
    assert made[0].SeriesInstanceUID != source.SeriesInstanceUID
    assert len(made[0].SeriesDescription) <= 64
    assert "not for diagnostic use" in made[0].SeriesDescription


def test_what_is_no_dicom_becomes_a_picture_of_nobody(ask: Ask, tmp_path: Path) -> None:
    source = picture((33, 21))
    result = ask(source, keyword=WORDS)
    made = result.to_dicom("sc", source, target=1)
    assert not made.PatientName
    assert "SourceImageSequence" not in made
    assert not errors(written(made, tmp_path))
