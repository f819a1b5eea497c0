"""An image as it will be uploaded, and the one function that makes it from anything readable.

No error here names a file: not its path, since messages reach logs and tickets, and not its base
name either, since that often is a patient's name or an accession number. The caller knows which
file it asked for.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from medgemma_client.images import dicom, dicom_stream
from medgemma_tasks import raster
from medgemma_tasks.errors import FileUnreadable, ImageTooLarge, NotAnImage
from medgemma_tasks.identity import image_name
from medgemma_tasks.models import ImageAttributes

Source = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
"""A path (never a URL), a file's bytes, a Pillow image, or uint8 (H, W) or (H, W, 3)."""


@dataclass(frozen=True)
class SourceImage:
    """Decoded pixels with their technical attributes, and nothing else of where they came from."""

    pixels: Image.Image
    """Mode L or RGB, 8 bits; an own copy without any metadata."""
    attributes: ImageAttributes
    name: str
    """``identity.image_name`` of the pixels: 64 hex digits."""

    def png(self) -> bytes:
        """The pixels as a lossless PNG without text chunks, EXIF, profile or time."""
        buffer = BytesIO()
        raster.bare(self.pixels).save(buffer, "PNG")
        return buffer.getvalue()


def read_image(
    source: Source,
    *,
    max_pixels: int = 100_000_000,
    max_file_bytes: int = 1_000_000_000,
    frame: int | None = None,
) -> SourceImage:
    """Read one image.

    The kind of a file follows from its content, never from its name. Grey images become mode L,
    colour images RGB. Raster images of more than 8 bits are scaled from their own minimum and
    maximum to 0..255; DICOM images are shown through their own lookup table or window (see
    ``grey``). No pixels are ever flipped but by a raster file's own orientation tag.

    Args:
        source: A path, the bytes of a file, a Pillow image, or a uint8 array (H, W) or (H, W, 3).
        max_pixels: Most rows x columns; checked against the header before anything is decoded.
        max_file_bytes: Most bytes of the file, and of a deflated data set once inflated.
        frame: Which frame or page, from 0. None takes the first (of a Pillow image: the current).

    Raises:
        InputError: As one of its classes, which say what is wrong; a frame out of range is an
            InputError itself.
    """
    if isinstance(source, np.ndarray):
        pixels, attributes = raster.from_array(source, max_pixels, frame)
    elif isinstance(source, Image.Image):
        pixels, attributes = raster.from_pillow(source, max_pixels, frame)
    elif isinstance(source, str | bytes | os.PathLike):
        data = source if isinstance(source, bytes) else read_file(source, max_file_bytes)
        pixels, attributes = _decode(data, max_pixels, max_file_bytes, frame)
    else:
        raise NotAnImage(
            f"An object of type {type(source).__name__} cannot be read as an image. "
            "Pass a path, bytes, a Pillow image or a numpy array."
        )
    return SourceImage(pixels, attributes, image_name(pixels))


def _decode(
    data: bytes, max_pixels: int, max_file_bytes: int, frame: int | None
) -> tuple[Image.Image, ImageAttributes]:
    check_size(len(data), max_file_bytes)
    if not data:
        raise NotAnImage("The file is empty. Pass a PNG, JPEG, TIFF, BMP or DICOM file.")
    if dicom_stream.is_dicom(data):
        return dicom.read(data, max_pixels=max_pixels, max_bytes=max_file_bytes, frame=frame)
    return raster.read(data, max_pixels, frame)


def read_file(path: str | os.PathLike[str], max_file_bytes: int = 1_000_000_000) -> bytes:
    """The bytes of a file. Raises FileUnreadable, ImageTooLarge."""
    try:
        status = os.stat(path)
        # A pipe or device would block, or never end.
        if stat.S_ISREG(status.st_mode):
            check_size(status.st_size, max_file_bytes)
            with open(path, "rb") as file:
                # One byte over, so that a file still growing is caught by the check that follows.
                return file.read(max_file_bytes + 1)
        reason = "it is not a regular file"
    except FileNotFoundError:
        reason = "it does not exist"
    except PermissionError:
        reason = "permission was denied"
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = f"the system answered {type(error).__name__}"
    raise FileUnreadable(f"The file cannot be read: {reason}. Check its path and its permissions.")


def check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ImageTooLarge(
            f"The file has {size} bytes, and the limit is {limit}. "
            "Raise max_file_bytes if you trust the file.",
            bytes=size,
            limit=limit,
        )
