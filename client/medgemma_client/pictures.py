"""From what a caller hands over to images as they are uploaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from medgemma_client.question import images_that_fit
from medgemma_tasks.errors import ImageTooLarge, InputError, InvalidRequest
from medgemma_tasks.models import ServedModel
from medgemma_tasks.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from medgemma_client.images import SourceImage
    from medgemma_client.study import Study
    from medgemma_client.study.files import StudySource

Source: TypeAlias = "str | os.PathLike[str] | bytes | Image | NDArray[Any] | SourceImage"
"""What ``medgemma_client.images.read_image`` reads, or what it gave."""


def as_list(images: Source | Sequence[Source] | None) -> list[Source]:
    """One image, several or none."""
    if images is None:
        return []
    if isinstance(images, (list, tuple)):
        return list(images)
    return [images]  # type: ignore[list-item]


TOGETHER = 400_000_000
"""Most pixels of all images of a question, unless one alone may have more."""


def read(sources: Sequence[Source], settings: Settings) -> list[SourceImage]:
    """Within the limits of the settings, for each and, as they are in memory at the same time, for
    all together.

    Raises InputError and its kin; details: ``image`` (which it is about, from 0). Of several its
    message names it, as people count.
    """
    from medgemma_client.images import SourceImage, read_image

    found: list[SourceImage] = []
    pixels, most = 0, max(TOGETHER, settings.max_pixels)
    for place, source in enumerate(sources):
        try:
            image = (
                source
                if isinstance(source, SourceImage)
                else read_image(
                    source, max_pixels=settings.max_pixels, max_file_bytes=settings.max_file_bytes
                )
            )
        except InputError as error:
            error.details["image"] = place
            if len(sources) == 1:
                raise
            from medgemma_client.study.finding import numbered

            raise numbered(error, "Image", place + 1, len(sources)) from None
        found.append(image)
        pixels += image.pixels.width * image.pixels.height
        if pixels > most:
            raise ImageTooLarge(
                f"The images of the question have more than {most} pixels together. Pass fewer, or "
                "smaller ones.",
                limit=most,
            )
    return found


def study_for(
    images: object,
    study: StudySource | Study | None,
    prior: StudySource | None,
    served: ServedModel,
    max_new_tokens: int | None,
) -> Study:
    """The study that ``Client.submit`` was given. Raises InvalidRequest, and as ``read_study``."""
    from medgemma_client.study import Study

    if images is not None:
        raise InvalidRequest("A question is about images or about a study, not about both.")
    if study is None:
        raise InvalidRequest("A prior study needs a current one: pass it as study.")
    if not isinstance(study, Study):
        return fitting_study(study, served, max_new_tokens, {"prior": prior})
    if prior is not None:
        raise InvalidRequest("A study that was read has its prior already: read them together.")
    return study


def fitting_study(
    source: StudySource,
    served: ServedModel,
    max_new_tokens: int | None,
    choices: dict[str, Any],
) -> Study:
    """``read_study``, with no more images than the model has room for."""
    from medgemma_client.study import read_study

    if choices.get("max_slices") is None:
        choices["max_slices"] = images_that_fit(served, max_new_tokens)
    return read_study(source, **choices)
