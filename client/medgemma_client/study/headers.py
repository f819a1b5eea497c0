"""The headers of a study's files: what each image is, and which images belong together.

UIDs tell which those are. They stay in memory, compared and never shown, and go nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from medgemma_client.images import dicom, dicom_stream
from medgemma_client.images.dicom_header import Header, Parsed, header_of, parse
from medgemma_client.images.dicom_pixels import check_length
from medgemma_client.images.dicom_stream import plain_uid
from medgemma_client.images.dicom_values import holder, optional_numbers, values_of
from medgemma_client.study.files import StudyFile
from medgemma_client.study.limits import Limits
from medgemma_tasks.errors import DicomNotAnImage, InputError, StudyTooLarge

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Its class, and how its multi-frame kin begin."""
HEAD = 64 * 1024
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
_OWN = frozenset((0x00080018, 0x00200013, 0x00200032))
"""SOPInstanceUID, InstanceNumber, ImagePositionPatient: what slices of one series differ in."""
_LONG = 4096
"""Bytes of a value from which on it is not kept for comparison."""
_KINDS = 100
"""Of slices that are kept for comparison."""
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
    inflated: bool
    """Whether the file's data set is deflated, so that offsets are of what it inflates to."""
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

    def numbered(self, number: int) -> Frame:
        """Another frame of the same file, of which nothing else is said."""
        return replace(self, header=replace(self.header, frame=number), at=self.at + number)

    def placed_by(self, parsed: Parsed, number: int) -> Frame:
        """Another frame of the same file, by its functional groups."""
        place = holder(parsed.ds, number, "PlanePositionSequence", "ImagePositionPatient")
        return replace(
            self,
            header=header_of(parsed, number),
            position=optional_numbers(place, "ImagePositionPatient"),
            thickness=_thickness(parsed, number),
            at=self.at + number,
        )


class Headers:
    """Reads the headers of the files of one study.

    The slices of a series differ in a few attributes: what the others say is worked out once, and
    found again by their bytes.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[tuple[object, ...], tuple[Header, Tags, float | None]] = {}

    def frames(self, file: StudyFile, head: bytes, first: int) -> list[Frame]:
        """The images of a file that was found to be DICOM.

        Args:
            head: The file's first HEAD bytes, or all it has.
            first: Where its first image stands in the study, from 0.

        Raises:
            DicomNotAnImage: SEG, RTDOSE, SR, a PDF and their kin.
            InputError: As one of its classes: damaged, cut short, without pixels ...
            StudyTooLarge: More frames than a study may have.
        """
        dicom.check_supported()
        try:
            return self._frames(file, head, first)
        except (DicomNotAnImage, StudyTooLarge):
            raise
        except InputError:
            if file.size <= len(head):
                raise
            return self._frames(file, file.read(), first)

    def _frames(self, file: StudyFile, head: bytes, first: int) -> list[Frame]:
        with dicom.quietly(head):
            body = dicom_stream.open_body(head, self._limits.inflated_bytes)
            parsed = parse(body, _KEYWORDS)
            header, tags, thickness = self._shared(parsed)
            position = optional_numbers(parsed.ds, "ImagePositionPatient")
            grouped = _has_groups(parsed)
        inflated = body.stream.getbuffer().nbytes != len(head)
        size = body.stream.getbuffer().nbytes if inflated else file.size
        dicom.check_header(head, header, size, self._limits.pixels)
        if body.syntax in _NATIVE:
            check_length(header, size)
        if first + parsed.frames > self._limits.frames:
            raise StudyTooLarge(
                f"The study has more than {self._limits.frames} images. Name the folder of one "
                "series, or raise the limit of frames.",
                limit=self._limits.frames,
            )
        one = Frame(file, tags, header, body.syntax, inflated, position, thickness, first)
        if not grouped:
            return [one, *(one.numbered(number) for number in range(1, parsed.frames))]
        with dicom.quietly(head):
            return [one.placed_by(parsed, number) for number in range(parsed.frames)]

    def _shared(self, parsed: Parsed) -> tuple[Header, Tags, float | None]:
        key = _key(parsed)
        if key in self._known:
            header, tags, thickness = self._known[key]
            header = replace(header, pixel_start=parsed.start, pixel_length=parsed.length)
            return header, replace(tags, **_own_tags(parsed.ds)), thickness
        found = header_of(parsed, 0), _tags(parsed), _thickness(parsed, 0)
        if key and len(self._known) < _KINDS:
            self._known[key] = found
        return found


def _key(parsed: Parsed) -> tuple[object, ...]:
    """Equal where all that is not a slice's own is; empty where that cannot be said quickly."""
    if parsed.frames > 1:
        return ()
    said: list[object] = [parsed.sop_class, parsed.little_endian, parsed.keyword, parsed.vr]
    for tag in parsed.ds.keys():  # noqa: SIM118 - iterating it would work out each value
        if tag in _OWN:
            continue
        element = parsed.ds.get_item(tag)
        value = element.value if element.is_raw else str(element.value)
        if element.VR == "SQ" or len(value or b"") > _LONG:
            return ()
        said.append((tag, element.VR, value))
    return tuple(said)


def _tags(parsed: Parsed) -> Tags:
    ds = parsed.ds
    values = holder(ds, 0, "PixelValueTransformationSequence", "RescaleIntercept")
    return Tags(
        study=plain_uid(ds.get("StudyInstanceUID")),
        series=plain_uid(ds.get("SeriesInstanceUID")),
        space=plain_uid(ds.get("FrameOfReferenceUID")),
        series_number=_count(ds, "SeriesNumber"),
        acquisition=_count(ds, "AcquisitionNumber"),
        types=frozenset(str(value).strip() for value in values_of(ds, "ImageType")) & _TYPES,
        view=str(ds.get("ViewPosition") or "").strip(),
        burned_in={"YES": True, "NO": False}.get(str(ds.get("BurnedInAnnotation") or "")),
        rescaled="RescaleIntercept" in values,
        **_own_tags(ds),
    )


def _own_tags(ds: Any) -> dict[str, Any]:
    """Those of a slice alone."""
    return {
        "instance": plain_uid(ds.get("SOPInstanceUID")),
        "number": _count(ds, "InstanceNumber"),
    }


def _has_groups(parsed: Parsed) -> bool:
    return any(
        values_of(parsed.ds, f"{whose}FunctionalGroupsSequence") for whose in ("Shared", "PerFrame")
    )


def _thickness(parsed: Parsed, number: int) -> float | None:
    measures = holder(parsed.ds, number, "PixelMeasuresSequence", "SliceThickness")
    thickness = optional_numbers(measures, "SliceThickness")
    return thickness[0] if thickness and thickness[0] > 0 else None


def _count(ds: Any, keyword: str) -> int:
    numbers = optional_numbers(ds, keyword)
    return int(numbers[0]) if numbers else 0
