"""Images with some grid cells covered: pixels are changed, before the processor sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Cells = NDArray[np.bool_]
"""bool (n, rows, columns): for each of n images, the cells whose pixels are shown as they are."""

Fill = Literal["blur", "mean"]

BLUR_PART = 1 / 8
"""Standard deviation of the blur as a part of the image's side: two cells of a 16 x 16 grid, wider
than a focal finding's radius, so that nothing is left of it."""


class Covering:
    """The images of one question, and what lies under a covered cell of them.

    ``blur`` puts the whole image's Gaussian blur there, ``mean`` its mean colour. A blur keeps the
    brightness of a place, so that a covered cell looks less like nothing the model has ever seen.
    """

    def __init__(self, images: Sequence[Image.Image], fill: Fill = "blur") -> None:
        self.images = tuple(image.convert("RGB") for image in images)
        self._under = tuple(_under(image, fill) for image in self.images)

    def show(self, shown: Cells) -> list[Image.Image]:
        """The images with every cell covered that is False in ``shown``."""
        return [
            Image.composite(image, under, Image.fromarray(pixels_of(cells, *reversed(image.size))))
            for image, under, cells in zip(self.images, self._under, shown, strict=True)
        ]


def _under(image: Image.Image, fill: Fill) -> Image.Image:
    if fill == "blur":
        return image.filter(ImageFilter.GaussianBlur(max(image.size) * BLUR_PART))
    mean = np.asarray(image, dtype=np.float64).mean(axis=(0, 1))
    red, green, blue = (round(float(value)) for value in mean)
    return Image.new("RGB", image.size, (red, green, blue))


def pixels_of(cells: Cells, height: int, width: int) -> NDArray[np.bool_]:
    """Cells, bool (rows, columns), as pixels, bool (height, width).

    A pixel belongs to the cell that its centre lies in, so that any size divides into any grid.
    """
    rows, columns = cells.shape
    row = ((np.arange(height) + 0.5) * rows / height).astype(np.intp)
    column = ((np.arange(width) + 0.5) * columns / width).astype(np.intp)
    return np.asarray(cells[row[:, None], column[None, :]], dtype=np.bool_)
