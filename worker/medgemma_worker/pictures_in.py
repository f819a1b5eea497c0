"""Pictures that a caller in this process hands over: in memory, or ordinary raster files.

Decoded by the same code as on the client's side of the queue, so that a question has the same
pixels with and without it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from medgemma_tasks import raster
from medgemma_tasks.errors import FileUnreadable, ImageTooLarge, NotAnImage
from medgemma_tasks.geometry import pad_to_square

LONGEST_EDGE = 8192
"""Pixels of a side beyond which an image is reduced before it is padded."""

MAX_PIXELS = 100_000_000
MAX_BYTES = 1_000_000_000

Picture = Image.Image | np.ndarray | str | os.PathLike[str]
"""An image in memory, a uint8 array (H, W) or (H, W, 3), or the path of a raster file."""


def read_picture(picture: Picture) -> Image.Image:
    """A picture as mode "RGB".

    A path names an ordinary raster file; URLs are not fetched, and DICOM is read by
    ``medgemma_client.images``, on the client's side of the queue.

    Raises NotAnImage, FileUnreadable, TruncatedImage, EmptyImage, ImageTooLarge.
    """
    if isinstance(picture, Image.Image):
        pixels, _ = raster.from_pillow(picture, MAX_PIXELS, None)
    elif isinstance(picture, np.ndarray):
        pixels, _ = raster.from_array(picture, MAX_PIXELS, None)
    else:
        pixels = _read_file(picture)
    return pixels.convert("RGB")


def _read_file(path: str | os.PathLike[str]) -> Image.Image:
    # No message names the file: a file's name often is a patient's.
    try:
        file = Path(path)
        if file.stat().st_size > MAX_BYTES:
            raise ImageTooLarge(f"The file has more than {MAX_BYTES} bytes; reduce it.")
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        raise FileUnreadable(f"The file cannot be read ({type(error).__name__}).") from None
    try:
        pixels, _ = raster.read(data, MAX_PIXELS, None)
    except NotAnImage:
        raise NotAnImage(
            f"The file is none of {', '.join(raster.FORMATS)}. DICOM is read by "
            "medgemma_client.images.read_image; hand over its pixels."
        ) from None
    return pixels


def prepared(image: Image.Image, *, pad: bool) -> Image.Image:
    """The picture as the processor gets it: RGB, at most LONGEST_EDGE pixels a side.

    The square round a long thin image has many times its pixels; the processor goes far below
    either, so nothing that the model could see is lost.
    """
    if max(image.size) > LONGEST_EDGE:
        image = image.copy()
        image.thumbnail((LONGEST_EDGE, LONGEST_EDGE))
    return (pad_to_square(image) if pad else image).convert("RGB")
