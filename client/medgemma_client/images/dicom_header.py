"""The few attributes of a DICOM file that this project ever looks at.

An allow-list: everything else, and so whatever identifies a patient, is skipped unparsed. What is
read becomes plain numbers and terms of the standard, never free text of the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medgemma_client.images.dicom_stream import Body, plain_uid
from medgemma_client.images.dicom_values import (
    count_of,
    holder,
    numbers_of,
    optional_numbers,
    values_of,
)
from medgemma_client.images.grey import Function, Lookup, Window
from medgemma_tasks.limits import check_frame

_KEYWORDS = (
    "SOPClassUID",
    "Modality",
    "PatientOrientation",
    "ImageOrientationPatient",
    "EncryptedAttributesSequence",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
"""Segmented palettes are left out: a few bytes of them can expand to gigabytes."""

_PIXEL_DATA = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}

# fmt: off
_MODALITIES = frozenset((
    "BI", "CR", "CT", "DG", "DX", "ES", "GM", "IO", "IVOCT", "IVUS", "LS", "MG", "MR", "NM",
    "OCT", "OP", "OPT", "OT", "PT", "PX", "RF", "RG", "RTIMAGE", "SC", "SM", "TG", "US", "XA",
    "XC",
))
# fmt: on
"""The standard's terms for images. Any other value could be anything, a name included."""


@dataclass(frozen=True)
class Header:
    """What was found, unchecked against one another. Counts are 0 where absent."""

    sop_class: str
    encrypted: bool
    pixel_keyword: str
    """PixelData or one of its float kin; empty where the data set ends without them."""
    pixel_vr: str
    pixel_start: int
    """Offset in the body's stream of the first byte of the pixel data's value."""
    pixel_length: int | None
    """Declared length in bytes; None means undefined, that is encapsulated."""
    modality: str | None
    rows: int
    columns: int
    samples: int
    frames: int
    frame: int
    """The frame that was asked for, from 0."""
    photometric: str
    planar: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    padding: tuple[float, float] | None
    """Smallest and largest stored value that mean "no pixel here"."""
    slope: float
    intercept: float
    modality_lut: Lookup | None
    voi_lut: Lookup | None
    window: Window | None
    spacing_mm: tuple[float, float] | None
    patient_orientation: tuple[str, ...]
    row_and_column: tuple[float, ...]
    """ImageOrientationPatient: six cosines, or empty."""
    offsets: tuple[bytes, bytes] | None
    palette: tuple[Lookup, ...]
    """Red, green and blue table of PALETTE COLOR; empty where absent."""


@dataclass(frozen=True, repr=False)
class Parsed:
    """A data set up to its pixel data, of which each frame has a header."""

    ds: Any
    """The attributes of the allow-list alone."""
    frames: int
    sop_class: str
    little_endian: bool
    keyword: str
    vr: str
    start: int
    length: int | None
    """Of the pixel data, as in Header."""


def parse(body: Body, more: Iterable[str] = ()) -> Parsed:
    """Parse the data set up to its pixel data. ``more``: keywords beyond those of the allow-list.

    Raises:
        Exception: Whatever pydicom raises on a damaged header; its text may quote values.
    """
    from pydicom.datadict import tag_for_keyword
    from pydicom.filereader import read_dataset

    stream = body.stream
    ds = read_dataset(
        stream,
        body.implicit,
        body.little_endian,
        stop_when=lambda tag, vr, length: tag in _PIXEL_DATA,
        specific_tags=[tag_for_keyword(keyword) for keyword in (*_KEYWORDS, *more)],
    )
    # As found, which in some files is not what their transfer syntax says.
    implicit, little_endian = ds.original_encoding
    keyword, vr, length = _pixel_element(stream, implicit, little_endian)
    return Parsed(
        ds=ds,
        frames=int(numbers_of(ds, "NumberOfFrames", 1)[0]) or 1,
        sop_class=plain_uid(ds.get("SOPClassUID")) or body.sop_class,
        little_endian=little_endian,
        keyword=keyword,
        vr=vr,
        start=stream.tell(),
        length=length,
    )


