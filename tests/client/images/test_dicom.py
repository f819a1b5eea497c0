"""DICOM files to pixels: what is shown, and what is refused by which name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_windowing, pixel_array
from pydicom.sequence import Sequence

from medgemma_client.images import SourceImage, read_image
from medgemma_tasks.errors import (
    DicomError,
    DicomNotAnImage,
    DicomUndecodable,
    DicomWithoutPixels,
    InputError,
    TruncatedImage,
)

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


def test_a_ct_without_window_is_scaled_from_its_range_in_which_padding_does_not_count(
    wheel_file: Find,
) -> None:
    source = read_image(wheel_file("CT_small.dcm"))
    ds = pydicom.dcmread(wheel_file("CT_small.dcm"))
    values = ds.pixel_array.astype(float)
    assert ds.PixelPaddingValue not in values
    expected = np.rint((values - values.min()) / np.ptp(values) * 255)
    assert np.array_equal(np.asarray(source.pixels), expected)
    assert source.attributes.model_dump() == {
        "source": "dicom",
        "modality": "CT",
        "photometric": "MONOCHROME2",
        "bits_stored": 16,
        "window": None,
        "spacing_mm": (0.661468, 0.661468),
        "left_of_image": "patient-right",
        "top_of_image": "patient-front",
        "frame": None,
        "frames": None,
        "plane": None,
    }


@pytest.mark.parametrize(
    "name", ["MR_small.dcm", "J2K_pixelrep_mismatch.dcm", "examples_overlay.dcm"]
)
def test_the_first_window_of_a_real_file_is_applied_as_pydicom_applies_it(
    name: str, wheel_file: Find
) -> None:
    source = read_image(wheel_file(name))
    ds = pydicom.dcmread(wheel_file(name))
    values = apply_modality_lut(ds.pixel_array, ds)
    windowed = apply_windowing(values, ds, index=0)
    black, white = apply_windowing(np.array([-1e9, 1e9]), ds, index=0)
    expected = (windowed - black) / (white - black) * 255
    assert np.abs(np.asarray(source.pixels) - expected).max() <= 0.5001
    centre = ds["WindowCenter"].value
    first = centre if ds["WindowCenter"].VM == 1 else centre[0]
    assert source.attributes.window is not None
    assert source.attributes.window[0] == first


@pytest.mark.parametrize(
    "syntax",
    ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"],
)
def test_the_transfer_syntax_does_not_change_the_pixels(syntax: str, wheel_file: Find) -> None:
    plain = read_image(wheel_file("MR_small.dcm"))
    assert read_image(wheel_file(f"MR_small_{syntax}.dcm")).name == plain.name


def test_a_file_that_is_not_in_the_syntax_it_names_is_read_as_it_is(wheel_file: Find) -> None:
    assert read_image(wheel_file("SC_rgb_jpeg.dcm")).pixels.mode == "RGB"  # implicit VR inside


def test_a_deflated_file_is_read(wheel_file: Find) -> None:
    assert read_image(wheel_file("image_dfl.dcm")).pixels.size == (512, 512)


def test_a_computed_radiograph_in_monochrome1_is_inverted(wheel_file: Find) -> None:
    path = wheel_file("dicomdirtests/77654033/CR1/6154")
    source = read_image(path)
    ds = pydicom.dcmread(path)
    assert ds.PhotometricInterpretation == "MONOCHROME1"
    order = np.argsort(ds.pixel_array, axis=None)
    assert (np.diff(np.asarray(source.pixels).ravel()[order].astype(int)) <= 0).all()
    assert source.attributes.left_of_image == "patient-right"  # PatientOrientation L\F
    assert source.attributes.top_of_image == "patient-head"
    assert source.attributes.photometric == "MONOCHROME1"


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_rle.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_rle_32bit.dcm",
        "SC_rgb_dcmtk_+eb+cy+np.dcm",
        "SC_rgb_dcmtk_+eb+cy+s4.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_rgb_jls_lossy_line.dcm",
    ],
)
def test_colour_of_any_kind_and_depth_becomes_the_same_rgb(name: str, wheel_file: Find) -> None:
    pixels = np.asarray(read_image(wheel_file(name)).pixels).astype(int)
    assert pixels.shape == (100, 100, 3)
    stripes = {5: (255, 0, 0), 25: (0, 255, 0), 45: (0, 0, 255), 65: (0, 0, 0), 95: (255, 255, 255)}
    for row, colour in stripes.items():
        assert np.abs(pixels[row, 50] - colour).max() <= 5, row


@pytest.mark.parametrize("name", ["examples_rgb_color.dcm", "examples_jpeg2k.dcm"])
def test_colour_pixels_are_those_that_pydicom_decodes(name: str, wheel_file: Find) -> None:
    source = read_image(wheel_file(name))
    assert np.array_equal(np.asarray(source.pixels), pixel_array(wheel_file(name)))


def test_a_palette_becomes_rgb(wheel_file: Find) -> None:
    ds = pydicom.dcmread(wheel_file("examples_palette.dcm"))
    table = apply_color_lut(ds.pixel_array, ds)
    expected = np.rint(table / np.iinfo(table.dtype).max * 255)
    source = read_image(wheel_file("examples_palette.dcm"))
    assert np.array_equal(np.asarray(source.pixels), expected)


def test_of_many_frames_the_first_is_read_or_the_one_asked_for(wheel_file: Find) -> None:
    path = wheel_file("examples_ybr_color.dcm")
    first, last = read_image(path), read_image(path, frame=29)
    assert (first.attributes.frame, first.attributes.frames) == (0, 30)
    assert (last.attributes.frame, last.attributes.frames) == (29, 30)
    assert np.array_equal(np.asarray(last.pixels), pixel_array(path, index=29))
    assert first.name != last.name
    with pytest.raises(InputError, match="no frame 30"):
        read_image(path, frame=30)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("liver_1frame.dcm", DicomNotAnImage),
        ("rtdose.dcm", DicomNotAnImage),
        ("rtdose_rle_1frame.dcm", DicomNotAnImage),
        ("rtplan.dcm", DicomNotAnImage),
        ("rtstruct.dcm", DicomNotAnImage),
        ("test-SR.dcm", DicomNotAnImage),
        ("waveform_ecg.dcm", DicomNotAnImage),
        ("dicomdirtests/DICOMDIR", DicomNotAnImage),
        ("ExplVR_BigEndNoMeta.dcm", DicomNotAnImage),
        ("MR_truncated.dcm", TruncatedImage),
        ("JPEG-lossy.dcm", DicomUndecodable),  # 12-bit JPEG needs a GPL decoder
        ("priv_SQ.dcm", DicomWithoutPixels),
        ("badVR.dcm", DicomError),
    ],
)
def test_what_cannot_be_shown_is_refused_by_its_name(
    name: str, error: type[DicomError], wheel_file: Find
) -> None:
    with pytest.raises(error) as caught:
        read_image(wheel_file(name))
    assert type(caught.value) is error
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_rescale_comes_before_the_window(make_dicom: Make) -> None:
    data = make_dicom(
        RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=1000, WindowWidth=4001
    )
    assert shown(read_image(data)) == [[0, 128], [255, 255]]


def test_only_the_first_of_several_windows_counts(make_dicom: Make) -> None:
    one = make_dicom(RAMP, WindowCenter=1000, WindowWidth=2000)
    many = make_dicom(RAMP, WindowCenter=[1000, 9], WindowWidth=[2000, 1])
    assert read_image(one).name == read_image(many).name
    assert read_image(many).attributes.window == (1000.0, 2000.0)


def test_a_forbidden_or_half_window_is_as_good_as_none(make_dicom: Make) -> None:
    plain = read_image(make_dicom(RAMP))
    for window in (
        {"WindowCenter": 5, "WindowWidth": 0},
        {"WindowCenter": 5},
        {"WindowCenter": "", "WindowWidth": ""},
    ):
        source = read_image(make_dicom(RAMP, **window))
        assert source.name == plain.name
        assert source.attributes.window is None


def test_a_voi_lookup_table_is_preferred_to_a_window(make_dicom: Make) -> None:
    table = item(LUTDescriptor=[3, 1000, 8], LUTData=[10, 20, 255])
    table[0]["LUTData"].VR = "US"
    source = read_image(make_dicom(RAMP, VOILUTSequence=table, WindowCenter=1, WindowWidth=2))
    assert shown(source) == [[10, 10], [255, 255]]
    assert source.attributes.window is None


def test_an_8_bit_lookup_table_of_many_entries_does_not_wrap(make_dicom: Make) -> None:
    table = item(LUTDescriptor=[4096, 0, 8], LUTData=[value // 16 for value in range(4096)])
    table[0]["LUTData"].VR = "US"
    assert shown(read_image(make_dicom(RAMP, VOILUTSequence=table))) == [[0, 62], [125, 250]]


def test_a_modality_lookup_table_replaces_rescale(make_dicom: Make) -> None:
    table = item(LUTDescriptor=[2, 0, 16], LUTData=[0, 500], ModalityLUTType="US")
    table[0]["LUTData"].VR = "US"
    source = read_image(make_dicom(RAMP, ModalityLUTSequence=table, RescaleSlope=9))
    assert shown(source) == [[0, 255], [255, 255]]


def test_monochrome1_is_inverted_last(make_dicom: Make) -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 4001}
    upright = np.asarray(read_image(make_dicom(RAMP, **window)).pixels)
    film = read_image(make_dicom(RAMP, PhotometricInterpretation="MONOCHROME1", **window))
    assert np.abs(upright.astype(int) + np.asarray(film.pixels) - 255).max() <= 1


def test_padding_does_not_count_for_the_range(make_dicom: Make) -> None:
    stored = np.array([[-2000, -1990], [100, 300]], np.int16)
    assert shown(read_image(make_dicom(stored)))[1] == [233, 255]
    padded = make_dicom(stored, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990)
    assert shown(read_image(padded)) == [[0, 0], [0, 255]]
