"""Pictures that a caller in this process hands over: in memory, or ordinary raster files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from medgemma_tasks.errors import FileUnreadable, ImageTooLarge, NotAnImage, TruncatedImage

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")


def read_picture(picture: Image.Image | NDArray[np.uint8] | str | os.PathLike[str]) -> Image.Image:
    """A picture as mode "RGB".

    Arrays are uint8, (H, W) or (H, W, 3). A path names an ordinary raster file; URLs are not
    fetched, and DICOM is read by ``medgemma_client.images``, on the client's side of the queue.

    Raises NotAnImage, FileUnreadable, TruncatedImage, ImageTooLarge.
    """
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if isinstance(picture, np.ndarray):
        plain = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
        if picture.dtype != np.uint8 or not plain or picture.size == 0:
            raise NotAnImage(
                f"An array of dtype {picture.dtype} and shape {picture.shape} is no picture; "
                "use uint8 of (H, W) or (H, W, 3)."
            )
        return Image.fromarray(picture).convert("RGB")
    try:
        with Image.open(Path(picture), formats=FORMATS) as file:
            return file.convert("RGB")
    except UnidentifiedImageError:
        raise NotAnImage(
            f"The file is none of {', '.join(FORMATS)}; read DICOM by medgemma_client.images."
        ) from None
    except Image.DecompressionBombError:
        raise ImageTooLarge("The image has more pixels than Pillow decodes; reduce it.") from None
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise FileUnreadable(f"The file cannot be read ({type(error).__name__}).") from None
    except (OSError, SyntaxError):
        raise TruncatedImage("The file ends early or is damaged; copy it again.") from None
