"""One frame of a DICOM file: checked, decoded, and shown as its own header says.

Grey goes, in floating point, through the modality lookup table or rescale, then the VOI lookup
table or else the first window, then the inversion of MONOCHROME1. A file with neither table nor
window is scaled from its smallest to its largest value, padding left out. Colour becomes RGB.
Overlays, presentation states and colour profiles are not applied, and pixels never flipped.

Names burnt into the pixels stay in them: nothing here can see those.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medgemma_client.images.dicom_header import Header, header_of, parse
from medgemma_client.images.dicom_pixels import decode_frame, truncated
from medgemma_client.images.dicom_stream import Body, has_magic, open_body
from medgemma_client.images.laterality import left_of_image, top_of_image
from medgemma_tasks.eight_bits import min_max_to_uint8, unit_to_uint8
from medgemma_tasks.errors import (
    DicomEncrypted,
    DicomError,
    DicomNotAnImage,
    DicomSupportMissing,
    DicomUndecodable,
    DicomWithoutPixels,
    MedGemmaError,
    NotAnImage,
)
from medgemma_tasks.limits import check_pixels
from medgemma_tasks.models import ImageAttributes
from medgemma_tasks.quiet import without_logs, without_warnings

_GREY = frozenset(("MONOCHROME1", "MONOCHROME2"))
_COLOUR = frozenset(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"))
_PALETTE = "PALETTE COLOR"
_LOGGERS = ("pydicom", "pydicom.pixels.decoders.base", "pydicom.pixels.utils")


def read(
    data: bytes, *, max_pixels: int, max_bytes: int, frame: int | None
) -> tuple[Image.Image, ImageAttributes]:
    """Decode one frame (None takes the first) of the bytes of a DICOM file.

    Raises:
        DicomError: As one of its classes; DicomError itself for a damaged header.
        TruncatedImage, ImageTooLarge, EmptyImage: Found before anything was decoded.
        NotAnImage: Bytes that looked like a DICOM file without its prefix, and are none.
        InputError: There is no such frame.
    """
    body, header = _checked(data, max_pixels, max_bytes, frame or 0)
    values = decode(body, header)
    return Image.fromarray(render(values, header)).copy(), attributes_of(header)


def look(data: bytes, *, max_pixels: int, max_bytes: int) -> None:
    """Raise what ``read`` would for what the header says. ``data`` need not reach farther than
    the first byte of the pixel data."""
    _checked(data, max_pixels, max_bytes, 0)


def _checked(data: bytes, max_pixels: int, max_bytes: int, frame: int) -> tuple[Body, Header]:
    check_supported()
    with quietly(data):
        body = open_body(data, max_bytes)
        header = header_of(parse(body), frame)
    check_header(data, header, body.stream.getbuffer().nbytes, max_pixels)
    return body, header


def decode(body: Body, header: Header) -> NDArray[Any]:
    """As ``dicom_pixels.decode_frame``, without a word of it in any log."""
    with without_logs(*_LOGGERS):
        return decode_frame(body, header)


def check_supported() -> None:
    """Raise DicomSupportMissing where pydicom is not installed."""
    if importlib.util.find_spec("pydicom") is None:
        raise DicomSupportMissing(
            "The file is DICOM, and the package that reads it is not installed. "
            'Run: pip install "medgemma-explainer[dicom]"'
        )


@contextmanager
def quietly(data: bytes) -> Iterator[None]:
    """For work on a header: nothing that pydicom warns of, logs or raises quotes it. Whatever it
    raises becomes an error of ours. Not to be nested."""
    with without_logs(*_LOGGERS), without_warnings():
        try:
            yield
        except MedGemmaError:
            raise
        except Exception:  # noqa: BLE001 - a damaged header raises almost anything
            if not has_magic(data):
                raise _not_an_image() from None
            raise DicomError(
                "The header of the DICOM file is damaged and cannot be parsed. "
                "Fetch or export it again."
            ) from None


def check_header(data: bytes, header: Header, size: int, max_pixels: int) -> None:
    """Raise what ``read`` would for what a header says.

    ``data``: where it was found; ``size``: bytes of the whole data set.
    """
    if not (has_magic(data) or header.sop_class or header.rows):
        raise _not_an_image()
    _check_kind(header, size)
    check_pixels(header.rows, header.columns, max_pixels)


def _check_kind(header: Header, size: int) -> None:
    """Refuse what is no picture: by its SOP class first, so that an SR is called an SR.

    ``size`` is that of the whole data set in bytes.
    """
    from pydicom.uid import UID

    sop_class = UID(header.sop_class)
    # By the standard's own names: those of pictures all say so, but for one. Private ones pass.
    if sop_class.type == "SOP Class" and not (
        "Image Storage" in sop_class.name or sop_class.keyword == "EnhancedUSVolumeStorage"
    ):
        raise DicomNotAnImage(
            f"The DICOM file is no image but of the class {sop_class.name}. "
            "Pass the image that it belongs to.",
            sop_class=sop_class.name,
        )
    if header.pixel_start > size:  # an element was skipped that reaches beyond the end
        raise truncated()
    if not header.pixel_keyword:
        if header.encrypted:
            raise DicomEncrypted(
                "The DICOM file has encrypted attributes and no readable pixel data. "
                "Decrypt it first, with the key of its sender."
            )
        raise DicomWithoutPixels(
            "The DICOM file has no pixel data: it is a header alone, or was cut short. "
            "Fetch or export it again, pixels included."
        )
    samples = 3 if header.photometric in _COLOUR else 1
    if header.photometric not in _GREY | _COLOUR | {_PALETTE} or header.samples != samples:
        raise DicomUndecodable(
            "The DICOM file's photometric interpretation is missing, retired, or does not fit its "
            "samples per pixel. Have the file exported again as MONOCHROME2 or RGB."
        )
    if header.photometric == _PALETTE and not header.palette:
        raise DicomUndecodable(
            "The DICOM file's palette is missing or segmented, which is not supported. "
            "Have the file exported again as RGB."
        )


def render(stored: NDArray[np.generic], header: Header) -> NDArray[np.uint8]:
    """Stored values, (rows, columns) or (rows, columns, 3), as their own header has them shown."""
    return _render_colour(stored, header) if stored.ndim == 3 else _render(stored, header)


def _render(stored: NDArray[np.generic], header: Header) -> NDArray[np.uint8]:
    """(rows, columns) stored values to 8 bits: grey, or (rows, columns, 3) through a palette."""
    values = stored.astype(np.float64)
    if header.palette:
        layers = [table(values) / (2**table.bits - 1) for table in header.palette]
        return unit_to_uint8(np.stack(layers, axis=-1))
    keep = None
    if header.padding is not None:
        keep = (values < header.padding[0]) | (values > header.padding[1])
    if header.modality_lut:
        values = header.modality_lut(values)
    else:
        values = values * header.slope + header.intercept
    invert = header.photometric == "MONOCHROME1"
    if header.voi_lut:
        table = header.voi_lut
        return unit_to_uint8(table(values) / (2**table.bits - 1), invert=invert)
    if header.window:
        return unit_to_uint8(np.nan_to_num(header.window(values)), invert=invert)
    return min_max_to_uint8(values, keep=keep, invert=invert)


def _render_colour(stored: NDArray[np.generic], header: Header) -> NDArray[np.uint8]:
    """(rows, columns, 3) of any depth to 8 bits, by the range of the stored bits."""
    if header.bits_stored == 8:
        return stored.astype(np.uint8)
    return unit_to_uint8(np.clip(stored.astype(np.float64) / (2.0**header.bits_stored - 1), 0, 1))


def attributes_of(header: Header) -> ImageAttributes:
    """What travels with an image that was shown as its header says."""
    window = header.window if header.photometric in _GREY and not header.voi_lut else None
    several = header.frames > 1
    return ImageAttributes(
        source="dicom",
        modality=header.modality,
        photometric=header.photometric,
        bits_stored=header.bits_stored if 1 <= header.bits_stored <= 64 else None,
        window=(window.centre, window.width) if window else None,
        spacing_mm=header.spacing_mm,
        left_of_image=left_of_image(header.patient_orientation, header.row_and_column),
        top_of_image=top_of_image(header.patient_orientation, header.row_and_column),
        frame=header.frame if several else None,
        frames=header.frames if several else None,
    )


def _not_an_image() -> NotAnImage:
    return NotAnImage("The file is no image that can be read. Pass PNG, JPEG, TIFF, BMP or DICOM.")
