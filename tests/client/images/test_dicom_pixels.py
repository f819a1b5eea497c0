"""What is refused of a DICOM file before or instead of decoding it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medgemma_client.images import SourceImage, read_image
from medgemma_tasks.errors import (
    DicomEncrypted,
    DicomUndecodable,
    DicomWithoutPixels,
    EmptyImage,
    ImageTooLarge,
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


def test_pixels_are_limited_by_the_header(make_dicom: Make) -> None:
    with pytest.raises(ImageTooLarge):
        read_image(make_dicom(RAMP, Rows=60_000, Columns=60_000))
    with pytest.raises(ImageTooLarge, match="frames"):
        read_image(make_dicom(RAMP, NumberOfFrames=2_000_000_000))


@pytest.mark.parametrize("missing", [{"Rows": 0}, {"Columns": 0}, {"Rows": None}])
def test_no_rows_or_columns_means_an_empty_image(missing: Any, make_dicom: Make) -> None:
    with pytest.raises(EmptyImage):
        read_image(make_dicom(RAMP, **missing))


def test_too_few_bytes_for_all_frames_is_truncated(make_dicom: Make) -> None:
    with pytest.raises(TruncatedImage):
        read_image(make_dicom(RAMP, NumberOfFrames=2))


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_RLE.dcm", "MR_small.dcm"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_cut_frame_is_never_shown_in_part(name: str, part: float, wheel_file: Find) -> None:
    data = wheel_file(name).read_bytes()
    start = data.index(b"\xe0\x7f\x10\0O")
    end = data.find(b"\xfe\xff\xdd\xe0", start)
    end = start + 12 + 64 * 64 * 2 if end < 0 else end
    with pytest.raises(TruncatedImage):
        read_image(data[: start + int((end - start) * part)])


def test_no_pixel_data_is_told_from_encrypted_attributes(make_dicom: Make) -> None:
    with pytest.raises(DicomWithoutPixels):
        read_image(make_dicom(RAMP, PixelData=None))
    secret = item(EncryptedContent=b"1234", EncryptedContentTransferSyntaxUID="1.2.840.10008.1.2")
    with pytest.raises(DicomEncrypted):
        read_image(make_dicom(RAMP, PixelData=None, EncryptedAttributesSequence=secret))
    # A file that carries its identifiers encrypted beside clear pixels is an ordinary image.
    read_image(make_dicom(RAMP, EncryptedAttributesSequence=secret))


@pytest.mark.parametrize(
    "wrong",
    [
        {"PhotometricInterpretation": "CMYK"},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"PhotometricInterpretation": "RGB"},
        {"PhotometricInterpretation": None},
        {"SamplesPerPixel": 3},
        {"BitsAllocated": 0},
        {"BitsStored": 17},
    ],
)
def test_a_header_that_makes_no_picture_is_undecodable(wrong: Any, make_dicom: Make) -> None:
    with pytest.raises(DicomUndecodable):
        read_image(make_dicom(RAMP, **wrong))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.3.4"])
def test_a_syntax_without_decoder_is_undecodable(syntax: str, make_dicom: Make) -> None:
    data = make_dicom(RAMP).replace(b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI" + _uid(syntax), 1)
    with pytest.raises(DicomUndecodable, match="transfer syntax"):
        read_image(data)


def _uid(uid: str) -> bytes:
    padded = uid.encode() + b"\0" * (len(uid) % 2)
    return len(padded).to_bytes(2, "little") + padded


def test_a_codestream_larger_than_its_header_is_refused_unread(wheel_file: Find) -> None:
    data = wheel_file("MR_small_jp2klossless.dcm").read_bytes()
    at = data.index(b"\xff\x4f\xff\x51")
    size = (60_000).to_bytes(4, "big")
    with pytest.raises(DicomUndecodable):
        read_image(data[: at + 8] + size + size + data[at + 16 :])