def header_of(parsed: Parsed, frame: int) -> Header:
    """The header of one frame, from 0.

    Raises:
        InputError: ``frame`` is not among the frames.
        Exception: Whatever pydicom raises where it comes to read a damaged value.
    """
    ds, frames = parsed.ds, parsed.frames
    check_frame(frame, frames)
    pixel_values = holder(ds, frame, "PixelValueTransformationSequence", "RescaleSlope")
    voi = holder(ds, frame, "FrameVOILUTSequence", "WindowCenter")
    measures = holder(ds, frame, "PixelMeasuresSequence", "PixelSpacing")
    plane = holder(ds, frame, "PlaneOrientationSequence", "ImageOrientationPatient")
    offsets = (ds.get("ExtendedOffsetTable"), ds.get("ExtendedOffsetTableLengths"))
    modality = str(ds.get("Modality") or "")
    return Header(
        sop_class=parsed.sop_class,
        encrypted="EncryptedAttributesSequence" in ds,
        pixel_keyword=parsed.keyword,
        pixel_vr=parsed.vr,
        pixel_start=parsed.start,
        pixel_length=parsed.length,
        modality=modality if modality in _MODALITIES else None,
        rows=count_of(ds, "Rows"),
        columns=count_of(ds, "Columns"),
        samples=count_of(ds, "SamplesPerPixel", 1),
        frames=frames,
        frame=frame,
        photometric=str(ds.get("PhotometricInterpretation") or ""),
        planar=count_of(ds, "PlanarConfiguration"),
        bits_allocated=count_of(ds, "BitsAllocated"),
        bits_stored=count_of(ds, "BitsStored") or count_of(ds, "BitsAllocated"),
        signed=count_of(ds, "PixelRepresentation") == 1,
        padding=_padding(ds),
        slope=numbers_of(pixel_values, "RescaleSlope", 1.0)[0],
        intercept=numbers_of(pixel_values, "RescaleIntercept", 0.0)[0],
        modality_lut=_lookup(ds, "ModalityLUTSequence", parsed.little_endian),
        voi_lut=_lookup(voi, "VOILUTSequence", parsed.little_endian),
        window=_window(voi),
        spacing_mm=_spacing(measures, "PixelSpacing") or _spacing(ds, "ImagerPixelSpacing"),
        patient_orientation=tuple(str(v) for v in values_of(ds, "PatientOrientation")),
        row_and_column=optional_numbers(plane, "ImageOrientationPatient"),
        offsets=offsets if all(isinstance(table, bytes) for table in offsets) else None,
        palette=_palette(ds, parsed.little_endian),
    )


def _pixel_element(
    stream: BytesIO, implicit: bool, little_endian: bool
) -> tuple[str, str, int | None]:
    """Keyword, VR and length of the element the stream stands at; leaves it at the value."""
    order: Literal["little", "big"] = "little" if little_endian else "big"
    head = stream.read(8)
    if len(head) < 8:
        return "", "", None
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
    vr = "OW"
    if implicit:
        length = int.from_bytes(head[4:8], order)
    else:
        vr = head[4:6].decode("ascii")
        length = int.from_bytes(stream.read(4), order)
    return _PIXEL_DATA.get(tag, ""), vr, None if length == 0xFFFFFFFF else length


def _padding(ds: Any) -> tuple[float, float] | None:
    value = optional_numbers(ds, "PixelPaddingValue")
    if not value:
        return None
    limit = optional_numbers(ds, "PixelPaddingRangeLimit") or value
    return min(value[0], limit[0]), max(value[0], limit[0])


def _spacing(ds: Any, keyword: str) -> tuple[float, float] | None:
    numbers = optional_numbers(ds, keyword)
    if len(numbers) != 2 or min(numbers) <= 0:
        return None
    return numbers[0], numbers[1]


def _window(ds: Any) -> Window | None:
    """The first of the windows; None where there is none, or one that the standard forbids."""
    centre = optional_numbers(ds, "WindowCenter")
    width = optional_numbers(ds, "WindowWidth")
    names: dict[str, Function] = {"LINEAR_EXACT": "LINEAR_EXACT", "SIGMOID": "SIGMOID"}
    if not (centre and width):
        return None
    name = str(ds.get("VOILUTFunction") or "").upper()
    window = Window(centre[0], width[0], names.get(name, "LINEAR"))
    return window if window.valid else None


def _lookup(ds: Any, keyword: str, little_endian: bool) -> Lookup | None:
    items = values_of(ds, keyword)
    return _table(items[0].LUTDescriptor, items[0].LUTData, little_endian) if items else None


def _palette(ds: Any, little_endian: bool) -> tuple[Lookup, ...]:
    names = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
    if not all(f"{name}Data" in ds for name in names):
        return ()
    return tuple(
        _table(ds[f"{name}Descriptor"].value, ds[f"{name}Data"].value, little_endian)
        for name in names
    )


def _table(descriptor: Any, data: Any, little_endian: bool) -> Lookup:
    count, first, bits = (int(number) for number in descriptor)
    count = count or 2**16
    entries: NDArray[Any]
    if isinstance(data, bytes):
        # Entries of 8 bits may be packed two to a word.
        word = "u1" if len(data) < 2 * count else ("<u2" if little_endian else ">u2")
        entries = np.frombuffer(data, word)[:count]
        bits = 8 if word == "u1" else bits
    else:
        entries = np.array(data, np.uint16).reshape(-1)[:count]
    if not 1 <= bits <= 16 or entries.size != count:
        raise ValueError("a lookup table and its descriptor do not agree")
    # Some descriptors promise fewer bits than the entries have.
    return Lookup(first, entries.astype(np.uint16), max(bits, int(entries.max()).bit_length()))
