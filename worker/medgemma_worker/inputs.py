"""Fetching the images of a request, and making sure that they are the ones it names."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from medgemma_tasks.errors import ArtifactDamaged, ImageTooLarge
from medgemma_tasks.identity import image_name
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import ImageRef


def fetch_images(
    ledger: Ledger, refs: Sequence[ImageRef], max_pixels: int
) -> tuple[Image.Image, ...]:
    """The decoded images of a request, in its order.

    Raises ImageTooLarge before anything is decoded, and ArtifactDamaged where an image is missing,
    or is not the one that its name stands for.
    """
    for ref in refs:
        if ref.width * ref.height > max_pixels:
            raise ImageTooLarge(
                f"An image has {ref.width} x {ref.height} pixels; this worker takes "
                f"{max_pixels} (MEDGEMMA_MAX_PIXELS)."
            )
    return tuple(_decode(ledger.input(ref.name), ref) for ref in refs)


def _decode(png: bytes, ref: ImageRef) -> Image.Image:
    damaged = ArtifactDamaged("An input image in the store is damaged; submit it with force=True.")
    try:
        # The header is checked before a pixel is decoded: a small file may unpack to gigabytes.
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            if (image.width, image.height, image.mode) != (ref.width, ref.height, ref.mode):
                raise damaged
            image.load()
            decoded = image.copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise damaged from None
    if image_name(decoded) != ref.name:
        raise damaged
    return decoded
