"""The image that was explained, given again: found to be the same, and its header read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, TypeAlias

from medgemma_client.images import dicom, dicom_stream
from medgemma_client.images.dicom_header import parse
from medgemma_client.images.dicom_values import holder, optional_numbers
from medgemma_client.images.source import Source, read_file, read_image
from medgemma_client.output.identity import IDENTITY
from medgemma_client.study.study import Study
from medgemma_tasks.errors import SourceDiffers, SourceIncomplete
from medgemma_tasks.models import ExplanationRequest, ImageRef

OutputSource: TypeAlias = "Source | Study"
"""What ``read_image`` takes, or a whole study."""

_MAX_BYTES = 1_000_000_000
_PIXELS = 100_000_000

_REFERENCE = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "ImagePositionPatient",
    "SliceThickness",
    "Laterality",
    "BurnedInAnnotation",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "TimezoneOffsetFromUTC",
)


@dataclass(frozen=True, repr=False)
class Original:
    """An image of the request, found again."""

    ref: ImageRef
    number: int
    """Of the image in the request, from 0."""
    header: Any
    """A pydicom data set of what is copied or referred to, values decoded; None: no DICOM."""
    frame: int | None
    """Of a file with several, from 0."""

    def numbers(self, group: str, keyword: str) -> tuple[float, ...]:
        """Of the frame, wherever the file keeps them; none where they are absent or no numbers."""
        if self.header is None:
            return ()
        found = holder(self.header, self.frame or 0, group, keyword)
        return optional_numbers(found, keyword)


class Originals:
    """Those of a request's images, from one source. A file of many frames is read once."""

    def __init__(self, request: ExplanationRequest, source: OutputSource) -> None:
        self._request, self._source = request, source
        self._headers: dict[int, Any] = {}

    def find(self, image: int) -> Original:
        """Raises SourceDiffers, SourceIncomplete, InputError."""
        if isinstance(self._source, Study):
            return self._of_study(self._source, image)
        return self._of_file(self._source, image)

    def find_all(self, image: int) -> list[Original]:
        """All that the source holds, ``image`` among them."""
        if not isinstance(self._source, Study):
            return [self.find(image)]
        return [self.find(number) for number in range(len(self._request.images))]

    def _of_file(self, source: Source, image: int) -> Original:
        ref = self._request.images[image]
        frame = ref.attributes.frame
        data = read_file(source, _MAX_BYTES) if isinstance(source, str | os.PathLike) else source
        # No smaller a limit than what was let through when the question was asked.
        picture = read_image(data, frame=frame, max_pixels=max(_PIXELS, ref.width * ref.height))
        if picture.name != ref.name:
            advice = "Was the question about a study, pass that study as read_study gave it"
            raise _other(image, advice)
        header = _header(data) if isinstance(data, bytes) and dicom_stream.is_dicom(data) else None
        return Original(ref, image, header, frame)

    def _of_study(self, study: Study, image: int) -> Original:
        ref = self._request.images[image]
        if image >= len(study.images) or study.images[image].name != ref.name:
            raise _other(image, "Pass the study that was asked about, read with the same choices")
        origin = study.origins[image]
        header = self._headers.get(id(origin.file))
        if header is None:
            data = origin.file.read()
            if not dicom_stream.is_dicom(data):
                return Original(ref, image, None, None)
            header = self._headers[id(origin.file)] = _header(data)
        found = Original(ref, image, header, origin.frame)
        plane = ref.attributes.plane
        place = found.numbers("PlanePositionSequence", "ImagePositionPatient")
        # All-black slices have the same pixels: their places tell them apart.
        if plane is not None and tuple(round(mm, 6) for mm in place) != plane.origin_mm:
            raise _other(image, "A file of the study has changed since it was read: read it again")
        return found


def _header(data: bytes) -> Any:
    dicom.check_supported()
    with dicom.quietly(data):
        body = dicom_stream.open_body(data, _MAX_BYTES)
        ds = parse(body, (*IDENTITY, *_REFERENCE)).ds
        # Values are decoded while nothing can quote them, and by the file's own byte order.
        ds.walk(lambda item, element: None)
    needed = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
    lacks = [word for word in needed if not dicom_stream.plain_uid(ds.get(word))]
    if lacks:
        raise SourceIncomplete(
            f"The source has no valid {lacks[0]}, by which another object could refer to it. "
            "Pass the file as its archive holds it."
        )
    return ds


def _other(image: int, advice: str) -> SourceDiffers:
    return SourceDiffers(
        f"The source is not what was explained as image {image}: its pixels or its place differ. "
        f"{advice}.",
        image=image,
    )
