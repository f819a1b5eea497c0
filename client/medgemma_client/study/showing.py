"""From frames to pixels ready for upload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from numpy.typing import NDArray

from medgemma_client.images import dicom, dicom_stream
from medgemma_client.images.dicom_stream import Body
from medgemma_client.images.source import SourceImage
from medgemma_client.study.files import StudyFile
from medgemma_client.study.headers import Frame
from medgemma_client.study.limits import Limits
from medgemma_client.study.windows import Range, Slices, Windowing, range_of
from medgemma_tasks.errors import InputError, StudyTooLarge
from medgemma_tasks.identity import image_name
from medgemma_tasks.models import Plane


@dataclass(frozen=True, repr=False)
class Shown:
    index: int
    """Of the frame, from 0."""
    image: SourceImage


def show(
    frames: Sequence[Frame],
    indices: Sequence[int],
    windowing: Windowing,
    planes: Sequence[Plane] | None,
    limits: Limits,
) -> tuple[list[Shown], list[tuple[int, InputError]]]:
    """The frames of the given indices, and those of any that cannot be decoded.

    Only what is shown is decoded, unless a range over the whole acquisition is needed.

    Args:
        frames: Of one series, in order.
        planes: Where they lie, if that is known.

    Raises:
        StudyTooLarge: More pixels than may be held.
    """
    modality = frames[0].header.modality
    needed = sum(3 * frames[k].header.rows * frames[k].header.columns for k in indices)
    if needed > limits.shown_bytes:
        raise StudyTooLarge(
            f"The images to be shown have {needed} bytes, and the limit is {limits.shown_bytes}. "
            "Show fewer of them.",
            bytes=needed,
            limit=limits.shown_bytes,
        )
    opened = _Opened(limits)
    damage: list[tuple[int, InputError]] = []

    def stored(k: int) -> NDArray[Any] | None:
        try:
            return opened.stored(frames[k])
        except InputError as error:
            damage.append((k, error))
            return None

    held: dict[int, NDArray[Any] | None] = {}
    range_: Range | None = None
    if Slices.needs_range(modality, windowing):
        wanted = set(indices)
        for k, frame in enumerate(frames):
            values = stored(k)
            one = None if values is None else range_of(values, frame.header)
            if one is not None:
                range_ = one if range_ is None else range_.joined(one)
            if k in wanted:
                held[k] = values
    slices = Slices(modality, windowing, range_)
    found = []
    for k in indices:
        values = held.pop(k) if k in held else stored(k)
        if values is not None:
            plane = planes[k] if planes is not None else None
            found.append(Shown(k, _image(values, frames[k], slices, plane)))
    return found, damage


class _Opened:
    """The pixels of frames; a file of several is read once, as long as they are asked for in a
    row."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._file: StudyFile | None = None
        self._body: Body | None = None

    def stored(self, frame: Frame) -> NDArray[Any]:
        """Stored values, (rows, columns), or (rows, columns, 3) in RGB. Raises InputError."""
        if self._body is None or self._file is not frame.file:
            self._body = self._open(frame)
            self._file = frame.file
        return dicom.decode(self._body, frame.header)

    def _open(self, frame: Frame) -> Body:
        data = frame.file.read()
        if not frame.inflated:
            return Body(BytesIO(data), frame.syntax, frame.header.sop_class)
        with dicom.quietly(data):
            return dicom_stream.open_body(data, self._limits.inflated_bytes)


def _image(values: NDArray[Any], frame: Frame, slices: Slices, plane: Plane | None) -> SourceImage:
    header = frame.header
    image = slices.show(values, header)
    attributes = dicom.attributes_of(header).model_copy(
        update={"window": slices.window(header), "plane": plane}
    )
    return SourceImage(image, attributes, image_name(image))
