from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medgemma_client.study import read_study
from medgemma_tasks.errors import NotPlaced
from medgemma_tasks.geometry import spread
from tests.client.output.conftest import Ask
from tests.client.output.reading import (
    by_pydicom,
    errors,
    floats_by_dcmtk,
    map_by_highdicom,
    placed,
    radiograph,
    thorax,
    written,
)
from tests.client.study.phantom import Scan
from tests.client.study.phantom import written as as_file
from tests.parts import picture

WORDS = ["no", "pneumothorax"]
PLACED = ["CT_small.dcm", "MR_small.dcm", "examples_overlay.dcm", "MR_small_bigendian.dcm"]
WAYS = [
    {"row": (1, 0, 0), "column": (0, 1, 0)},
    {"row": (0, 1, 0), "column": (0, 0, -1)},
    {"row": (0.8, 0.6, 0), "column": (0, 0, -1), "rows": 40, "columns": 24},
    {"row": (-1, 0, 0), "column": (0, 0.6, 0.8), "rows": 33, "columns": 20, "step": -3.0},
]


@pytest.mark.parametrize("name", PLACED)
def test_every_reader_finds_the_relevancy_and_the_validator_no_error(
    ask: Ask, wheel_file: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    source = wheel_file(name)
    result = ask(source, keyword=WORDS)
    path = written(result.to_dicom("pm", source, target=1), tmp_path)
    assert errors(path) <= errors(source)
    image = result.record.images[0]
    scores = result.explanations[1].image_scores[0]
    wanted = spread(scores, (image.image.width, image.image.height), image.square)
    assert wanted.max() == scores.max() > 0
    assert np.array_equal(by_pydicom(path), wanted)
    assert np.array_equal(map_by_highdicom(path)[0], wanted)
    assert np.array_equal(floats_by_dcmtk(path).reshape(wanted.shape), wanted)


@pytest.mark.parametrize("way", WAYS)
def test_the_peak_lies_in_the_patient_where_its_cell_lies(
    ask: Ask, tmp_path: Path, way: dict[str, Any]
) -> None:
    scan = Scan(**way)
    study = read_study(scan.files())
    result = ask(study, keyword=WORDS)
    path = written(result.to_dicom("pm", study, target=1), tmp_path)
    made = pydicom.dcmread(path)
    frames = by_pydicom(path)
    assert len(frames) == len(study.images) == 14
    shared = made.SharedFunctionalGroupsSequence[0]
    rows, columns = (float(mm) for mm in shared.PixelMeasuresSequence[0].PixelSpacing)
    directions = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    places = {one.attributes.plane.origin_mm: k for k, one in enumerate(study.images)}
    seen = 0
    for frame, groups in zip(frames, made.PerFrameFunctionalGroupsSequence, strict=True):
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        number = places[tuple(float(mm) for mm in position)]
        x, y, half_x, half_y = placed(result, number, 1)
        if not (0 <= x < scan.columns and 0 <= y < scan.rows):
            continue  # the cell lies in the padding
        seen += 1
        row, column = np.unravel_index(frame.argmax(), frame.shape)
        found = (
            np.array(position, float)
            + directions[:3] * column * columns
            + directions[3:] * row * rows
        )
        plane = study.images[number].attributes.plane
        wanted = (
            np.array(plane.origin_mm)
            + np.array(plane.row) * (x - 0.5) * scan.spacing[1]
            + np.array(plane.column) * (y - 0.5) * scan.spacing[0]
        )
        off = found - wanted
        assert abs(off @ directions[:3]) <= half_x * scan.spacing[1]
        assert abs(off @ directions[3:]) <= half_y * scan.spacing[0]
        assert abs(off @ np.cross(directions[:3], directions[3:])) < 1e-4
    assert seen >= 9


def test_a_map_of_a_study_has_all_its_slices_and_each_refers_to_its_own(
    ask: Ask, tmp_path: Path
) -> None:
    files = thorax()
    study = read_study(files)
    result = ask(study)
    path = written(result.to_dicom("pm", study, image=3), tmp_path)
    assert not errors(path)
    assert result.to_dicom("pm", study, image=1) == result.to_dicom("pm", study, image=3)
    made = pydicom.dcmread(path)
    sources = {str(ds.SOPInstanceUID): ds for ds in map(pydicom.dcmread, files)}
    assert made.NumberOfFrames == len(study.images) == len(sources) == 5
    referred = []
    for groups in made.PerFrameFunctionalGroupsSequence:
        item = groups.DerivationImageSequence[0].SourceImageSequence[0]
        source = sources[item.ReferencedSOPInstanceUID]
        assert item.ReferencedSOPClassUID == source.SOPClassUID
        assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert item.SpatialLocationsPreserved == "YES"
        where = groups.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(where, source.ImagePositionPatient)
        referred.append(source.SOPInstanceUID)
    assert set(referred) == set(sources)
    series = made.ReferencedSeriesSequence[0]
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == set(
        sources
    )
    assert made.FrameOfReferenceUID == source.FrameOfReferenceUID


def test_slices_whose_direction_differs_in_the_last_digit_are_one_map(
    ask: Ask, tmp_path: Path
) -> None:
    scan = Scan(slices=3)
    files = [
        scan.slice_(taken, ImageOrientationPatient=[1, 1e-6 * taken, 0, 0, 1, 0])
        for taken in range(3)
    ]
    study = read_study(files)
    made = ask(study).to_dicom("pm", study)
    assert made.NumberOfFrames == 3
    assert not errors(written(made, tmp_path))


def test_of_moments_at_one_place_the_one_asked_for_is_the_map(ask: Ask, tmp_path: Path) -> None:
    scan = Scan(slices=3)
    files = [scan.slice_(0, InstanceNumber=k, SOPInstanceUID=f"1.2.3.9.{k}") for k in range(1, 4)]
    study = read_study(files, kind="images")
    result = ask(study)
    made = [result.to_dicom("pm", study, image) for image in range(3)]
    for number, one in enumerate(made, 1):
        assert one.NumberOfFrames == 1
        assert one.SourceImageSequence[0].ReferencedSOPInstanceUID == f"1.2.3.9.{number}"
    assert len({one.SOPInstanceUID for one in made}) == 3
    assert not errors(written(made[2], tmp_path))


def test_a_frame_of_a_file_of_several_is_referred_to_by_its_number(
    ask: Ask, tmp_path: Path
) -> None:
    source = several_frames()
    study = read_study(source)
    result = ask(study)
    made = result.to_dicom("pm", study)
    assert made.NumberOfFrames == 3
    for groups in made.PerFrameFunctionalGroupsSequence:
        item = groups.DerivationImageSequence[0].SourceImageSequence[0]
        assert item.ReferencedSOPInstanceUID == "1.2.3.4.77"
        z = groups.PlanePositionSequence[0].ImagePositionPatient[2]
        assert item.ReferencedFrameNumber == z / 4 + 1
    assert len(made.SourceImageSequence) == 1
    assert not errors(written(made, tmp_path))


def test_a_map_says_what_it_is_and_that_it_is_no_finding(
    ask: Ask, wheel_file: Callable[[str], Path]
) -> None:
    source = wheel_file("CT_small.dcm")
    result = ask(source, keyword=WORDS)
    made = result.to_dicom("pm", source, target=1)
    mapping = made.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == "130402"
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    window = made.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    low, high = result.targets[1].low, result.targets[1].high
    assert float(window.WindowCenter) == pytest.approx((low + high) / 2)
    assert float(window.WindowWidth) == pytest.approx(high - low)
    assert made.ContentQualification == "RESEARCH"
    assert made.BurnedInAnnotation == "NO"
    assert "not for diagnostic use" in made.SeriesDescription
    for part in ("phantom", "stub-1", "chefer", "16 x 16", "not for diagnostic use"):
        assert part in made.DerivationDescription


def test_what_has_no_place_in_the_patient_is_told_to_become_a_picture(ask: Ask) -> None:
    for source in (radiograph(), picture()):
        with pytest.raises(NotPlaced, match='kind="sc"'):
            ask(source).to_dicom("pm", source)


def test_relevancy_that_lies_in_the_padding_alone_is_no_value_of_any_pixel(
    ask: Ask, tmp_path: Path
) -> None:
    scan = Scan(slices=4, rows=16, columns=60)
    study = read_study(scan.files())
    result = ask(study)
    path = written(result.to_dicom("pm", study), tmp_path)
    assert by_pydicom(path).shape == (4, 16, 60)
    assert not by_pydicom(path).any()
    assert not errors(path)


def several_frames() -> bytes:
    """An enhanced CT of three slices, the middle one first."""
    slice_ = pydicom.dcmread(BytesIO(Scan(rows=20, columns=16).slice_(0)))
    slice_.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    slice_.SOPInstanceUID = "1.2.3.4.77"
    slice_.NumberOfFrames = 3
    slice_.PixelData = slice_.PixelData * 3
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = slice_.PixelSpacing, 4
    orientation.ImageOrientationPatient = slice_.ImageOrientationPatient
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    slice_.SharedFunctionalGroupsSequence = [shared]
    slice_.PerFrameFunctionalGroupsSequence = []
    for number in range(3):
        position, groups = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 4 * number]
        groups.PlanePositionSequence = [position]
        slice_.PerFrameFunctionalGroupsSequence.append(groups)
    for keyword in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"):
        del slice_[keyword]
    return as_file(slice_)
