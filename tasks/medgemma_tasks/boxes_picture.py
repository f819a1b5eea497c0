"""The boxes of an answer on their image, and beside it on the heatmap; what they hold below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image, ImageDraw

from medgemma_tasks.boxes import LocatedBox, LocatedBoxes, on_image
from medgemma_tasks.colours import is_flat
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.geometry import Box, FloatMap, cell_centre, check_scores
from medgemma_tasks.pictures import (
    DIM,
    INK,
    NOTICE,
    PAPER,
    Side,
    cross,
    number_texts,
    overlaid,
    overlay_bar,
    peak_cell,
    percent,
    scaled,
    shown_image,
    shown_size,
    side_letters,
    uncoloured_text,
)
from medgemma_tasks.sheet import Pen

MOST = 24
"""Boxes that are drawn and listed; of more only the number is said."""

Line: TypeAlias = tuple[tuple[int, int, int], tuple[int, int]]
"""A colour, and the lengths of dash and gap in widths of the line; no gap: unbroken."""

_COLOURS = ((112, 205, 255), (122, 232, 140), (255, 255, 255))
"""Hues that the heatmap has not, nor an X-ray."""
_DASHES = ((1, 0), (5, 3), (1, 2))
_EDGE = 1024
"""Pixels: the longest edge of either image."""
_LONGEST_LABEL = 120


def line_of(index: int) -> Line:
    """How the outline of a box is drawn: neighbours differ in colour and in dash, so that they can
    be told apart without seeing colours; nine in all, then again from the first."""
    return _COLOURS[index % 3], _DASHES[(index + index // 3) % 3]


def draw_boxes(
    image: Image.Image,
    scores: FloatMap,
    boxes: LocatedBoxes,
    *,
    square: Box,
    low: float,
    high: float,
    left_of_image: Side = "unknown",
    opacity: float = 0.5,
) -> Image.Image:
    """The image with the boxes, beside it the map over it with the same boxes. RGB.

    Each box is listed below with its label, and the shares of the map's relevancy and of its area
    that lie in it. A side of a box beyond the image's edge is not drawn. At most `MOST` boxes are.
    Other parameters and errors as in `pictures.draw_overlay`; images are drawn at 512 to 1024
    pixels.
    """
    if not 0.0 <= opacity <= 1.0:
        raise InvalidRequest(f"An opacity is a number from 0 to 1, not {opacity}.")
    scores = check_scores(scores)
    plan = _Plan.of(image.size, len(boxes), boxes.left_out, left_of_image)
    plain = shown_image(image, plan.panel)
    placed = scaled(square, image.size, plan.panel)
    flat = is_flat(low, high)
    mapped = plain.copy()
    if not flat:
        mapped = overlaid(plain, scores, square=placed, low=low, high=high, opacity=opacity)
        if not is_flat(float(scores.min()), float(scores.max())):
            x, y = cell_centre(peak_cell(scores), (scores.shape[0], scores.shape[1]), placed)
            if 0 <= x < plan.panel[0] and 0 <= y < plan.panel[1]:
                cross(mapped, x, y)
    pen = Pen(Image.new("RGB", plan.size, PAPER), plan.text)
    for picture, column in ((plain, plan.columns[0]), (mapped, plan.columns[1])):
        for index, box in list(enumerate(boxes))[:MOST]:
            _outline(picture, scaled(box.box, image.size, plan.panel), line_of(index), plan.stroke)
        left = column + (plan.column - plan.panel[0]) // 2
        pen.canvas.paste(picture, (left, plan.text))
        right = left + plan.panel[0]
        edges = (left - plan.side / 2, right + plan.side / 2)
        for letter, place in zip(side_letters(left_of_image), edges, strict=True):
            pen.write(place, plan.text * 2, letter, INK, "mm")
    _list(pen, plan, boxes, image.size)
    _legend(pen, plan, None if flat else (low, high), scores, left_of_image, opacity)
    return pen.canvas


@dataclass(frozen=True)
class _Plan:
    """Where everything stands, in pixels. panel: width and height of each of the two images."""

    panel: tuple[int, int]
    text: int
    line: int
    side: int
    column: int
    rows: int

    @staticmethod
    def of(size: tuple[int, int], count: int, left_out: int, left_of_image: Side) -> _Plan:
        width, height = shown_size(*size)
        shrink = min(1.0, _EDGE / max(width, height))
        panel = max(1, round(width * shrink)), max(1, round(height * shrink))
        text = max(13, max(panel) // 48)
        side = round(text * (2 if any(side_letters(left_of_image)) else 1))
        rows = max(4, min(count, MOST) + 1 + (count > MOST) + (left_out > 0))
        return _Plan(panel, text, round(text * 1.7), side, max(panel[0], text * 28), rows)

    @property
    def columns(self) -> tuple[int, int]:
        """Left edge of each of the two columns."""
        return self.side, self.column + 3 * self.side

    @property
    def stroke(self) -> int:
        return max(2, max(self.panel) // 300)

    @property
    def size(self) -> tuple[int, int]:
        return self.columns[1] + self.column + self.side, self.row(self.rows)

    def row(self, index: int) -> int:
        """Middle of a line of text below the images; the last is the notice's."""
        return 2 * self.text + self.panel[1] + self.line // 2 + index * self.line


