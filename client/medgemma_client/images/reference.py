"""What a request says of an image."""

from __future__ import annotations

from collections.abc import Mapping

from medgemma_client.images.source import SourceImage
from medgemma_tasks.making import make
from medgemma_tasks.models import ImageRef


def reference(picture: SourceImage, lie: Mapping[str, str | None]) -> ImageRef:
    """Its name, size and attributes. ``lie``: left_of_image and top_of_image as its caller says
    them, which go before the file's own. Raises InvalidRequest where one of them is no such side.
    """
    pixels = picture.pixels
    said = {name: value for name, value in lie.items() if value is not None}
    return make(
        ImageRef,
        "image",
        name=picture.name,
        width=pixels.width,
        height=pixels.height,
        mode=pixels.mode,
        attributes=picture.attributes.model_dump() | said,
    )
