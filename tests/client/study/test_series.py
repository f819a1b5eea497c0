"""Which series of a study is shown, and what is said of those that are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    EncapsulatedPDFStorage,
    EnhancedMRImageStorage,
    SecondaryCaptureImageStorage,
)

from medgemma_client.study import read_study
from medgemma_tasks.errors import (
    BurnedIn,
    DicomNotAnImage,
    DicomUndecodable,
    InvalidRequest,
    NotAnImage,
    SeriesNotFound,
    SlicesUneven,
    StudyEmpty,
    TruncatedImage,
)
from tests.client.study.phantom import ct_slice, written

Find = Callable[[str], Path]

FLAT = np.zeros((4, 6), np.int16)


def series(count: int, number: int = 1, **tags: Any) -> list[bytes]:
    """Slices 2 mm apart, of one series of the study 1.2.3."""
    return [
        ct_slice(
            FLAT + 10 * k,
            position=(0, 0, 2 * k),
            number=k + 1,
            **{
                "SeriesInstanceUID": f"1.2.3.{number}",
                "SOPInstanceUID": f"1.2.3.{number}.{k + 1}",
                "SeriesNumber": number,
                **tags,
            },
        )
        for k in range(count)
    ]


def radiograph(number: int, **tags: Any) -> bytes:
    said: dict[str, Any] = {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "Modality": "CR",
        "ImageType": ["DERIVED", "PRIMARY"],
        "SeriesInstanceUID": f"1.2.3.{number}",
        "SOPInstanceUID": f"1.2.3.{number}.1",
        "SeriesNumber": number,
        "PatientOrientation": ["L", "F"],
        **tags,
    }
    return ct_slice(FLAT + 100 * number, position=None, orientation=None, **said)


def pdf() -> bytes:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = EncapsulatedPDFStorage, "1.2.9", "DOC"
    ds.EncapsulatedDocument = b"%PDF-1.4"
    return written(ds)


def groups(**sequences: dict[str, Any]) -> Dataset:
    """Functional groups of a multi-frame file."""
    ds = Dataset()
    for keyword, said in sequences.items():
        item = Dataset()
        for name, value in said.items():
            setattr(item, name, value)
        setattr(ds, keyword, Sequence([item]))
    return ds


def test_the_series_of_most_slices_is_shown_and_the_others_are_named() -> None:
    study = read_study(series(2, 1) + series(4, 2) + series(3, 3, Modality="MR"))
    assert len(study.images) == 4
    assert study.notes[:3] == (
        "Shown: series 1 of 3 (CT, 4 slices, axial), chosen by itself; another can be asked for by "
        "its number.",
        "Left out: series 2: MR, 3 slices, axial.",
        "Left out: series 3: CT, 2 slices, axial.",
    )


@pytest.mark.parametrize(("wanted", "count"), [(1, 4), (2, 3), (3, 2), ("MR", 3), ("ct", 4)])
def test_another_series_can_be_asked_for(wanted: int | str, count: int) -> None:
    files = series(2, 1) + series(4, 2) + series(3, 3, Modality="MR")
    study = read_study(files, series=wanted)
    assert len(study.images) == count
    assert "as asked" in study.notes[0]


@pytest.mark.parametrize("wanted", [0, 4, -1, "US"])
def test_a_series_that_there_is_not_is_refused_with_those_that_there_are(
    wanted: int | str,
) -> None:
    with pytest.raises(SeriesNotFound, match="1: CT, 3 slices, axial; 2: MR, 2 slices, axial"):
        read_study(series(3, 1) + series(2, 2, Modality="MR"), series=wanted)


def test_an_original_series_goes_before_a_longer_one_that_was_made_from_it() -> None:
    derived = series(5, 2, ImageType=["DERIVED", "SECONDARY", "MPR"])
    study = read_study(derived + series(2, 1))
    assert len(study.images) == 2
    assert "Left out: series 2: CT, 5 slices, axial, derived (made from other images)." in (
        study.notes
    )
    assert len(read_study(derived).images) == 5  # on its own there is nothing better


def test_a_captured_screen_is_no_slice() -> None:
    screen = ct_slice(
        np.zeros((8, 8)), SOPClassUID=SecondaryCaptureImageStorage, SOPInstanceUID="1.2.9"
    )
    study = read_study([screen, *series(3)])
    assert len(study.images) == 3
    assert any("CT, 1 image, secondary (a captured screen" in note for note in study.notes)


def test_slices_of_two_directions_in_one_series_are_taken_apart() -> None:
    coronal = [
        ct_slice(
            FLAT,
            position=(0, 3 * k, 0),
            orientation=(1, 0, 0, 0, 0, -1),
            number=50 + k,
            SeriesInstanceUID="1.2.3.1",
        )
        for k in range(3)
    ]
    study = read_study(coronal + series(5))
    assert len(study.images) == 5
    assert "Left out: series 2: CT, 3 slices, coronal." in study.notes
    assert any("mixed: its images are of 2 sizes" in note for note in study.notes)


def test_slices_of_two_sizes_in_one_series_are_taken_apart() -> None:
    large = ct_slice(np.zeros((8, 8)), number=9, SeriesInstanceUID="1.2.3.1")
    study = read_study([large, *series(3)])
    assert {image.pixels.size for image in study.images} == {(6, 4)}
    assert any("mixed" in note for note in study.notes)


def test_files_of_several_studies_are_told_of() -> None:
    study = read_study(series(3, 1) + series(2, 2, StudyInstanceUID="1.2.77"))
    assert any("several studies" in note for note in study.notes)
    assert not any("1.2.77" in note for note in study.notes)


def test_what_is_no_image_is_left_out_and_named(wheel_file: Find) -> None:
    names = ["liver_1frame.dcm", "rtdose_1frame.dcm", "test-SR.dcm", "rtstruct.dcm"]
    others = [wheel_file(name).read_bytes() for name in names]
    study = read_study([*others, pdf(), pdf(), *series(3)])
    assert len(study.images) == 3
    assert [note for note in study.notes if "no image" in note] == [
        "Left out: 1 file: Segmentation Storage, no image.",
        "Left out: 1 file: RT Dose Storage, no image.",
        "Left out: 1 file: Comprehensive SR Storage, no image.",
        "Left out: 1 file: RT Structure Set Storage, no image.",
        "Left out: 2 files: Encapsulated PDF Storage, no image.",
    ]


def test_a_study_without_any_image_is_refused_and_says_what_there_is(wheel_file: Find) -> None:
    with pytest.raises(StudyEmpty, match="Encapsulated PDF Storage") as error:
        read_study([pdf(), wheel_file("rtdose.dcm"), b"nothing"])
    assert error.value.details == {
        "left_out": {
            "Encapsulated PDF Storage, no image": 1,
            "RT Dose Storage, no image": 1,
            "no DICOM": 1,
        }
    }
    with pytest.raises(DicomNotAnImage, match="Encapsulated PDF Storage"):
        read_study(pdf())
    with pytest.raises(NotAnImage):
        read_study(b"nothing")
    with pytest.raises(StudyEmpty):
        read_study([b"nothing", b"more"])


def test_a_damaged_slice_is_refused_or_its_gap_is_told_of() -> None:
    files = series(5)
    files[2] = files[2][:-8]
    with pytest.raises(TruncatedImage, match=r"File 3 of 5: .* Pass gaps=\"report\" to go on"):
        read_study(files)
    study = read_study(files, gaps="report")
    assert len(study.images) == 4
    assert any("damaged: 1 file; the first: File 3 of 5" in note for note in study.notes)
    assert any("uneven" in note for note in study.notes)


def test_a_slice_that_cannot_be_decoded_is_refused_or_left_out(wheel_file: Find) -> None:
    files = []
    for k in range(3):
        ds = pydicom.dcmread(wheel_file("MR_small_jp2klossless.dcm"))
        ds.SOPInstanceUID, ds.ImagePositionPatient = f"1.2.3.{k}", [0, 0, k]
        if k == 1:
            ds.PixelData = ds.PixelData.replace(b"\xff\x4f\xff\x51", b"\0\0\0\0")
        files.append(written(ds, ds.file_meta.TransferSyntaxUID))
    with pytest.raises(DicomUndecodable, match=r"Image 2 of 3: .* Pass gaps=\"report\" to go on"):
        read_study(files)
    study = read_study(files, gaps="report")
    assert (len(study.images), study.shown) == (2, (0, 2))
    assert any("damaged: 1 image; the first: Image 2 of 3" in note for note in study.notes)
    planes = [image.attributes.plane for image in study.images]
    assert [plane.origin_mm[2] for plane in planes if plane] == [0, 2]


def test_a_truncated_file_alone_is_refused(wheel_file: Find) -> None:
    with pytest.raises(TruncatedImage):
        read_study(wheel_file("MR_truncated.dcm"))


@pytest.mark.parametrize("said", ["warn", "refuse", "allow"])
def test_names_burnt_into_the_pixels_are_warned_of_refused_or_allowed(said: Any) -> None:
    files = series(2, BurnedInAnnotation="YES")
    if said == "refuse":
        with pytest.raises(BurnedIn):
            read_study(files, burned_in=said)
        return
    told = " ".join(read_study(files, burned_in=said).notes)
    assert ("burnt" in told) == (said == "warn")
    clean = series(2, BurnedInAnnotation="NO")
    assert "burnt" not in " ".join(read_study(clean, burned_in=said).notes)


def test_images_of_a_kind_that_often_carries_names_are_warned_of(wheel_file: Find) -> None:
    assert "Nothing says whether names" in read_study(wheel_file("examples_rgb_color.dcm")).notes[1]


def test_a_frontal_radiograph_goes_before_a_lateral_one() -> None:
    lateral, frontal = radiograph(1, ViewPosition="LL"), radiograph(2, ViewPosition="PA")
    study = read_study([lateral, frontal])
    assert (study.kind, study.modality, len(study.images)) == ("images", "CR", 1)
    assert study.images[0].name == read_study(frontal).images[0].name
    assert study.images[0].attributes.left_of_image == "patient-right"
    assert "Left out: series 2: CR, 1 image." in study.notes


def test_a_multi_frame_file_with_places_is_a_volume() -> None:
    values = np.stack([FLAT + 100 * k for k in range(3)])
    per_frame = [
        groups(PlanePositionSequence={"ImagePositionPatient": [0, 0, z]}) for z in (4, 0, 2)
    ]
    shared = groups(
        PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        PixelMeasuresSequence={"PixelSpacing": [0.5, 0.5], "SliceThickness": 2},
    )
    data = ct_slice(
        values,
        position=None,
        orientation=None,
        SOPClassUID=EnhancedMRImageStorage,
        Modality="MR",
        PixelSpacing=None,
        NumberOfFrames=3,
        PerFrameFunctionalGroupsSequence=Sequence(per_frame),
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    study = read_study(data)
    assert (study.kind, len(study.images)) == ("volume", 3)
    assert [int(np.asarray(image.pixels).max()) for image in study.images] == [128, 255, 0]
    assert [image.attributes.frame for image in study.images] == [1, 2, 0]
    planes = [image.attributes.plane for image in study.images]
    assert [plane.origin_mm[2] for plane in planes if plane] == [0, 2, 4]
    assert [plane.thickness_mm for plane in planes if plane] == [2, 2, 2]


def test_a_multi_frame_file_without_places_is_a_loop_in_time(wheel_file: Find) -> None:
    study = read_study(wheel_file("examples_ybr_color.dcm"))
    assert (study.kind, study.modality, len(study.images)) == ("loop", "US", 30)
    assert [image.attributes.frame for image in study.images] == list(range(30))
    assert len(read_study(wheel_file("examples_ybr_color.dcm"), max_slices=5).images) == 5


@pytest.mark.parametrize(
    "said",
    [
        {"gaps": "ignore"},
        {"burned_in": "never"},
        {"kind": "film"},
        {"series": 1.5},
        {"series": True},
        {"max_slices": 0},
        {"max_slices": "many"},
        {"window": "wide"},
        {"window": (40, 0)},
        {"window": (40, float("nan"))},
        {"window": ("a", "b")},
    ],
)
def test_a_choice_that_there_is_not_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        read_study(series(1), **said)


def test_the_choice_does_not_depend_on_the_order_of_the_files() -> None:
    files = series(3, 1) + series(3, 2) + series(2, 3)
    one, other = read_study(files), read_study(files[::-1])
    assert [image.name for image in one.images] == [image.name for image in other.images]
    assert one.notes == other.notes


def test_a_gap_in_a_series_that_is_not_shown_does_not_matter() -> None:
    broken = series(4, 2)
    del broken[1]
    assert len(read_study(series(5) + broken).images) == 5
    with pytest.raises(SlicesUneven):
        read_study(series(5) + broken, series=2)
