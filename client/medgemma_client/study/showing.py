"""From frames to pixels ready for upload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from medgemma_client.images import dicom
from medgemma_client.images.source import SourceImage
from medgemma_client.study.headers import Frame, Opened
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
    opened = Opened(limits)
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


def _image(values: NDArray[Any], frame: Frame, slices: Slices, plane: Plane | None) -> SourceImage:
    header = frame.header
    pixels = slices.show(values, header) if values.ndim == 2 else dicom.render(values, header)
    image = Image.fromarray(pixels)
    attributes = dicom.attributes_of(header).model_copy(
        update={"window": slices.window(header), "plane": plane}
    )
    return SourceImage(image, attributes, image_name(image))
