"""What a map is drawn over: the image, without colours that would pass for relevancy."""

from __future__ import annotations

from PIL import Image

from medgemma_tasks.models import ImageAttributes

SOFT_TISSUE = 1
"""The channel of MedGemma's three CT windows (-1024..1024, -135..215, 0..80 HU) that shows most."""


def backdrop(image: Image.Image, attributes: ImageAttributes) -> Image.Image:
    """The image itself; of a CT slice in three windows, red, green and blue, the one in green, as
    grey. The model sees the colours; beneath a map they could not be told from it."""
    if attributes.modality == "CT" and image.mode == "RGB":
        return image.getchannel(SOFT_TISSUE)
    return image
