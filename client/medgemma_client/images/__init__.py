"""Reading images on the client's side: PNG, JPEG, TIFF, BMP and DICOM into clean pixels.

What leaves this package is pixels and a short list of technical attributes; nothing of a file's
metadata travels further. Importing it is cheap: Pillow and pydicom load at the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgemma_client.images.source import SourceImage, read_image

__all__ = ["SourceImage", "read_image"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from medgemma_client.images import source

    return getattr(source, name)
