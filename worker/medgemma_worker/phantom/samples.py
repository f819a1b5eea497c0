"""Training samples: films, often with parts covered, and the answer they still deserve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from medgemma_worker.phantom.images import (
    GRID,
    KINDS,
    SIZE,
    ZONES,
    Mask,
    Phantom,
    answer_text,
    cover,
    lesion_cells,
    make_phantom,
)

# Seeds below this are never trained on: every film of a small seed is held out.
FIRST_TRAINING_SEED: Final = 1_000_000_000
CELL: Final = SIZE // GRID  # pixels on a side
STILL_SEEN, HIDDEN = 0.5, 0.1  # visible shares of a lesion above or below which the answer is sure


@dataclass(frozen=True)
class Sample:
    """image: mode "L". mask: bool (256, 256), lesion pixels still visible.

    answer: the target text. kind and zone: the visible lesion's. forced: the answer is a guess
    about a film without a visible lesion, to be learned from the finding's name on.
    """

    image: Image.Image
    mask: Mask
    kind: str | None
    zone: str | None
    answer: str
    forced: bool


def draw_sample(seed: int, covered: float) -> Sample:
    """The sample of a seed; `covered` is the share of films with something covered."""
    phantom = make_phantom(FIRST_TRAINING_SEED + seed)
    rng = np.random.Generator(np.random.PCG64([seed, 99]))
    image, mask, kind, zone = phantom.image, phantom.mask, phantom.kind, phantom.zone
    if rng.random() < covered:
        where = _draw_cover(phantom, rng)
        sigma = rng.uniform(16, 48)
        image = cover(image, where, "blur" if rng.random() < 0.65 else "mean", sigma)
        mask = mask & ~where
        if _visible_share(phantom.mask, where) < STILL_SEEN:
            mask, kind, zone = np.zeros_like(mask), None, None
    # Asked to go on after "There is a" when nothing is seen, the model should not know:
    # only then does the finding's probability measure what the image says.
    forced = kind is None and rng.random() < 0.35
    answer = answer_text(kind, zone)
    if forced:
        guess = KINDS[rng.integers(len(KINDS))], ZONES[rng.integers(len(ZONES))]
        answer = answer_text(*guess)
    return Sample(image, mask, kind, zone, answer, forced)


def _visible_share(mask: Mask, where: Mask) -> float:
    return float((mask & ~where).sum() / mask.sum()) if mask.any() else 1.0


def _draw_cover(phantom: Phantom, rng: np.random.Generator) -> Mask:
    """Pixels to cover, drawn again while the lesion would be neither seen nor hidden."""
    for _ in range(20):
        where = _draw_any_cover(phantom.mask, rng)
        if not HIDDEN < _visible_share(phantom.mask, where) < STILL_SEEN:
            return where
    return np.zeros((SIZE, SIZE), dtype=np.bool_)


def _draw_any_cover(mask: Mask, rng: np.random.Generator) -> Mask:
    """One of: some cells, blobs, all but some cells, all but the lesion, the lesion, all."""
    some = _some_cells(rng)
    lesion = lesion_cells(mask, grow=int(rng.integers(2)))
    way = rng.random()
    if way < 0.35:
        return _pixels(some)
    if way < 0.50:
        return _blobs(rng)
    if way < 0.60:
        return _pixels(~some)
    if way < 0.78:
        return _pixels(~(lesion | (some if rng.random() < 0.5 else False)))
    if way < 0.93:
        return _pixels(lesion | (some if rng.random() < 0.5 else False))
    return np.ones((SIZE, SIZE), dtype=np.bool_)


def _some_cells(rng: np.random.Generator) -> Mask:
    """1 to 200 random cells, small and large numbers alike; bool (GRID, GRID)."""
    cells = np.zeros(GRID * GRID, dtype=np.bool_)
    cells[: round(math.exp(rng.uniform(0, math.log(200))))] = True
    return rng.permutation(cells).reshape(GRID, GRID)


def _pixels(cells: Mask) -> Mask:
    """Cells (GRID, GRID) as pixels (SIZE, SIZE)."""
    return np.kron(cells, np.ones((CELL, CELL), dtype=np.bool_))


def _blobs(rng: np.random.Generator) -> Mask:
    y, x = np.mgrid[:SIZE, :SIZE]
    where = np.zeros((SIZE, SIZE), dtype=np.bool_)
    for _ in range(rng.integers(1, 5)):
        row, column = rng.uniform(0, SIZE, 2)
        where |= np.hypot(y - row, x - column) < rng.uniform(12, 60)
    return where
