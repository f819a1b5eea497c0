"""Synthetic frontal chest films whose lesion is known to the pixel.

The film is drawn in grey levels 0..1 on a 256 x 256 grid and is seen as a radiologist sees
it: the patient's right lung is on the left of the image. Zones are named in patient terms.
The same seed always gives the same anatomy and noise, whatever lesion is asked for, so that
`make_phantom(s, None, None)` is the film of `make_phantom(s, kind, zone)` without its lesion.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

import numpy as np
from PIL import Image, ImageFilter

from medgemma_worker.phantom.drawing import LESIONS, SIZE, Mask, draw_thorax, expose

__all__ = [
    "GRID",
    "KINDS",
    "NO_LESION",
    "RANDOM",
    "SIZE",
    "ZONES",
    "Mask",
    "Phantom",
    "answer_text",
    "cover",
    "cover_cells",
    "lesion_cells",
    "make_phantom",
    "overlaps_cell",
]

GRID: Final = 16  # image tokens on a side
BLUR_SIGMA: Final = 32.0  # pixels: wider than any lesion's radius, so that nothing is left of it

KINDS: Final[tuple[str, ...]] = tuple(LESIONS)
ZONES: Final[tuple[str, ...]] = tuple(
    f"{side} {level} zone" for side in ("right", "left") for level in ("upper", "mid", "lower")
)
NO_LESION: Final = "No focal abnormality."

Cell = tuple[int, int]
Fill = Literal["blur", "mean"]


class Choice(Enum):
    """`RANDOM` lets the seed decide; `None` means no lesion."""

    RANDOM = "random"


RANDOM: Final = Choice.RANDOM


@dataclass(frozen=True)
class Phantom:
    """A film, the truth about it and the answer a reader should give.

    image: mode "L", 256 x 256. mask: bool (256, 256), True on lesion pixels, all False
    without a lesion. kind and zone: one of KINDS and ZONES, or None without a lesion.
    """

    image: Image.Image
    mask: Mask
    kind: str | None
    zone: str | None
    answer: str


def answer_text(kind: str | None, zone: str | None) -> str:
    """The one sentence that describes a film."""
    return NO_LESION if kind is None else f"There is a {kind} in the {zone}."


def make_phantom(
    seed: int, kind: str | Choice | None = RANDOM, zone: str | Choice | None = RANDOM
) -> Phantom:
    """Draw the film of a seed (0 or more), with the lesion asked for or one the seed chooses.

    kind=None or zone=None asks for no lesion; one film in five has none when both are RANDOM.
    """
    chooser = _stream(seed, 0)
    drawn_kind = None if chooser.random() < 0.2 else KINDS[chooser.integers(len(KINDS))]
    certain_kind = KINDS[chooser.integers(len(KINDS))]
    drawn_zone = ZONES[chooser.integers(len(ZONES))]
    if kind is RANDOM:
        kind = drawn_kind if zone is RANDOM else None if zone is None else certain_kind
    if zone is RANDOM:
        zone = None if kind is None else drawn_zone
    if (kind is None) != (zone is None):
        raise ValueError(f"a lesion needs both a kind and a zone, got {kind!r} and {zone!r}")

    thorax = draw_thorax(_stream(seed, 1))
    film, mask = thorax.film, np.zeros((SIZE, SIZE), dtype=np.bool_)
    if kind is not None and zone is not None:
        if kind not in LESIONS or zone not in ZONES:
            raise ValueError(f"unknown lesion: {kind!r} in {zone!r}")
        film, mask = LESIONS[kind](thorax, zone, _stream(seed, 2))
    return Phantom(expose(film, _stream(seed, 3)), mask, kind, zone, answer_text(kind, zone))


def _stream(seed: int, part: int) -> np.random.Generator:
    """An independent stream for each part, so that a lesion moves neither anatomy nor noise."""
    return np.random.Generator(np.random.PCG64([seed, part]))


def lesion_cells(mask: Mask, grid: int = GRID, grow: int = 0) -> Mask:
    """Cells of a grid x grid division that hold a lesion pixel, grown by `grow` cells.

    mask: bool (H, W), H and W multiples of `grid`. Returns bool (grid, grid). Growing adds
    every cell within `grow` steps, diagonal steps included.
    """
    height, width = mask.shape
    if height % grid or width % grid:
        raise ValueError(f"mask of {height} x {width} does not divide into {grid} x {grid} cells")
    blocks = mask.reshape(grid, height // grid, grid, width // grid)
    padded = np.pad(np.asarray(blocks.any(axis=(1, 3))), grow)
    steps = range(2 * grow + 1)
    shifts = [padded[r : r + grid, c : c + grid] for r in steps for c in steps]
    return np.asarray(np.stack(shifts).any(axis=0))


def overlaps_cell(mask: Mask, cell: Cell, grid: int = GRID, grow: int = 1) -> bool:
    """Is this cell (row, column) on the lesion, or within `grow` cells of it?

    A cell is on the lesion when at least one of its pixels is. `grow` counts steps to any
    of the eight neighbours; grow=0 asks for true overlap. Always False without a lesion.
    """
    return bool(lesion_cells(mask, grid, grow)[cell])


def cover(
    image: Image.Image, where: Mask, fill: Fill = "blur", sigma: float = BLUR_SIGMA
) -> Image.Image:
    """Replace the pixels where `where` (bool (H, W)) is True.

    "blur" puts the whole image's Gaussian blur there (sigma in pixels), "mean" its mean grey.
    """
    if fill == "blur":
        filler = image.filter(ImageFilter.GaussianBlur(sigma))
    elif fill == "mean":
        filler = Image.new("L", image.size, round(float(np.asarray(image).mean())))
    else:
        raise ValueError(f"unknown fill: {fill!r}")
    return Image.composite(filler, image, Image.fromarray(where))


def cover_cells(
    image: Image.Image,
    cells: Iterable[Cell],
    fill: Fill = "blur",
    grid: int = GRID,
    sigma: float = BLUR_SIGMA,
) -> Image.Image:
    """Cover the given (row, column) cells of a grid x grid division; see `cover`."""
    where = np.zeros((grid, grid), dtype=np.bool_)
    for cell in cells:
        where[cell] = True
    height, width = image.height // grid, image.width // grid
    return cover(image, np.kron(where, np.ones((height, width), dtype=np.bool_)), fill, sigma)
