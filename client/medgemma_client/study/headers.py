"""The headers of a study's files: what each image is, and which images belong together.

UIDs tell which those are. They stay in memory, compared and never shown, and go nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from medgemma_client.images import dicom, dicom_stream
from medgemma_client.images.dicom_header import Header, Parsed
from medgemma_client.images.dicom_pixels import check_length, decode_frame
from medgemma_client.images.dicom_stream import Body, plain_uid
from medgemma_client.images.dicom_values import holder, optional_numbers, values_of
from medgemma_client.study.files import StudyFile
from medgemma_client.study.limits import Limits
from medgemma_tasks.errors import DicomNotAnImage, InputError, StudyTooLarge

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Its class, and how its multi-frame kin begin."""
_HEAD = 64 * 1024
"""Bytes in which the header of nearly every slice ends."""

_KEYWORDS = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
    "SeriesNumber",
    "InstanceNumber",
    "AcquisitionNumber",
    "ImageType",
    "ImagePositionPatient",
    "SliceThickness",
    "ViewPosition",
    "BurnedInAnnotation",
)
_NATIVE = frozenset(
    (dicom_stream.IMPLICIT_LITTLE, dicom_stream.EXPLICIT_LITTLE, dicom_stream.EXPLICIT_BIG)
)
_TYPES = frozenset(("ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "LOCALIZER"))
"""Those of the values of ImageType that are asked about. Others can be anything."""


@dataclass(frozen=True, repr=False)
class Tags:
    """What a file says beyond the header of its pixels."""

    study: str
    series: str
    instance: str
    space: str
    """Frame of Reference: positions in the same one can be compared."""
    series_number: int
    number: int
    """InstanceNumber. Its order is often not that of the slices."""
    acquisition: int
    types: frozenset[str]
    view: str
    """PA, AP or LL and their kin; empty where not said."""
    burned_in: bool | None
    """None where the file does not say."""
    rescaled: bool
    """Whether it says how stored values become those of the modality."""


@dataclass(frozen=True, repr=False)
class Frame:
    """One image of a study, by its header."""

    file: StudyFile
    tags: Tags
    header: Header
    syntax: str
    position: tuple[float, ...]
    """ImagePositionPatient: x, y, z in mm, or empty."""
    thickness: float | None
    """In mm."""
    at: int
    """Where it stands in the study, from 0."""

    @property
    def orientation(self) -> tuple[float, ...]:
        """Six cosines, or empty."""
        return self.header.row_and_column

    @property
    def captured(self) -> bool:
        """A secondary capture: a picture of a screen, a report, a scan of paper or film."""
        return self.header.sop_class.startswith(_SECONDARY_CAPTURE)

    @property
    def placed(self) -> bool:
        return len(self.position) == 3 and len(self.orientation) == 6


class Opened:
    """The pixels of frames; a file of several is read once, as long as they are asked for in a
    row."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._file: StudyFile | None = None
        self._body: Body | None = None

    def stored(self, frame: Frame) -> NDArray[Any]:
        """Stored values, (rows, columns), or (rows, columns, 3) in RGB. Raises InputError."""
        if self._body is None or self._file is not frame.file:
            data = frame.file.read()
            self._body, _ = dicom.open_data_set(data, max_bytes=self._limits.inflated_bytes)
            self._file = frame.file
        size = self._body.stream.getbuffer().nbytes
        dicom.check_header(frame.header, size, self._limits.pixels)
        return decode_frame(self._body, frame.header)


def read_frames(file: StudyFile, first: int, limits: Limits) -> Iterator[Frame]:
    """The images of a file that was found to be DICOM. ``first``: where its first one stands.

    Raises:
        DicomNotAnImage: SEG, RTDOSE, SR, a PDF and their kin.
        InputError: As one of its classes: damaged, cut short, without pixels ...
        StudyTooLarge: More frames than a study may have.
    """
    head = file.head(_HEAD)
    try:
        body, parsed, header = _parsed(head, file.size, limits)
    except DicomNotAnImage:
        raise
    except InputError:
        if file.size <= len(head):
            raise
        head = file.read()
        body, parsed, header = _parsed(head, file.size, limits)
    if first + parsed.frames > limits.frames:
        raise StudyTooLarge(
            f"The study has more than {limits.frames} images. Name the folder of one series, or "
            "raise the limit of frames.",
            limit=limits.frames,
        )
    with dicom.quietly(head):
        tags = _tags(parsed)
        grouped = _has_groups(parsed)
        places = [_place(parsed, number) for number in range(parsed.frames if grouped else 1)]
    for number in range(parsed.frames):
        # Only functional groups tell the frames of one file apart.
        if number:
            header = (
                dicom.header_in(head, parsed, number) if grouped else replace(header, frame=number)
            )
        position, thickness = places[number if grouped else 0]
        yield Frame(file, tags, header, body.syntax, position, thickness, first + number)


def is_dicom(file: StudyFile) -> bool:
    """Whether it is to be read as DICOM. Raises FileUnreadable, ArchiveUnreadable."""
    return dicom_stream.is_dicom(file.head(256))


def _parsed(head: bytes, size: int, limits: Limits) -> tuple[Body, Parsed, Header]:
    body, parsed = dicom.open_data_set(head, max_bytes=limits.inflated_bytes, more=_KEYWORDS)
    header = dicom.header_in(head, parsed, 0)
    whole = body.stream.getbuffer().nbytes
    if whole == len(head):  # not inflated
        whole = size
    dicom.check_header(header, whole, limits.pixels)
    if body.syntax in _NATIVE:
        check_length(header, whole)
    return body, parsed, header


def _tags(parsed: Parsed) -> Tags:
    ds = parsed.ds
    values = holder(ds, 0, "PixelValueTransformationSequence", "RescaleIntercept")
    return Tags(
        study=plain_uid(ds.get("StudyInstanceUID")),
        series=plain_uid(ds.get("SeriesInstanceUID")),
        instance=plain_uid(ds.get("SOPInstanceUID")),
        space=plain_uid(ds.get("FrameOfReferenceUID")),
        series_number=_count(ds, "SeriesNumber"),
        number=_count(ds, "InstanceNumber"),
        acquisition=_count(ds, "AcquisitionNumber"),
        types=frozenset(str(value).strip() for value in values_of(ds, "ImageType")) & _TYPES,
        view=str(ds.get("ViewPosition") or "").strip(),
        burned_in={"YES": True, "NO": False}.get(str(ds.get("BurnedInAnnotation") or "")),
        rescaled="RescaleIntercept" in values,
    )


def _has_groups(parsed: Parsed) -> bool:
    return any(
        values_of(parsed.ds, f"{whose}FunctionalGroupsSequence") for whose in ("Shared", "PerFrame")
    )


def _place(parsed: Parsed, number: int) -> tuple[tuple[float, ...], float | None]:
    """Position and thickness of a frame."""
    place = holder(parsed.ds, number, "PlanePositionSequence", "ImagePositionPatient")
    measures = holder(parsed.ds, number, "PixelMeasuresSequence", "SliceThickness")
    thickness = optional_numbers(measures, "SliceThickness")
    return (
        optional_numbers(place, "ImagePositionPatient"),
        thickness[0] if thickness and thickness[0] > 0 else None,
    )


def _count(ds: Any, keyword: str) -> int:
    numbers = optional_numbers(ds, keyword)
    return int(numbers[0]) if numbers else 0