def _outline(picture: Image.Image, box: Box, line: Line, stroke: int) -> None:
    """The four sides, inside of the box; dark under light, so that they show on any ground."""
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = map(round, box)
    right, bottom = max(right, left + stroke), max(bottom, top + stroke)
    far = (right - stroke, bottom - stroke)
    sides = [(left, y, right, y + stroke) for y in (top, far[1])]
    sides += [(x, top, x + stroke, bottom) for x in (left, far[0])]
    for x0, y0, x1, y1 in sides:
        draw.rectangle((x0 - 1, y0 - 1, x1, y1), fill=(0, 0, 0))
    colour, dashes = line
    for side in sides:
        for x0, y0, x1, y1 in _dashed(side, dashes, stroke):
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)


def _dashed(
    side: tuple[int, int, int, int], dashes: tuple[int, int], stroke: int
) -> list[tuple[int, int, int, int]]:
    """A side, cut along its length."""
    dash, gap = (length * stroke for length in dashes)
    x0, y0, x1, y1 = side
    if gap == 0:
        return [side]
    if x1 - x0 >= y1 - y0:
        return [(x, y0, min(x + dash, x1), y1) for x in range(x0, x1, dash + gap)]
    return [(x0, y, x1, min(y + dash, y1)) for y in range(y0, y1, dash + gap)]


def _list(pen: Pen, plan: _Plan, boxes: LocatedBoxes, size: tuple[int, int]) -> None:
    left, right = plan.columns[0], plan.columns[0] + plan.column
    pen.write(left, plan.row(0), "boxes in the answer", INK, "lm")
    pen.write(right, plan.row(0), "of relevancy / of area", DIM, "rm")
    for index, box in enumerate(boxes.found[:MOST]):
        y = plan.row(index + 1)
        sample = (left, y - plan.text // 2, left + 2 * plan.text, y + plan.text // 2)
        _outline(pen.canvas, sample, line_of(index), plan.stroke)
        amounts = f"{'none' if box.share is None else percent(box.share)} / {percent(box.area)}"
        pen.write(right, y, amounts, INK, "rm")
        label = left + 3 * plan.text
        pen.left(label, y, right - label - 9 * plan.text, _said(box, size), INK)
    y = plan.row(min(len(boxes), MOST) + 1)
    if len(boxes) > MOST:
        pen.write(left, y, f"{len(boxes) - MOST} more boxes, not drawn", DIM, "lm")
        y += plan.line
    if boxes.left_out:
        pen.write(left, y, f"{boxes.left_out} left out: not a whole, valid box", DIM, "lm")


def _said(box: LocatedBox, size: tuple[int, int]) -> str:
    """The label in one line, without what would reorder it or has no letter."""
    label = box.label[:_LONGEST_LABEL]
    label = " ".join("".join(c if c.isprintable() else " " for c in label).split())
    outside = "" if on_image(box.box, size) else "outside of the image: "
    return outside + (label or "no label")


def _legend(
    pen: Pen,
    plan: _Plan,
    scale: tuple[float, float] | None,
    scores: FloatMap,
    left_of_image: Side,
    opacity: float,
) -> None:
    """The colour bar under the map. scale: None for a flat map."""
    left, right = plan.columns[1], plan.columns[1] + plan.column
    pen.write(left, plan.row(0), "relevancy", INK, "lm")
    if left_of_image == "unknown":
        pen.write(right, plan.row(0), "side unknown", DIM, "rm")
    if scale is None:
        value = number_texts(float(scores.min()), float(scores.max()))[0]
        pen.write(left, plan.row(1), f"flat map: every value is {value}", INK, "lm")
    else:
        bar = Image.fromarray(overlay_bar(opacity)).resize(
            (plan.column, 2 * (plan.text // 2)), Image.Resampling.NEAREST
        )
        pen.canvas.paste(bar, (left, plan.row(1) - plan.text // 2))
        least, most = number_texts(*scale)
        below, above = scores.min() < scale[0], scores.max() > scale[1]
        pen.write(left, plan.row(2), ("<= " if below else "") + least, INK, "lm")
        pen.write(right, plan.row(2), (">= " if above else "") + most, INK, "rm")
        pen.write(right, plan.row(3), uncoloured_text(scores, scale[0]), DIM, "rm")
    pen.write(left, plan.row(3), NOTICE, DIM, "lm")
