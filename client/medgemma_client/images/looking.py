"""Whether an image could be read, by its header alone."""

from __future__ import annotations

from collections.abc import Callable

from medgemma_client.images import dicom, dicom_stream
from medgemma_client.images.source import check_size
from medgemma_tasks import raster
from medgemma_tasks.errors import InputError, NotAnImage

HEAD = 256 * 1024
"""Bytes in which the header of nearly every file ends."""


def look_at(
    head: bytes,
    size: int,
    whole: Callable[[], bytes],
    *,
    max_pixels: int = 100_000_000,
    max_file_bytes: int = 1_000_000_000,
) -> None:
    """Raise the InputError that reading the image would, as far as its header tells.

    Args:
        head: The file's first HEAD bytes, or all it has.
        size: Bytes of the whole file.
        whole: Gives all of them; called only where the header does not end in the head.
        max_pixels, max_file_bytes: As for ``read_image``.
    """
    check_size(size, max_file_bytes)
    try:
        _look(head, max_pixels, max_file_bytes)
    except InputError:
        if size <= len(head):
            raise
        _look(whole(), max_pixels, max_file_bytes)


def _look(data: bytes, max_pixels: int, max_file_bytes: int) -> None:
    if not data:
        raise NotAnImage("The file is empty. Pass a PNG, JPEG, TIFF, BMP or DICOM file.")
    if dicom_stream.is_dicom(data):
        dicom.look(data, max_pixels=max_pixels, max_bytes=max_file_bytes)
    else:
        raster.look(data, max_pixels)
