"""PNG, JPEG, TIFF and BMP by Pillow, Pillow images and numpy arrays: to bare L or RGB pixels."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from medgemma_tasks.eight_bits import min_max_to_uint8
from medgemma_tasks.errors import ImageTooLarge, MedGemmaError, NotAnImage, TruncatedImage
from medgemma_tasks.limits import check_frame, check_pixels
from medgemma_tasks.models import ImageAttributes
from medgemma_tasks.quiet import without_logs

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
"""What Pillow may decode here. Its other decoders are attack surface without a use in radiology."""

_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")
_SOURCES: dict[str | None, Literal["png", "jpeg", "tiff"]] = {
    "PNG": "png",
    "JPEG": "jpeg",
    "MPO": "jpeg",  # what Pillow calls a JPEG file that holds several pictures
    "TIFF": "tiff",
}
_LOGGERS = ("PIL.Image", "PIL.PngImagePlugin", "PIL.TiffImagePlugin")
"""At level DEBUG these write the values of chunks and tags, which may name a patient."""
_TIFF_PHOTOMETRIC = 262

Decoded = tuple[Image.Image, ImageAttributes]


def read(data: bytes, max_pixels: int, frame: int | None) -> Decoded:
    """Decode the bytes of a file. Raises NotAnImage, TruncatedImage, ImageTooLarge, EmptyImage."""
    with without_logs(*_LOGGERS), _opened(data) as image:
        return from_pillow(image, max_pixels, frame or 0)


def look(data: bytes, max_pixels: int) -> None:
    """Raise what ``read`` would for what the header says; no pixel is decoded."""
    with without_logs(*_LOGGERS), _opened(data) as image:
        check_pixels(image.height, image.width, max_pixels)


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _bomb() from None
    except Exception as error:  # noqa: BLE001 - a damaged file raises almost anything
        if isinstance(error, UnidentifiedImageError) and not data.startswith(_SIGNATURES):
            raise NotAnImage(
                "The file is no image that can be read. Pass PNG, JPEG, TIFF, BMP or DICOM."
            ) from None
        raise _damaged() from None


def from_pillow(image: Image.Image, max_pixels: int, frame: int | None) -> Decoded:
    """Bare pixels of a Pillow image: its orientation tag applied, alpha laid on black.

    Palettes become RGB, 1-bit images L. 16-bit, 32-bit and float grey is scaled from its own
    minimum and maximum to 0..255: such files rarely say what their range means. Colour profiles
    are dropped and not applied.
    """
    with without_logs(*_LOGGERS):
        try:
            check_pixels(image.height, image.width, max_pixels)
            frames, current = int(getattr(image, "n_frames", 1)), image.tell()
            if frame is not None:
                check_frame(frame, frames)
                if frame != current:
                    image.seek(frame)
                    check_pixels(image.height, image.width, max_pixels)
            else:
                frame = current
            attributes = ImageAttributes(
                source=_SOURCES.get(image.format, "other"),
                bits_stored=_bits(image.mode),
                frame=frame if frames > 1 else None,
                frames=frames if frames > 1 else None,
            )
            image.load()
            # Pillow inverts MinIsWhite for 8 bits and fewer, and forgets it for more.
            invert = getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0
            pixels = bare(_flat(ImageOps.exif_transpose(image), invert))
            if frame != current:
                image.seek(current)  # the image is the caller's
            return pixels, attributes
        except MedGemmaError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise _bomb() from None
        except Exception:  # noqa: BLE001 - a damaged file raises almost anything
            raise _damaged() from None


def from_array(array: np.ndarray, max_pixels: int, frame: int | None) -> Decoded:
    """Bare pixels of a uint8 array (H, W) or (H, W, 3). Raises NotAnImage for any other."""
    if array.dtype != np.uint8 or not (
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    ):
        raise NotAnImage(
            f"An array of shape {array.shape} and type {array.dtype} is not an image. "
            "Pass uint8 of shape (H, W) or (H, W, 3); window other values to 0..255 first."
        )
    check_pixels(array.shape[0], array.shape[1], max_pixels)
    check_frame(frame or 0, 1)
    pixels = Image.fromarray(np.ascontiguousarray(array))
    return bare(pixels), ImageAttributes(source="array", bits_stored=8)


def bare(image: Image.Image) -> Image.Image:
    """A copy of the pixels alone: no info, EXIF, profile, text or file behind it."""
    return Image.frombytes(image.mode, image.size, image.tobytes())


def _flat(image: Image.Image, invert: bool) -> Image.Image:
    """Mode L or RGB of a loaded image of any mode; ``invert`` is for more than 8 bits."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        if not np.isfinite(values).any():
            raise NotAnImage("Not one pixel of the image is a finite number. Export it again.")
        return Image.fromarray(min_max_to_uint8(values, invert=invert))
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        clear = image.convert("LA" if grey else "RGBA")
        black = Image.new("L" if grey else "RGB", clear.size)
        black.paste(clear.convert(black.mode), mask=clear.getchannel("A"))
        return black
    return image.convert("L" if grey else "RGB")


def _bits(mode: str) -> int:
    """Bits of one sample as stored, by Pillow's name of the mode."""
    if mode.startswith("I;16"):
        return 16
    return {"1": 1, "I": 32, "F": 32}.get(mode, 8)


def _bomb() -> ImageTooLarge:
    return ImageTooLarge(
        "The image declares more pixels than Pillow allows, as decompression bombs do. "
        "Pass a smaller image."
    )


def _damaged() -> TruncatedImage:
    return TruncatedImage(
        "The image file is cut short or damaged: its pixels cannot all be decoded. "
        "Fetch or export it again."
    )
