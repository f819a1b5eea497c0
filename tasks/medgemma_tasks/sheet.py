"""A contact sheet: many maps side by side, such as those of layers, of heads, or of slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medgemma_tasks.colours import is_flat
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.geometry import Box, check_scores
from medgemma_tasks.pictures import (
    DIM,
    INK,
    NOTICE,
    PAPER,
    Side,
    number_texts,
    overlaid,
    overlay_bar,
    scaled,
    shown_image,
    side_letters,
    uncoloured_text,
)

_EDGES = ((4, 400), (12, 300), (40, 224))
"""Up to so many maps, about so long an edge of each in pixels."""
_SMALLEST_EDGE = 160
_ASPECT = 1.4
"""Width over height that a sheet comes as near to as it can."""


def draw_sheet(
    image: Image.Image | Sequence[Image.Image],
    maps: NDArray[np.float32],
    captions: Sequence[str],
    *,
    square: Box,
    own_scales: bool = False,
    left_of_image: Side = "unknown",
    title: str = "",
    opacity: float = 0.5,
) -> Image.Image:
    """Each map over the image, in reading order, its caption beneath it. RGB.

    image: the one that all maps are of; or one for each, of one size.
    maps: float32 (k, rows, columns), relevancy as computed; k at least 1, with as many captions.
    square: where the grid lies on the image (`geometry.grid_square`). own_scales: draw each map
    from its own smallest to its own largest value, which then stand beneath it; maps of very
    different size all show their pattern, and cannot be compared by colour. Otherwise one scale
    from the smallest to the largest value of all maps stands at the foot. A flat map, or scale,
    draws no colour and says so. opacity: 0..1, of the largest value.

    Raises `NonFiniteRelevancy`, `InvalidRequest`.
    """
    if not 0.0 <= opacity <= 1.0:
        raise InvalidRequest(f"An opacity is a number from 0 to 1, not {opacity}.")
    if len(maps) == 0 or len(maps) != len(captions):
        raise InvalidRequest(
            f"A sheet has one or more maps and a caption for each, not {len(maps)} maps and "
            f"{len(captions)} captions."
        )
    grids = [check_scores(scores) for scores in maps]
    everything = (min(float(g.min()) for g in grids), max(float(g.max()) for g in grids))
    images = [image] * len(grids) if isinstance(image, Image.Image) else list(image)
    size = images[0].size
    if len(images) != len(grids) or any(one.size != size for one in images):
        raise InvalidRequest("A sheet has one image for all maps, or one for each, of one size.")
    plan = _Plan.of(size, len(grids), own_scales, title)
    placed = scaled(square, size, plan.tile)
    canvas = Image.new("RGB", plan.size, PAPER)
    pen = Pen(canvas, plan.text)
    if title:
        pen.left(plan.margin, plan.margin + plan.line / 2, plan.inner, title, INK)
    letters = side_letters(left_of_image)
    drawings = zip(images, grids, captions, strict=True)
    for index, (one, scores, caption) in enumerate(drawings):
        x, y = plan.corner(index)
        base = shown_image(one, plan.tile)
        low, high = (float(scores.min()), float(scores.max())) if own_scales else everything
        drawn = overlaid(base, scores, square=placed, low=low, high=high, opacity=opacity)
        canvas.paste(drawn, (x, y))
        y += plan.tile[1] + plan.line * 2 // 3
        pen.caption(x, y, plan.tile[0], caption, letters)
        if own_scales:
            pen.middle(x, y + plan.line, plan.tile[0], _range_text(low, high), DIM)
    together = np.stack(grids)
    lows = together.min(axis=(1, 2), keepdims=True) if own_scales else everything[0]
    said = uncoloured_text(together, lows)
    scale = None if own_scales else everything
    _foot(pen, plan, scale, left_of_image == "unknown", opacity, said)
    return canvas


@dataclass(frozen=True)
class _Plan:
    """Where everything stands, in pixels. tile: width and height of one drawn map."""

    tile: tuple[int, int]
    columns: int
    rows: int
    text: int
    line: int
    margin: int
    top: int
    step: tuple[int, int]

    @staticmethod
    def of(size: tuple[int, int], count: int, own_scales: bool, title: str) -> _Plan:
        tile = _tile(size, count)
        text = max(13, max(tile) // 20)
        line = round(text * 1.6)
        step = (_room(tile[0], text) + 2 * text, tile[1] + (3 if own_scales else 2) * line)
        columns = min(range(1, count + 1), key=lambda n: _awkwardness(n, count, step))
        rows = -(-count // columns)
        return _Plan(tile, columns, rows, text, line, text, 2 * line if title else text, step)

    @property
    def across(self) -> int:
        """Width of all tiles with what stands beneath them."""
        return self.columns * self.step[0] - 2 * self.text

    @property
    def inner(self) -> int:
        """Width between the margins: of the tiles, or what the foot needs."""
        return max(self.across, self.text * 32)

    @property
    def size(self) -> tuple[int, int]:
        foot = 4 * self.line + self.margin
        return self.inner + 2 * self.margin, self.top + self.rows * self.step[1] + foot

    def corner(self, index: int) -> tuple[int, int]:
        """Left and top of a tile, all of them in the middle of the canvas."""
        row, column = divmod(index, self.columns)
        indent = (self.step[0] - 2 * self.text - self.tile[0]) // 2
        left = self.margin + (self.inner - self.across) // 2
        return left + column * self.step[0] + indent, self.top + row * self.step[1]


def _room(width: int, text: int) -> int:
    """Width for what stands beneath a tile: a narrow one leaves room for its caption."""
    return max(width, text * 12)


def _tile(size: tuple[int, int], count: int) -> tuple[int, int]:
    """Small images grow by a whole number, as pixels of uneven size would look like a pattern."""
    edge = next((edge for most, edge in _EDGES if count <= most), _SMALLEST_EDGE)
    longest = max(size)
    factor = float(max(1, round(edge / longest))) if longest <= edge else edge / longest
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _awkwardness(columns: int, count: int, step: tuple[int, int]) -> float:
    """How far from `_ASPECT` the sheet would be, and how much of it empty."""
    rows = -(-count // columns)
    aspect = columns * step[0] / (rows * step[1])
    return abs(float(np.log(aspect / _ASPECT))) + 2 * (rows * columns - count) / (rows * columns)


@dataclass(frozen=True)
class Pen:
    """Writes on the canvas; what is too long for its place ends in an ellipsis."""

    canvas: Image.Image
    text: int

    def _fit(self, text: str, width: float) -> str:
        font = ImageFont.load_default(self.text)
        if font.getlength(text) <= width:
            return text
        while text and font.getlength(text + "...") > width:
            text = text[:-1]
        return text + "..."

    def write(self, x: float, y: float, text: str, ink: tuple[int, int, int], anchor: str) -> None:
        font = ImageFont.load_default(self.text)
        ImageDraw.Draw(self.canvas).text((x, y), text, fill=ink, font=font, anchor=anchor)

    def left(self, x: float, y: float, width: float, text: str, ink: tuple[int, int, int]) -> None:
        self.write(x, y, self._fit(text, width), ink, "lm")

    def middle(self, x: int, y: int, width: int, text: str, ink: tuple[int, int, int]) -> None:
        room = _room(width, self.text)
        self.write(x + width / 2, y, self._fit(text, room), ink, "mm")

    def caption(self, x: int, y: int, width: int, text: str, letters: tuple[str, str]) -> None:
        """The caption in the middle, the sides under the edges that they name."""
        room = _room(width, self.text)
        left, right = x + (width - room) / 2, x + (width + room) / 2
        self.write(left, y, letters[0], DIM, "lm")
        self.write(right, y, letters[1], DIM, "rm")
        taken = 3 * self.text if any(letters) else 0
        self.write(x + width / 2, y, self._fit(text, room - taken), INK, "mm")


def _foot(
    pen: Pen,
    plan: _Plan,
    scale: tuple[float, float] | None,
    side_unknown: bool,
    opacity: float,
    uncoloured: str,
) -> None:
    """The colour bar and what it means. scale: the one of all maps, or None for one each."""
    left, right = plan.margin, plan.margin + plan.inner
    y = plan.top + plan.rows * plan.step[1] + plan.line // 2
    if scale is None:
        said, ends = "relevancy; each map on a scale of its own", ("smallest", "largest")
    elif is_flat(*scale):
        said, ends = f"flat maps: every value is {number_texts(*scale)[0]}", None
    else:
        said, ends = "relevancy; one scale for all maps", number_texts(*scale)
    pen.write(left, y, said, INK, "lm")
    if side_unknown:
        pen.write(right, y, "side unknown", DIM, "rm")
    if ends is not None:
        bar = Image.fromarray(overlay_bar(opacity)).resize(
            (plan.inner, 2 * (plan.text // 2)), Image.Resampling.NEAREST
        )
        pen.canvas.paste(bar, (left, y + plan.line - plan.text // 2))
        pen.write(left, y + 2 * plan.line, ends[0], INK, "lm")
        pen.write(right, y + 2 * plan.line, ends[1], INK, "rm")
        pen.write(right, y + 3 * plan.line, uncoloured, DIM, "rm")
    pen.write(left, y + 3 * plan.line, NOTICE, DIM, "lm")


def _range_text(low: float, high: float) -> str:
    least, most = number_texts(low, high)
    return f"flat: {least}" if is_flat(low, high) else f"{least} to {most}"
